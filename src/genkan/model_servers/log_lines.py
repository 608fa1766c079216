"""The output of a model server → lines for the log. Pure."""

import re
from collections.abc import Iterator
from typing import Final

MAX_LINE_BYTES: Final = 4096
_BREAK: Final = re.compile(rb"[\r\n]+")  # progress bars end with the first
_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class LogLines:
    """Cuts bytes into lines, whatever pieces they come in. A long line is cut, and its rest left out."""

    def __init__(self, secret: str | None) -> None:
        """``secret`` is blotted out wherever it appears."""
        self._secret = secret
        self._rest = b""
        self._is_cut = False

    def feed(self, data: bytes) -> Iterator[str]:
        """The lines that are whole by now, without blank ones."""
        *whole, self._rest = _BREAK.split(self._rest + data)
        for line in whole:
            if not self._is_cut:
                yield from self._line(line)
            self._is_cut = False
        if len(self._rest) > MAX_LINE_BYTES:
            if not self._is_cut:
                yield from self._line(self._rest)
            self._rest, self._is_cut = b"", True

    def end(self) -> Iterator[str]:
        """What is left at the end."""
        rest, self._rest = self._rest, b""
        if not self._is_cut:
            yield from self._line(rest)

    def _line(self, line: bytes) -> Iterator[str]:
        text = _COLOURS.sub("", line.decode(errors="replace")).rstrip()
        if self._secret:
            text = text.replace(self._secret, "***")
        if text:
            yield text[:MAX_LINE_BYTES]
