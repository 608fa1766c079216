"""The bytes behind token ids: all that grammars need to know of a tokenizer."""

from collections.abc import Sequence
from dataclasses import dataclass

from llguidance import LLTokenizer

_SPELLED = b"<|special_%d|>"


@dataclass(frozen=True, slots=True)
class TokenTable:
    """What each token id adds to a text, and which ids end an answer.

    ``tokens[id]`` are the bytes of an id, b"" for one that adds nothing. The ids in ``special`` never stand for text: a
    grammar allows none of them inside a value, whatever their bytes are. ``stop_ids`` and ``eos_id``, which is
    one of them, are allowed exactly where an answer may end.
    """

    tokens: Sequence[bytes]
    stop_ids: frozenset[int]
    eos_id: int
    special: frozenset[int]

    def ending_ids(self) -> list[int]:
        """All that end an answer, ``eos_id`` first."""
        return [self.eos_id, *sorted(self.stop_ids - {self.eos_id})]

    def tokenizer(self) -> LLTokenizer:
        """llguidance's view of the table. Costs 0.2 s for 49,152 tokens, and some 10 MB."""
        wrapper = _Wrapper(self)
        wrapper.tokenizer = LLTokenizer(wrapper, eos_token=self.ending_ids())
        return wrapper.tokenizer


class _Wrapper:
    """What llguidance asks of a Python tokenizer, in the place of its own ``TokenizerWrapper``.

    Text that a grammar forces is cut greedily, longest token first: what a byte-level BPE makes of keys and brackets,
    or close to it. That spares the engine everything a real tokenizer would need.
    """

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, table: TokenTable) -> None:
        special = table.special | set(table.ending_ids())
        self.eos_token_id = table.eos_id
        self.special_token_ids = sorted(special)
        self.tokens = [
            (token or _SPELLED % index) if index in special else token for index, token in enumerate(table.tokens)
        ]
        self.tokenizer: LLTokenizer | None = None

    def __call__(self, text: str) -> list[int]:
        return [] if self.tokenizer is None else self.tokenizer.greedy_tokenize(text)
