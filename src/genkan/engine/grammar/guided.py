"""One answer in its grammar, on llguidance."""

import codecs
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from llguidance import LLMatcher

from genkan.engine.grammar.closing import ClosingSearch
from genkan.engine.grammar.token_table import TokenTable
from genkan.engine.grammar.wording import Wording
from genkan.errors import EngineFailed

_MARKS = b":,[{"
#: ``[256, 8]``: for each byte of a bit mask the limits of its eight tokens, minus infinity where the bit is 0.
_LIMITS = np.where(
    np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little"), np.inf, -np.inf
).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What all grammars of a model share. ``size`` ids are known; ``ending_ids`` are those that end an answer.

    ``marks`` counts, for each token that has any, JSON's marks after which there may be a choice. The ids in ``split``
    end in the middle of a character.
    """

    size: int
    ending_ids: frozenset[int]
    marks: Mapping[int, int]
    split: frozenset[int]
    closing: ClosingSearch

    @classmethod
    def of(cls, table: TokenTable, closing: ClosingSearch) -> "Vocabulary":
        """Costs 20 ms for 49,152 tokens."""
        counts = ((index, len(token) - len(token.translate(None, _MARKS))) for index, token in enumerate(table.tokens))
        marks = {index: number for index, number in counts if number}
        split = frozenset(index for index, token in enumerate(table.tokens) if _ends_in_a_character(token))
        return cls(len(table.tokens), frozenset(table.ending_ids()), marks, split, closing)


class GuidedMatcher:
    """A Matcher that knows its way to the end.

    It keeps a bound of how far the end is: what was found when the way was last looked up, and the most that each
    choice since may have added. As long as the bound fits what remains, ``take`` looks for nothing. Then it looks up
    the way, and remembers it: so there always is one that fits what remains, if ever there was.
    """

    def __init__(self, state: LLMatcher, vocabulary: Vocabulary, wording: Wording, begun: Sequence[int] = ()) -> None:
        """``begun`` are the tokens that ``state`` has taken already."""
        self._state = state
        self._vocabulary = vocabulary
        self._wording = wording
        self._reach = wording.reach
        self._bits = np.zeros((vocabulary.size + 31) // 32 * 4, np.uint8)
        self._bits_at = self._bits.ctypes.data
        self._bound = wording.reach.least
        for token in begun:
            self._bound = self._farther(token)
        self._way: list[int] | None = None  # from where the answer is; None: not known
        self._is_lost = False  # no way that fits was found when it was last looked for

    def mask(self, row: npt.NDArray[np.float32]) -> None:
        """As Matcher.mask. Cost: 15 to 600 µs for 49,152 tokens, 50 µs on average in JSON."""
        self._state.unsafe_compute_mask_ptr(self._bits_at, len(self._bits))
        self._check()
        size = min(self._vocabulary.size, len(row))
        limits = _LIMITS.take(self._bits, axis=0, mode="clip").reshape(-1)[:size]
        np.minimum(row[:size], limits, out=row[:size])  # without a branch: a mask of many runs costs no more
        row[size:] = -np.inf

    def take(self, token: int, remaining: int) -> int:
        """As Matcher.take. Cost: 5 µs; where the way to the end is looked up, 20 µs to 1 ms more."""
        bound = self._farther(token)
        if bound > remaining and token not in self._vocabulary.ending_ids:
            return self._take_in_reach(token, remaining)
        self._bound, self._way = bound, None
        self._consume(token)
        return token

    def _farther(self, token: int) -> int:
        """The bound after ``token``."""
        bound, most = self._bound + self._reach.step * self._choices(token), self._reach.most
        return bound if most is None else min(bound, most)

    def _choices(self, token: int) -> int:
        return self._vocabulary.marks.get(token, 0) if self._reach.by_marks else 1

    @property
    def is_closed(self) -> bool:
        """Whether nothing may follow but the end."""
        return bool(self._state.is_stopped())

    def _take_in_reach(self, token: int, remaining: int) -> int:
        after = self._state.deep_copy()
        if not after.consume_token(token):
            self._consume(token)  # which fails as well, and says why
        if not remaining and after.is_accepting() and not self._reach.by_marks:
            way: list[int] | None = []  # text is cut as it would be without a grammar; a number of JSON ends
        elif self._way and self._way[0] == token:
            way = self._way[1:]
        else:
            way = self._search(after, remaining)
        if way is None:
            return self._turn(token, after, remaining)
        self._state, self._way, self._is_lost = after, way, False
        self._bound = len(way) + self._reach.step  # the token may have left a choice to the next
        return token

    def _turn(self, token: int, after: LLMatcher, remaining: int) -> int:
        """Take the first step of the way that fits instead of ``token``, if there is a way that fits."""
        way = self._way or (None if self._is_lost else self._search(self._state, remaining + 1))
        farther = len(way or ()) + self._reach.step * max(1, self._choices(token))
        if way and remaining < farther and not self._is_half_a_character(token, way[0]):
            self._consume(way[0])
            self._way, self._bound = way[1:], len(way) + self._reach.step
            return way[0]
        # There is room, and a way was only not found; or it is too late, and the answer may yet close by itself.
        self._bound = farther if way else remaining // 2
        self._state, self._way, self._is_lost = after, None, way is None
        return token

    def _is_half_a_character(self, token: int, instead: int) -> bool:
        """Whether ``token`` only begins one, in a text that needs nothing but to end: it may as well be cut there."""
        return token in self._vocabulary.split and instead in self._vocabulary.ending_ids

    def _search(self, state: LLMatcher, limit: int) -> list[int] | None:
        return self._vocabulary.closing.path(state, limit, self._wording.required, is_json=self._wording.is_json)

    def _consume(self, token: int) -> None:
        if not self._state.consume_token(token):
            self._check()
            raise EngineFailed(f"The grammar does not allow token {token} here.")

    def _check(self) -> None:
        if self._state.is_error():
            raise EngineFailed(f"The answer's grammar can go on no more: {plain(self._state.get_error())}")


def _ends_in_a_character(token: bytes) -> bool:
    if token.isascii():
        return False
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(token)
    return bool(decoder.getstate()[0])


def plain(error: str) -> str:
    """What llguidance says, on one line and without what it adds for its developers."""
    return " ".join(error.replace("<non-verbose/>", "").split())[:300]
