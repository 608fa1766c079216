"""Log lines: readable on a terminal, one JSON object a line elsewhere. Never prompts, never keys.

Text is written at once. JSON is for whoever collects lines, who may be slow or gone, so a thread writes it.
"""

import logging
import sys
from datetime import UTC, datetime
from typing import Any

from genkan.config import TelemetryConfig
from genkan.telemetry.line_writer import LineWriter, json_line, line_writer
from genkan.telemetry.tracebacks import shown_traceback

#: Fields given as ``extra={"fields": {...}}`` become keys of the JSON line, or ``key=value`` on a terminal.
FIELDS = "fields"


def configure(config: TelemetryConfig) -> None:
    """Set up the ``genkan`` loggers of this process; calling it again replaces the set-up."""
    logger = logging.getLogger("genkan")
    logger.handlers = [_text_handler() if is_text(config) else _JsonHandler(line_writer())]
    logger.setLevel(config.log_level.upper())
    logger.propagate = False


def is_text(config: TelemetryConfig) -> bool:
    """Whether lines are for people."""
    return config.log_format == "text" or (config.log_format == "auto" and sys.stderr.isatty())


#: What a client could forge a line with.
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)}


class _JsonHandler(logging.Handler):
    def __init__(self, writer: LineWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._writer.add(json_line(self._fields(record)))
        except Exception:  # noqa: BLE001 - a message that does not fit its arguments, as logging's own handlers treat it
            self.handleError(record)

    def _fields(self, record: logging.LogRecord) -> dict[str, object]:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, FIELDS, {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["traceback"] = shown_traceback(record.exc_info[1])
        return line


def _text_handler() -> logging.Handler:
    handler = logging.StreamHandler()
    handler.setFormatter(_TextFormatter())
    return handler


class _TextFormatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s", datefmt="%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name; a traceback comes after
        fields = getattr(record, FIELDS, {})
        line = super().formatMessage(record) + "".join(f" {key}={value}" for key, value in fields.items())
        return line.translate(_ESCAPES)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        """What an exception says may be a client's as well."""
        lines = [] if ei[1] is None else shown_traceback(ei[1]).split("\n")
        return "\n".join(line.translate(_ESCAPES) for line in lines)
