"""Reads one call, a JSON object such as ``{"name": …, "arguments": {…}}``, out of text in pieces. Pure.

It finds where values begin and end and does not judge what is inside: arguments pass as the model wrote them.
"""

import json
from collections.abc import Set as AbstractSet
from typing import Final, Literal, NamedTuple

from genkan.serving.tools.json_end import JsonEnd

MAX_UNNAMED_CHARS = 4096  # of an object whose name has not come: no call takes longer, and all of it is held

_SPACE: Final = " \t\r\n"
_ARGUMENTS: Final = ("arguments", "parameters")
_BEFORE_NAME: Final = frozenset({"name", "type", "id", *_ARGUMENTS})
_State = Literal["open", "key", "colon", "value", "next", "in_key", "in_value", "done", "failed"]
_AFTER: Final[dict[tuple[str, str], _State]] = {
    ("open", "{"): "key",
    ("key", '"'): "in_key",
    ("key", "}"): "done",
    ("colon", ":"): "value",
    ("next", ","): "key",
    ("next", "}"): "done",
}


class Read(NamedTuple):
    """What a piece told: how much of it was the call's, the tool's name if it is known now, more of the arguments."""

    num_chars: int
    name: str | None
    arguments: str


class CallReader:
    """One call of one of the tools ``names``.

    ``done``: the object has ended. ``failed``: what came cannot be such a call, or can be no longer.
    """

    def __init__(self, names: AbstractSet[str]) -> None:
        self.name: str | None = None
        self.has_arguments = False
        self._names = names
        self._state: _State = "open"
        self._end = JsonEnd("")
        self._key = ""
        self._read: list[str] = []  # of the key, or of the name
        self._arguments: list[str] = []  # not given out yet: those that came before the name wait for it
        self._num_unnamed = 0

    @property
    def done(self) -> bool:
        return self._state == "done"

    @property
    def failed(self) -> bool:
        return self._state == "failed"

    def push(self, text: str) -> Read:
        """Read on: to the end of ``text``, or of the call, or to what cannot be in one."""
        at, named = 0, self.name is not None
        while at < len(text) and self._state not in ("done", "failed"):
            begin = at
            unnamed = self.name is None
            at = self._step(
                text, at, min(len(text), at + MAX_UNNAMED_CHARS - self._num_unnamed) if unnamed else len(text)
            )
            if unnamed:
                self._num_unnamed += at - begin
                if self._num_unnamed >= MAX_UNNAMED_CHARS and self.name is None:
                    self._state = "failed"
        arguments = ""
        if self.name is not None:
            arguments = "".join(self._arguments)
            self._arguments.clear()
        return Read(at, None if named else self.name, arguments)

    def _step(self, text: str, at: int, end: int) -> int:
        """Read one part of the object, or white space; where what follows begins."""
        char = text[at]
        if self._state in ("in_key", "in_value"):
            return self._read_on(text, at, end)
        if char in _SPACE:
            return at + 1
        if self._state == "value":
            self._state = "in_value"
            self._end = JsonEnd(char)
            return at
        self._state = _AFTER.get((self._state, char), "failed")
        if self._state == "in_key":
            self._end = JsonEnd(char)
            return at
        if self._state == "done" and self.name is None:
            self._state = "failed"
        return at if self._state == "failed" else at + 1

    def _read_on(self, text: str, at: int, end: int) -> int:
        """More of a key or a value."""
        found = self._end.find(text, at, end)
        stop = end if found is None else found
        if self._state == "in_value" and self._key in _ARGUMENTS:
            self._arguments.append(text[at:stop])
        elif self._state == "in_key" or self._key == "name":
            self._read.append(text[at:stop])
        if found is not None:
            self._finish_key() if self._state == "in_key" else self._finish_value()
        return stop

    def _finish_key(self) -> None:
        self._key, known = self._text_read(), self.name is not None
        if self._key in _ARGUMENTS and self.has_arguments:
            self._key = ""  # the second time: passed over, as what is not known is
        self._state = "colon" if known or self._key in _BEFORE_NAME else "failed"

    def _finish_value(self) -> None:
        self._state = "next"
        if self._key in _ARGUMENTS:
            self.has_arguments = True
        elif self._key == "name" and self.name is None:
            name = self._text_read()
            if name in self._names:
                self.name = name
            else:
                self._state = "failed"
        self._read.clear()

    def _text_read(self) -> str:
        """The string that was read, '' for anything else."""
        raw = "".join(self._read)
        self._read.clear()
        try:
            value = json.loads(raw)
        except ValueError:
            return ""
        return value if type(value) is str else ""
