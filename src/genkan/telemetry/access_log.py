"""One line a request, written by a thread: a full pipe must not hold up the event loop.

A line through `logging` and straight to a stream costs the event loop some 25 µs, about as much as all else that
genkan does for a small request, and it blocks when nobody reads the pipe. Here it costs 3 µs: orjson makes the line,
a thread wakes up, waits a twentieth of a second for more, and writes them all at once. When too many wait, because
nobody reads, lines are dropped, and the log says how many.
"""

import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import orjson

from genkan.config import TelemetryConfig
from genkan.telemetry.logging import FIELDS, is_text

GATHER_S = 0.05
MAX_WAITING = 65_536
_CLOSE_S = 2.0
_logger = logging.getLogger("genkan.access")


class AccessLog:
    """Lines about requests that have ended. ``start`` it in the process that writes, ``close`` it at the end."""

    def __init__(
        self, config: TelemetryConfig, level: int = logging.INFO, write: Callable[[bytes], object] | None = None
    ) -> None:
        """People at a terminal get lines as all others are, at once. ``write`` is called in a thread."""
        self._is_on = level >= logging.getLevelNamesMapping()[config.log_level.upper()]
        self._level = level
        self._is_text = is_text(config)
        self._writer = _Writer(write or _to_stderr)
        self._head = {"time": "", "level": logging.getLevelName(level).lower(), "logger": _logger.name}
        self._second = 0
        self._second_text = ""

    def start(self) -> None:
        """Begin to write."""
        if self._is_on and not self._is_text:
            self._writer.start()

    def request(self, method: str, path: str, fields: Mapping[str, object]) -> None:
        """Note a request."""
        if not self._is_on:
            return
        if self._is_text:
            _logger.log(self._level, "%s %s", method, path, extra={FIELDS: fields})
            return
        self._head["time"] = self._time(time.time())
        self._writer.add(_json({**self._head, "message": f"{method} {path}", **fields}))

    def close(self) -> None:
        """Write what still waits, for at most two seconds."""
        self._writer.close()

    def _time(self, now_s: float) -> str:
        second = int(now_s)
        if second != self._second:
            self._second = second
            self._second_text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return f"{self._second_text}.{int(1000 * (now_s - second)):03d}+00:00"


class _Writer:
    """Lines for a thread that writes them."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._lines: deque[bytes] = deque()  # both ends are safe between threads
        self._dropped = 0
        self._some_wait = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="access log", daemon=True)
        self._thread.start()

    def add(self, line: bytes) -> None:
        if len(self._lines) >= MAX_WAITING:
            self._dropped += 1
            return
        self._lines.append(line)
        if not self._some_wait.is_set():
            self._some_wait.set()

    def close(self) -> None:
        self._closing.set()
        self._some_wait.set()
        if self._thread is not None:
            self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._some_wait.wait()
            self._closing.wait(GATHER_S)
            self._some_wait.clear()
            self._write_waiting()
        self._write_waiting()

    def _write_waiting(self) -> None:
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        if dropped := self._dropped:
            self._dropped -= dropped
            lines.append(
                _json({"level": "warning", "logger": _logger.name, "message": f"{dropped} lines were dropped"})
            )
        if lines:
            try:
                self._write(b"".join(lines))
            except (OSError, ValueError):  # nobody is there to read it, and a log must not end the server
                self._dropped += len(lines)


def _json(line: Mapping[str, object]) -> bytes:
    try:
        return orjson.dumps(line, default=str, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:  # a text that is not valid Unicode, from a path
        clean = {key: _valid(value) for key, value in line.items()}
        return orjson.dumps(clean, default=str, option=orjson.OPT_APPEND_NEWLINE)


def _valid(value: object) -> object:
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _to_stderr(lines: bytes) -> None:
    sys.stderr.buffer.write(lines)
    sys.stderr.buffer.flush()
