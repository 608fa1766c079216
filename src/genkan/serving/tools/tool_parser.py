"""Finds tool calls in an answer as it is written. Pure; no I/O.

Text before, between and after calls passes at once, but for what may turn out to be a call's opening marker, and up to
64 characters of white space before it: white space right before a call, or after the last one, belongs to no text.
A call is told of as soon as its tool's name is there, and its arguments as they come.

What begins like a call and is none, of a tool that is not offered or no JSON, is plain text. A call that breaks off
after its name stays one, with the arguments that came: clients know those from answers that were cut at
``max_tokens``, and see the ``finish_reason``. One that breaks off before its name is text if it would be the first
call, and else left out: nobody would say that beside calls.
"""

import secrets
import string
from collections.abc import Callable, Iterable
from typing import Final, Literal

from genkan.serving.tools.call_reader import CallReader
from genkan.serving.tools.deltas import CallArguments, CallBegan, Delta, TextDelta
from genkan.serving.tools.formats import Dialect

MAX_SPACE = 64  # characters of white space that are held back, and that may stand between the parts of a call

_ID_CHARS: Final = string.ascii_letters + string.digits
_State = Literal["start", "text", "opened", "call", "closing"]


def new_call_id() -> str:
    """An id as OpenAI's are: ``call_`` and 24 letters and digits."""
    return "call_" + "".join(secrets.choice(_ID_CHARS) for _ in range(24))


class ToolParser:
    """Finds calls of the tools ``names`` in one answer; without names, all is text. ``called``: one has begun."""

    def __init__(self, dialect: Dialect, names: Iterable[str], *, new_id: Callable[[], str] = new_call_id) -> None:
        self.called = False
        self._format = dialect.format
        self._spelling = dialect.format.opening if dialect.opening_id is None else ""  # a special token is no text
        self._names = frozenset(names)
        self._new_id = new_id
        self._state: _State = "start" if dialect.format.bare else "text"
        self._held = ""  # what may become a marker, and white space before it
        self._raw = ""  # of a call that has no name yet, from the white space before it on
        self._in_list = False
        self._reader = CallReader(self._names)
        self._place = 0
        self._spoken = False  # any text since the last call
        self._found: list[Delta] = []

    @property
    def num_held(self) -> int:
        """Characters that it has read and would have to speak if no call came of them."""
        unnamed = self._state in ("opened", "call") and self._reader.name is None
        return len(self._raw) if unnamed else len(self._held)

    def push(self, text: str) -> list[Delta]:
        """What is clear after ``text``."""
        if not self._names:
            return [TextDelta(text)] if text else []
        while text:
            text = self._step(text)
        return self._taken()

    def flush(self) -> list[Delta]:
        """What is left when no more text comes."""
        if self._state in ("opened", "call") and self._reader.name is None:
            if not self.called:
                self._no_call()
        elif self._state in ("start", "text") and (self._spoken or not self.called or not self._held.isspace()):
            self._speak(self._held)
        self._held = ""
        return self._taken()

    def _step(self, text: str) -> str:
        """Take a beginning of ``text``; what is left of it."""
        match self._state:
            case "start":
                return self._at_start(text)
            case "text":
                return self._in_text(text)
            case "opened":
                return self._opened(text)
            case "call":
                return self._in_call(text)
            case "closing":
                return self._closing(text)

    def _at_start(self, text: str) -> str:
        """An answer that may be a call without a marker."""
        text = self._held + text
        rest = text.lstrip()
        num_space = len(text) - len(rest)
        if not rest and num_space <= MAX_SPACE:
            self._held = text
            return ""
        self._held = ""
        if not rest.startswith("{") or num_space > MAX_SPACE:
            self._state = "text"
            return text
        self._raw = text[:num_space]
        self._begin_call()
        return rest

    def _in_text(self, text: str) -> str:
        text, marker = self._held + text, self._format.opening
        begin = text.find(marker)
        if begin < 0:
            begin = len(text) - _beginning_of(marker, text)
            clear = _before_space(text, begin)
            self._speak(text[:clear])
            self._held = text[clear:]
            return ""
        clear = _before_space(text, begin)
        self._speak(text[:clear])
        self._held, self._in_list = "", False
        self._raw = text[clear:begin] + self._spelling
        self._reader = CallReader(self._names)
        self._state = "opened"
        return text[begin + len(marker) :]

    def _opened(self, text: str) -> str:
        """Between a marker, or a comma in a list, and the call's object."""
        for at, char in enumerate(text):
            if char == "{":
                self._begin_call()
                return text[at:]
            opens_list = char == "[" and self._format.listed and not self._in_list
            if not opens_list and not (char.isspace() and len(self._raw) < 4 * MAX_SPACE):
                return self._no_call() + text[at:]
            self._in_list = self._in_list or opens_list
            self._raw += char
        return ""

    def _in_call(self, text: str) -> str:
        read = self._reader.push(text)
        rest = text[read.num_chars :]
        if read.name is not None:
            self.called = True
            self._found.append(CallBegan(self._place, self._new_id(), read.name))
        if read.arguments:
            self._found.append(CallArguments(self._place, read.arguments))
        if self._reader.name is None:
            self._raw += text[: read.num_chars]
            return self._no_call() + rest if self._reader.failed else rest
        if self._reader.done and not self._reader.has_arguments:
            self._found.append(CallArguments(self._place, "{}"))
        if self._reader.done or self._reader.failed:
            self._place += 1
            self._spoken = False
            self._state = "closing" if self._reader.done and (self._format.closing or self._in_list) else "text"
        return rest

    def _closing(self, text: str) -> str:
        """After a call's object: its closing marker, or the list's next comma or end. Anything else is text again."""
        text = self._held + text
        rest = text.lstrip()
        num_space = len(text) - len(rest)
        self._held = ""
        if num_space <= MAX_SPACE:
            if not rest or (self._format.closing.startswith(rest) and rest != self._format.closing):
                self._held = text
                return ""
            if self._in_list and rest[0] == ",":
                self._raw, self._state = text[: num_space + 1], "opened"
                self._reader = CallReader(self._names)
                return rest[1:]
            closing = "]" if self._in_list else self._format.closing
            if rest.startswith(closing):
                self._state = "text"
                return rest[len(closing) :]
        self._state = "text"
        return text

    def _begin_call(self) -> None:
        self._reader = CallReader(self._names)
        self._state = "call"

    def _no_call(self) -> str:
        """What looked like a call is text. Nothing of it is looked at again: ''."""
        self._speak(self._raw)
        self._raw, self._state = "", "text"
        return ""

    def _speak(self, text: str) -> None:
        if not text:
            return
        self._spoken = True
        if self._found and isinstance(last := self._found[-1], TextDelta):
            self._found[-1] = TextDelta(last.text + text)
        else:
            self._found.append(TextDelta(text))

    def _taken(self) -> list[Delta]:
        found, self._found = self._found, []
        return found


def _before_space(text: str, end: int) -> int:
    """Where the white space that ends at ``end`` begins, so much of it as is held back."""
    return max(len(text[:end].rstrip()), end - MAX_SPACE)


def _beginning_of(marker: str, text: str) -> int:
    """How long the longest end of ``text`` is that begins ``marker`` and is not all of it."""
    for size in range(min(len(text), len(marker) - 1), 0, -1):
        if text.endswith(marker[:size]):
            return size
    return 0
