"""Logits to token ids, for all sequences of a step at once.

A row's token depends on the bits of its logits, its params, its seed, its position and its own history, and on nothing
else: not on the rows beside it, nor on how many threads torch has. So a sequence may be batched, preempted and computed
again as the engine likes. To that end the only operation on the whole batch is a maximum, which does not round, and the
arithmetic on one row is never divided among threads: NumPy has none, and a running sum is sequential.
"""

import logging
import math
import secrets
from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from genkan.engine.grammar.matcher import Matcher
from genkan.engine.logit_rules import LogitRules
from genkan.engine.logprobs import TokenLogprobs, token_logprobs
from genkan.engine.ranking import Floats, ids_of_largest, largest
from genkan.engine.sampling_params import SamplingParams
from genkan.errors import EngineFailed

GREEDY_BELOW = 1e-5
_FIRST_CANDIDATES = 256  # a nucleus is rarely larger, and finding so many is several times cheaper than a full sort

_log = logging.getLogger("genkan.engine")
_Sums = npt.NDArray[np.float64]


class Drawn(NamedTuple):
    """The token that goes into the answer. ``closed``: the grammar lets nothing but the end follow."""

    token: int
    logprobs: TokenLogprobs | None = None
    closed: bool = False


class RowSampler:
    """Draws the tokens of one sequence, and remembers of them what its rules count."""

    def __init__(
        self,
        params: SamplingParams,
        prompt_ids: Sequence[int] = (),
        *,
        matcher: Matcher | None = None,
        seed_offset: int = 0,
    ) -> None:
        """``matcher`` holds the sequence to its grammar; ``params.grammar`` itself is not looked at.

        Without ``params.seed`` a random one is taken, for the whole life of the sampler. With it, ``seed_offset`` sets
        the answers to one prompt apart: each is repeatable.
        """
        seed = secrets.randbits(64) if params.seed is None else params.seed
        self.is_greedy = params.temperature < GREEDY_BELOW or params.top_k == 1
        self._key = seed.to_bytes(16, "little", signed=True)
        if seed_offset:
            self._key += seed_offset.to_bytes(8, "little")
        self._temperature = params.temperature
        self._min_p = params.min_p
        self._top_k = params.top_k
        self._top_p = params.top_p
        self._top_logprobs = params.logprobs
        self._rules = LogitRules.of(params, prompt_ids, matcher)
        #: Neither rules nor log probabilities: drawing changes nothing, and may be repeated.
        self.is_plain = self._rules is None and self._top_logprobs is None

    def next(self, row: Floats, peak: float, position: int, remaining: int) -> Drawn:
        """The sequence's next token, from the logits ``row`` (``[vocab]``, no NaN, unchanged) with a finite ``peak``.

        ``position``: how many tokens the answer has; ``remaining``: how many may follow this one. Raises EngineFailed
        when the rules forbid every token, or the grammar can go on no more.
        """
        if self._rules is None:
            token, closed = self._choose(row, peak, position), False
        else:
            ruled = row.copy()
            self._rules.apply(ruled, position)
            ruled_peak = float(ruled.max())
            if not math.isfinite(ruled_peak):
                raise EngineFailed("The options of this request leave no token to choose.")
            token = self._rules.take(self._choose(ruled, ruled_peak, position), remaining)
            closed = self._rules.is_closed
        if self._top_logprobs is None:
            return Drawn(token, None, closed)
        return Drawn(token, token_logprobs(row, peak, token, self._top_logprobs), closed)

    def _choose(self, row: Floats, peak: float, position: int) -> int:
        return int(row.argmax()) if self.is_greedy else self.draw(row, peak, position)

    def draw(self, row: Floats, peak: float, position: int) -> int:
        """A token id drawn from the logits ``row`` (``[vocab]``, no NaN), whose maximum is the finite ``peak``.

        The draw is by inversion: one uniform number, and the kept tokens laid end to end by rising id.
        """
        uniform = self._uniform(position)
        if self._top_p >= 1 and (self._top_k is None or self._top_k >= len(row)):
            weights = self._weights(row, peak)
            if self._min_p > 0:
                weights[weights < self._min_p] = 0
            return _inverted(weights, uniform)
        ids = ids_of_largest(row, self._kept(row, peak))
        return int(ids[_inverted(self._weights(row[ids], peak), uniform)])

    def _uniform(self, position: int) -> float:
        """A number in [0, 1) with 53 random bits: a hash of the seed, all 64 bits of it, and the position."""
        digest = blake2b(position.to_bytes(8, "little"), key=self._key, digest_size=8).digest()
        return (int.from_bytes(digest, "little") >> 11) * 2.0**-53

    def _weights(self, logits: Floats, peak: float) -> Floats:
        """Probabilities relative to that of the peak, which is exactly 1. Differences come first, so none overflows."""
        weights = logits - peak
        weights /= self._temperature
        np.exp(weights, out=weights)
        return weights

    def _kept(self, row: Floats, peak: float) -> Floats:
        """The logits that pass min-p, top-k and top-p, largest first."""
        if self._top_k is not None and self._top_k < len(row):
            ranked = largest(row, self._top_k)
            weights = self._weights(ranked, peak)
            masses = _running_sum(weights[: np.count_nonzero(weights >= self._min_p)])
            return ranked[: _num_within(masses, self._top_p * masses[-1])]
        weights = self._weights(row, peak)
        if self._min_p > 0:
            weights = weights[weights >= self._min_p]
        wanted = self._top_p * weights.sum(dtype=np.float64)
        ranked = largest(row, min(_FIRST_CANDIDATES, len(weights)))
        masses = _running_sum(self._weights(ranked, peak))
        if masses[-1] < wanted and len(ranked) < len(weights):
            ranked = largest(row, len(weights))
            masses = _running_sum(self._weights(ranked, peak))
        return ranked[: _num_within(masses, wanted)]


