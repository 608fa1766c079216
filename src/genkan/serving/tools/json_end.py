"""Finds where one JSON value ends, in text that comes in pieces. Pure.

It follows strings, escapes and brackets, and takes what is between them as it is.
"""

import re
from typing import Final

_IN_STRING: Final = re.compile(r'["\\]')
_OUTSIDE: Final = re.compile(r'["{}\[\]]')
_AFTER_SCALAR: Final = re.compile(r"[,}\]\s]")


class JsonEnd:
    """Where the value that begins with ``first`` ends."""

    __slots__ = ("_depth", "_escaped", "_in_string", "_scalar")

    def __init__(self, first: str) -> None:
        self._scalar = first not in '"{['
        self._depth = 0
        self._in_string = self._escaped = False

    def find(self, text: str, begin: int, end: int) -> int | None:
        """The place after the value's last character in ``text[begin:end]``; None: it goes on behind ``end``.

        Each call begins where the last one ended, the first at the value's first character. A number or a word ends
        before what cannot be in it. Cost: one regular expression for each quote, escape and bracket.
        """
        if self._scalar:
            found = _AFTER_SCALAR.search(text, begin, end)
            return found.start() if found else None
        while begin < end:
            if self._escaped:
                self._escaped = False
                begin += 1
                continue
            found = (_IN_STRING if self._in_string else _OUTSIDE).search(text, begin, end)
            if found is None:
                return None
            begin = found.end()
            if self._ends_with(found.group()):
                return begin
        return None

    def _ends_with(self, char: str) -> bool:
        if char == "\\":
            self._escaped = True
        elif char == '"':
            self._in_string = not self._in_string
            return not self._in_string and not self._depth
        else:
            self._depth += 1 if char in "{[" else -1
            return self._depth <= 0
        return False
