"""Log lines for a thread that writes them: a full pipe must not hold up the event loop.

The thread wakes up, waits a twentieth of a second for more, and writes all there is at once. When too many lines wait,
because nobody reads, more are dropped, and the log says how many.
"""

import atexit
import os
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from typing import Final

import orjson

GATHER_S: Final = 0.05
MAX_WAITING_LINES = 65_536
MAX_WAITING_BYTES = 16 << 20
_CLOSE_S: Final = 2.0
_STDERR: Final = 2
_UNWRITABLE: Final = "(cannot be written)"


class LineWriter:
    """Writes lines in the order in which they were added, from any thread. Adding one never waits and never raises."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        """``write`` is called in a thread, which ``start`` starts, or else the first line."""
        self._write = write
        self._lines: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._dropped = 0
        #: Is told, in the thread that writes, how many lines were dropped.
        self.on_dropped: Callable[[int], object] | None = None
        self._some_wait = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.RLock()  # a signal's handler may log while its thread is in here

    def start(self) -> None:
        """Start the thread now, so that the first line does not pay for it."""
        with self._lock:
            if self._thread is None:
                self._closing.clear()
                thread = threading.Thread(target=self._run, name="log", daemon=True)
                with suppress(RuntimeError):  # no thread to be had now; the next line tries again
                    thread.start()
                    self._thread = thread

    def add(self, line: bytes) -> None:
        """Have ``line``, which ends in a line break, written soon."""
        with self._lock:
            if len(self._lines) >= MAX_WAITING_LINES or self._waiting_bytes + len(line) > MAX_WAITING_BYTES:
                self._dropped += 1
                return
            self._lines.append(line)
            self._waiting_bytes += len(line)
            if self._thread is None:
                self.start()
        if not self._some_wait.is_set():
            self._some_wait.set()

    def close(self) -> None:
        """Write what still waits, for at most two seconds. A line that is added later is written as well."""
        with self._lock:
            thread = self._thread
            self._closing.set()
        self._some_wait.set()
        if thread is not None:
            thread.join(_CLOSE_S)

    def _run(self) -> None:
        while not self._is_done():
            self._some_wait.wait()
            self._closing.wait(GATHER_S)
            self._some_wait.clear()
            self._write_waiting()

    def _is_done(self) -> bool:
        with self._lock:
            if self._lines or not self._closing.is_set():
                return False
            self._thread = None
            return True

    def _write_waiting(self) -> None:
        lines, dropped = self._take()
        if dropped:
            if self.on_dropped is not None:
                self.on_dropped(dropped)
            what = f"{dropped} lines were dropped"
            lines.append(json_line({"level": "warning", "logger": "genkan.telemetry", "message": what}))
        if not lines:
            return
        try:
            self._write(b"".join(lines))
        except Exception:  # noqa: BLE001 - nobody is there to read it, and a log must not end the server
            with self._lock:
                self._dropped += len(lines)

    def _take(self) -> tuple[list[bytes], int]:
        with self._lock:
            lines, dropped = list(self._lines), self._dropped
            self._lines.clear()
            self._waiting_bytes = self._dropped = 0
            return lines, dropped


@cache
def line_writer() -> LineWriter:
    """The one of this process, to standard error. What waits at the process's end is still written."""
    writer = LineWriter(_to_stderr)
    atexit.register(writer.close)
    return writer


def _to_stderr(lines: bytes) -> None:
    # Not through sys.stderr: whoever waits there holds its lock, which is fatal when the interpreter ends meanwhile.
    left = memoryview(lines)
    while left:
        left = left[os.write(_STDERR, left) :]


def json_line(fields: Mapping[str, object]) -> bytes:
    """``fields`` as one line of JSON. Never raises: what JSON or UTF-8 has no form for is replaced."""
    try:
        return orjson.dumps(fields, default=str, option=orjson.OPT_APPEND_NEWLINE)
    except Exception:  # noqa: BLE001 - orjson's own, and whatever a value's __str__ raises
        writable = {_valid(str(key)): _writable(value) for key, value in fields.items()}
        return orjson.dumps(writable, option=orjson.OPT_APPEND_NEWLINE)


def _writable(value: object) -> object:
    if isinstance(value, str):
        return _valid(value)
    try:
        return orjson.Fragment(orjson.dumps(value, default=str))
    except Exception:  # noqa: BLE001 - as above; such as a text that is no valid Unicode, or 300 lists in each other
        return _UNWRITABLE


def _valid(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
