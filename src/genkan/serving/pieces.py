"""What generation hands to the shapes: pieces of answers, and answers put together of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from genkan.engine.logprobs import TokenLogprobs
from genkan.serving.tools.deltas import CallArguments, CallBegan, Delta, TextDelta


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request; ``cached_tokens`` of its prompts were found in the prefix cache.

    ``continued_tokens`` of its prompt are the answer's beginning, as the request gave it.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    continued_tokens: int = 0

    def as_object(self) -> dict[str, object]:
        details = {"cached_tokens": self.cached_tokens}
        if self.continued_tokens:
            details["continued_tokens"] = self.continued_tokens
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": details,
            "cached_tokens": self.cached_tokens,
        }


class Scored(NamedTuple):
    """A token with its log probabilities, None for the first of a prompt; its text begins at ``offset`` characters."""

    id: int
    logprobs: TokenLogprobs | None
    offset: int


class Piece(NamedTuple):
    """What has become clear of one ``answer``, by its place: something of its content, or why it ended, or both.

    ``scored`` are the tokens that the piece stands for, where log probabilities were asked for. The last piece of an
    answer has a reason.
    """

    answer: int
    deltas: Sequence[Delta]
    scored: Sequence[Scored] = ()
    reason: str | None = None


@dataclass(slots=True)
class Call:
    """A tool call of an answer."""

    id: str
    name: str
    arguments: str = ""


@dataclass(slots=True)
class WholeAnswer:
    """One answer, once all of its pieces were taken."""

    texts: list[str] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    scored: list[Scored] = field(default_factory=list)
    reason: str = ""

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def take(self, piece: Piece) -> None:
        for delta in piece.deltas:
            if isinstance(delta, TextDelta):
                self.texts.append(delta.text)
            elif isinstance(delta, CallBegan):
                self.calls.append(Call(delta.id, delta.name))
            else:
                assert isinstance(delta, CallArguments)
                self.calls[delta.place].arguments += delta.text
        self.scored.extend(piece.scored)
        self.reason = piece.reason or self.reason
