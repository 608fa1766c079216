"""Finds tool calls in an answer whose beginning is known to its reader already. Pure; no I/O."""

from genkan.serving.tools.deltas import CallBegan, Delta, TextDelta
from genkan.serving.tools.tool_parser import ToolParser

_SLICE_CHARS = 1024  # a parser copies what is left of a piece at each of its steps


class BegunParser:
    """As a ToolParser that has read ``text``, whose words are not said again.

    A call that begins in ``text`` is told of with what comes, all of it: calls are not known before they are whole.
    """

    def __init__(self, parser: ToolParser, text: str) -> None:
        """Cost: up to 1 µs a character."""
        self._parser = parser
        self._calls: list[Delta] = []
        for start in range(0, len(text), _SLICE_CHARS):
            deltas = parser.push(text[start : start + _SLICE_CHARS])
            self._calls += [delta for delta in deltas if not isinstance(delta, TextDelta)]
        self._num_known = parser.num_held  # characters that the reader has, and that the parser may yet speak

    @property
    def called(self) -> bool:
        """Whether a call has begun, be it in the text that was known."""
        return self._parser.called

    def push(self, text: str) -> list[Delta]:
        """What is clear after ``text``."""
        return self._new(self._parser.push(text))

    def flush(self) -> list[Delta]:
        """What is left when no more text comes."""
        return self._new(self._parser.flush())

    def _new(self, deltas: list[Delta]) -> list[Delta]:
        found, self._calls = [*self._calls, *deltas], []
        new: list[Delta] = []
        for delta in found:
            if isinstance(delta, TextDelta):
                known, text = self._num_known, delta.text
                self._num_known = max(0, known - len(text))
                if text := text[known:]:
                    new.append(TextDelta(text))
            else:
                if isinstance(delta, CallBegan):
                    self._num_known = 0  # it was the call's, or white space before it
                new.append(delta)
        return new
