"""Whether a stream that was to go on from a text goes on from it at all. No I/O.

Theory. A server that does not know what it was told leaves the text's message closed, and answers once more: most
often with the same words, or with thoughts first, which no answer has that was under way without any. Nobody can tell
a text said anew from one that an answer says twice, so neither is passed on: who begins with all of the text is taken
to say nothing that can be trusted. Until that is known its chunks are held back, which is seldom longer than a word.
What begins anew in other words cannot be told from an answer that goes on.
"""

from typing import Any

from genkan.wire.pieces import REASONING_NAMES


class BegunAnew(Exception):
    """It does not go on from the text."""


class Doubt:
    """About one stream that was to go on from ``text``, while nothing of it was passed on."""

    __slots__ = ("_at", "_text")

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._at = 0  # so much of it was said again

    def is_over(self, chunk: dict[str, Any]) -> bool:
        """Whether it is known, with the next chunk, that it goes on from there. Raises BegunAnew."""
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta") or {}
            if any(delta.get(name) for name in REASONING_NAMES):
                raise BegunAnew
            if choice.get("finish_reason") or (type(said := delta.get("content")) is str and self._differs(said)):
                return True
            if any(value for name, value in delta.items() if name not in ("role", "content")):
                return True
        return False

    def _differs(self, said: str) -> bool:
        if not said:
            return False
        again = said.encode()
        due = self._text[self._at : self._at + len(again)]
        self._at += len(due)
        if not due or not again.startswith(due):
            return True
        if self._at == len(self._text):
            raise BegunAnew
        return False
