"""The prompt as the beginning of its own completion: ``echo``."""

from collections.abc import Sequence

from genkan.engine.logprobs import TokenLogprobs
from genkan.serving.pieces import Scored
from genkan.serving.tools.deltas import TextDelta
from genkan.upstream.tokenizer import TextTokenizer


class Echo:
    """One prompt to be repeated, to all answers that it gets.

    ``logprobs`` are None until the engine has told them, if they were asked for: an entry for each token. ``is_all``:
    nothing but the prompt was asked for.
    """

    def __init__(
        self, ids: Sequence[int], text: str | None, tokenizer: TextTokenizer, *, scores: bool, is_all: bool
    ) -> None:
        """``text`` is what ``ids`` were made of; None for a prompt that came as ids, and is decoded.

        Cost: 0.5 µs a token where it is decoded, and where ``scores`` asks for its log probabilities.
        """
        self.text = tokenizer.decode(ids) if text is None else text
        self.is_all = is_all
        self.logprobs: Sequence[TokenLogprobs | None] | None = None
        self._ids = ids
        shown = frozenset() if text is None else tokenizer.special_ids  # a text spells them
        self._offsets = _offsets(ids, self.text, tokenizer, shown) if scores else []

    def deltas(self) -> list[TextDelta]:
        return [TextDelta(self.text)] if self.text else []

    def scored(self) -> list[Scored]:
        """The prompt's tokens, if their log probabilities were asked for."""
        if self.logprobs is None:
            return []
        return [Scored(*each) for each in zip(self._ids, self.logprobs, self._offsets, strict=True)]


def _offsets(ids: Sequence[int], text: str, tokenizer: TextTokenizer, shown: frozenset[int]) -> list[int]:
    """Where in ``text`` each token begins; special tokens take room if they are ``shown``."""
    stream, offsets, end = tokenizer.text_stream(shown), [], 0
    for place, token in enumerate(ids):
        offsets.append(end)
        piece = stream.push(token)
        if place == 0 and token in shown and not text.startswith(piece):
            continue  # the encoder's own, put before the text
        end += len(piece)
    return offsets
