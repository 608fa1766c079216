"""One answer as its tokens come: to text, up to a stop string, with tool calls read out of it.

As at OpenAI, stop strings apply to whatever the model writes, inside of JSON or of a tool call too; an answer that is
to have a form is cut there like any other. Before ``min_tokens`` none is looked for.

An answer that calls tools ends with ``tool_calls``. One that was cut off by its length inside the last call's arguments
ends with ``length`` all the same: whoever runs calls has to know that this one is not whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import orjson

from genkan.engine.sequence import Token
from genkan.serving.beginning import Beginning
from genkan.serving.echo import Echo
from genkan.serving.pieces import Piece, Scored
from genkan.serving.stop_strings import StopStrings
from genkan.serving.tools.deltas import CallArguments, CallBegan, Delta, TextDelta
from genkan.upstream.tokenizer import TextStream


class ToolParser(Protocol):
    """Finds tool calls in one answer; `serving/tools` has the real ones."""

    def push(self, text: str) -> Sequence[Delta]: ...

    def flush(self) -> Sequence[Delta]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """When an answer ends, besides by what the engine says: see `Sampling`. ``stop_ids`` are the engine's."""

    stop: tuple[str, ...] = ()
    stop_ids: frozenset[int] = frozenset()
    shows_stop: bool = False
    min_tokens: int = 0
    parallel_calls: bool = True


class Answering:
    """One answer."""

    __slots__ = (
        "_arguments",
        "_begun_tokens",
        "_calls",
        "_ending",
        "_index",
        "_made",
        "_parser",
        "_prefix",
        "_scored",
        "_shown",
        "_stops",
        "_text",
        "ended",
        "num_tokens",
    )

    def __init__(
        self,
        index: int,
        text: TextStream,
        ending: Ending,
        *,
        scores: bool = False,
        echo: Echo | None = None,
        parser: ToolParser | None = None,
        beginning: Beginning | None = None,
    ) -> None:
        """``scores``: tokens go with the pieces; ``echo``: it begins with its prompt.

        ``beginning``: what it begins with is not part of what it shows; ``parser`` has read it.
        """
        self._index = index
        self._text = text
        self._ending = ending
        self._stops = StopStrings(ending.stop, shown=ending.shows_stop)
        self._scored: list[Scored] | None = [] if scores else None  # tokens whose text is not shown yet
        self._prefix = echo
        self._parser = parser
        self._calls = 0
        self._arguments = ""  # of the last call
        self._made = self._shown = 0 if echo is None else len(echo.text)  # characters
        self._begun_tokens = 0
        self.num_tokens = 0
        self.ended = False
        if beginning is not None:
            self._go_on_from(beginning)

    def _go_on_from(self, beginning: Beginning) -> None:
        self._begun_tokens = beginning.num_tokens
        self._made = self._shown = len(beginning.text)
        if beginning.num_tokens > self._ending.min_tokens:
            self._stops.go_on_from(beginning.text)

    def take(self, token: Token) -> Piece | None:
        """What the answer's next token makes clear; None for nothing, and for all that comes after its end."""
        if self.ended:
            return None
        echo = self._prefix
        if echo is not None:
            self._prefix = None
            if echo.is_all:
                self.ended = True
                return Piece(self._index, echo.deltas(), echo.scored(), "length")
        self.num_tokens += 1
        shown, reason = self._shown_by(token)
        deltas, reason = self._deltas(shown, reason)
        self.ended = reason is not None
        if echo is not None and (echo.text or echo.logprobs is not None):
            return Piece(self._index, [*echo.deltas(), *deltas], [*echo.scored(), *self._passed(reason)], reason)
        if deltas or self.ended:
            return Piece(self._index, deltas, self._passed(reason), reason)
        return None

    def cut(self) -> Piece:
        """Its end where no token may come: it began with as many as it may have."""
        self.ended = True
        deltas, reason = self._deltas("", "length")
        return Piece(self._index, deltas, (), reason)

    def _shown_by(self, token: Token) -> tuple[str, str | None]:
        """The text that is safe to show after ``token``, and why it is the last."""
        ending, stops, reason = self._ending, self._stops, token.finish_reason
        text = ""
        if ending.shows_stop or reason != "stop" or token.id not in ending.stop_ids:
            text = self._text.push(token.id)
            if self._scored is not None:
                self._scored.append(Scored(token.id, token.logprobs, self._made))
        if reason is not None:
            text += self._text.flush()
        self._made += len(text)
        if self._begun_tokens + self.num_tokens > ending.min_tokens:
            text = stops.push(text)
        if stops.found:
            reason = "stop"
        elif reason is not None:
            text += stops.flush()
        self._shown += len(text)
        return text, reason

    def _deltas(self, shown: str, reason: str | None) -> tuple[Sequence[Delta], str | None]:
        parser = self._parser
        if parser is None:
            return ((TextDelta(shown),) if shown else ()), reason
        deltas = list(parser.push(shown)) if shown else []
        if reason is not None:
            deltas += parser.flush()
        for place, delta in enumerate(deltas):
            if isinstance(delta, CallBegan):
                if self._calls and not self._ending.parallel_calls:
                    return deltas[:place], "tool_calls"
                self._calls += 1
                self._arguments = ""
            elif isinstance(delta, CallArguments):
                self._arguments += delta.text
        if self._calls and reason is not None and (reason != "length" or _is_json(self._arguments)):
            reason = "tool_calls"
        return deltas, reason

    def _passed(self, reason: str | None) -> Sequence[Scored]:
        """The tokens whose text is shown by now, each once. Those of which a stop string leaves nothing are dropped."""
        if not self._scored:
            return ()
        if reason is not None and not self._stops.found:
            passed, self._scored = self._scored, []
            return passed
        passed = [scored for scored in self._scored if scored.offset < self._shown]
        self._scored = self._scored[len(passed) :]  # offsets never fall
        return passed


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True
