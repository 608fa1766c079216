"""Log lines: readable on a terminal, one JSON object a line elsewhere. Never prompts, never keys."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

from genkan.config import TelemetryConfig

#: Fields given as ``extra={"fields": {...}}`` become keys of the JSON line, or ``key=value`` on a terminal.
FIELDS = "fields"


def configure(config: TelemetryConfig) -> None:
    """Set up the ``genkan`` loggers of this process; calling it again replaces the set-up."""
    handler = logging.StreamHandler()
    handler.setFormatter(_TextFormatter() if is_text(config) else _JsonFormatter())
    logger = logging.getLogger("genkan")
    logger.handlers = [handler]
    logger.setLevel(config.log_level.upper())
    logger.propagate = False


def is_text(config: TelemetryConfig) -> bool:
    """Whether lines are for people."""
    return config.log_format == "text" or (config.log_format == "auto" and sys.stderr.isatty())


#: What a client could forge a line with.
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)}


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, FIELDS, {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class _TextFormatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s", datefmt="%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name; a traceback comes after
        fields = getattr(record, FIELDS, {})
        line = super().formatMessage(record) + "".join(f" {key}={value}" for key, value in fields.items())
        return line.translate(_ESCAPES)