def sample(logits: torch.Tensor, rows: Sequence[tuple[RowSampler, int, int]]) -> list[Drawn | EngineFailed]:
    """The next token of each sequence, or why that one failed: a NaN, no finite maximum, or its rules.

    ``logits``: float32 ``[rows, vocab]`` in the memory of the CPU, unnormalised; they are not changed. ``rows`` has for
    each the sampler, how many tokens the answer has, and how many may follow this one. Equal logits rank by lower id.

    A sampler takes what it drew for the sequence's next token: one that is not plain draws each position once only.
    Failures are logged here, and spoil no other row. Raises ValueError, with nothing drawn, if the numbers of rows
    differ.

    Greedy rows without rules or log probabilities cost nothing beyond one maximum over the batch. The others cost one
    to three passes over the row each, rules two and what they touch, log probabilities two or three.
    """
    if len(rows) != len(logits):
        raise ValueError(f"{len(logits)} rows of logits for {len(rows)} sequences")
    peaks, best = logits.max(dim=-1)  # a NaN wins
    table: Floats = logits.numpy()
    drawn: list[Drawn | EngineFailed] = []
    with np.errstate(over="ignore"):  # of a weight's exponent, towards minus infinity: the weight is 0
        for peak, token, (sampler, position, remaining) in zip(peaks.tolist(), best.tolist(), rows, strict=True):
            if sampler.is_plain and sampler.is_greedy and math.isfinite(peak):
                drawn.append(Drawn(token))
            else:
                drawn.append(_contained(sampler, table[len(drawn)], peak, position, remaining))
    return drawn


def _contained(sampler: RowSampler, row: Floats, peak: float, position: int, remaining: int) -> Drawn | EngineFailed:
    """What comes of one row, its failure included."""
    if not math.isfinite(peak):
        _log.error("a sequence failed: its logits are no numbers")
        return EngineFailed("The engine failed on this request.")
    try:
        return sampler.next(row, peak, position, remaining)
    except EngineFailed as error:
        _log.error("a sequence failed: %s", error.message)
        return error
    except Exception as error:  # noqa: BLE001 - whatever it is, it is this row's alone
        _log.error("a sequence failed while its token was chosen", exc_info=error)
        return EngineFailed("The engine failed on this request.")


def _running_sum(weights: Floats) -> _Sums:
    """Sums in float64, one after the other; torch's take a fifth of the time of NumPy's when the types differ."""
    sums: _Sums = torch.from_numpy(weights).cumsum(0, dtype=torch.float64).numpy()
    return sums


def _num_within(masses: _Sums, wanted: float) -> int:
    """How many must be kept to hold ``wanted``, one at least.

    Source: nucleus sampling, arXiv:1904.09751.
    """
    return min(int(masses.searchsorted(wanted)) + 1, len(masses))


def _inverted(weights: Floats, uniform: float) -> int:
    """The index at which the running sum passes ``uniform`` of the total. One of weight 0 is never passed at."""
    sums = _running_sum(weights)
    return int(sums.searchsorted(uniform * sums[-1], side="right"))
