"""Logits to token ids, for all sequences of a step at once.

A row's token depends on the bits of its logits, its params, its seed and its position, and on nothing else: not on the
rows beside it, nor on how many threads torch has, nor on what was drawn before. So a sequence may be batched, preempted
and computed again as the engine likes. To that end the only operation on the whole batch is a maximum, which does not
round, and the arithmetic on one row is never divided among threads: NumPy has none, and a running sum is sequential.
"""

import math
import secrets
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
import torch

from genkan.engine.sampling_params import SamplingParams

GREEDY_BELOW = 1e-5
_FIRST_CANDIDATES = 256  # a nucleus is rarely larger, and finding so many is several times cheaper than a full sort

_Floats = npt.NDArray[np.float32]
_Sums = npt.NDArray[np.float64]


class RowSampler:
    """Draws the tokens of one sequence. It keeps no state: the same row at the same position gives the same token."""

    def __init__(self, params: SamplingParams) -> None:
        """Without ``params.seed`` a random one is taken, for the whole life of the sampler."""
        seed = secrets.randbits(64) if params.seed is None else params.seed
        self.is_greedy = params.temperature < GREEDY_BELOW or params.top_k == 1
        self._key = seed.to_bytes(16, "little", signed=True)
        self._temperature = params.temperature
        self._min_p = params.min_p
        self._top_k = params.top_k
        self._top_p = params.top_p

    def draw(self, row: _Floats, peak: float, position: int) -> int:
        """A token id drawn from the logits ``row`` (``[vocab]``, no NaN), whose maximum is the finite ``peak``.

        The draw is by inversion: one uniform number, and the kept tokens laid end to end by rising id.
        """
        uniform = self._uniform(position)
        if self._top_p >= 1 and (self._top_k is None or self._top_k >= len(row)):
            weights = self._weights(row, peak)
            if self._min_p > 0:
                weights[weights < self._min_p] = 0
            return _inverted(weights, uniform)
        ids = _ids_of_largest(row, self._kept(row, peak))
        return int(ids[_inverted(self._weights(row[ids], peak), uniform)])

    def _uniform(self, position: int) -> float:
        """A number in [0, 1) with 53 random bits: a hash of the seed, all 64 bits of it, and the position."""
        digest = blake2b(position.to_bytes(8, "little"), key=self._key, digest_size=8).digest()
        return (int.from_bytes(digest, "little") >> 11) * 2.0**-53

    def _weights(self, logits: _Floats, peak: float) -> _Floats:
        """Probabilities relative to that of the peak, which is exactly 1. Differences come first, so none overflows."""
        weights = logits - peak
        weights /= self._temperature
        np.exp(weights, out=weights)
        return weights

    def _kept(self, row: _Floats, peak: float) -> _Floats:
        """The logits that pass min-p, top-k and top-p, largest first."""
        if self._top_k is not None and self._top_k < len(row):
            ranked = _largest(row, self._top_k)
            weights = self._weights(ranked, peak)
            masses = _running_sum(weights[: np.count_nonzero(weights >= self._min_p)])
            return ranked[: _num_within(masses, self._top_p * masses[-1])]
        weights = self._weights(row, peak)
        if self._min_p > 0:
            weights = weights[weights >= self._min_p]
        wanted = self._top_p * weights.sum(dtype=np.float64)
        ranked = _largest(row, min(_FIRST_CANDIDATES, len(weights)))
        masses = _running_sum(self._weights(ranked, peak))
        if masses[-1] < wanted and len(ranked) < len(weights):
            ranked = _largest(row, len(weights))
            masses = _running_sum(self._weights(ranked, peak))
        return ranked[: _num_within(masses, wanted)]


def sample(logits: torch.Tensor, rows: Sequence[tuple[RowSampler, int]]) -> list[int | None]:
    """The next token of each sequence; None for a row with a NaN, or whose maximum is not finite.

    ``logits``: float32 ``[rows, vocab]`` in the memory of the CPU, unnormalised; they are not changed. ``rows`` has
    for each the sampler and the position of the token in its sequence, 0 or more. Equal logits rank by lower id.

    Greedy rows cost nothing beyond one maximum over the batch, the others one to three passes over the row each.
    """
    peaks, best = logits.max(dim=-1)  # a NaN wins
    tokens: list[int | None] = best.tolist()
    table: _Floats = logits.numpy()
    with np.errstate(over="ignore"):  # of a weight's exponent, towards minus infinity: the weight is 0
        for index, (peak, (sampler, position)) in enumerate(zip(peaks.tolist(), rows, strict=True)):
            if not math.isfinite(peak):
                tokens[index] = None
            elif not sampler.is_greedy:
                tokens[index] = sampler.draw(table[index], peak, position)
    return tokens


def _largest(row: _Floats, count: int) -> _Floats:
    """The ``count`` largest values, largest first."""
    return np.sort(np.partition(row, -count)[-count:])[::-1]


def _ids_of_largest(row: _Floats, largest: _Floats) -> npt.NDArray[np.intp]:
    """Where the values of ``largest`` (largest first) stand in ``row``, by rising id; of equals the lower ids."""
    border = largest[-1]
    ids = np.flatnonzero(row >= border)
    if (surplus := len(ids) - len(largest)) > 0:
        at_border = np.flatnonzero(row[ids] == border)
        ids = np.delete(ids, at_border[-surplus:])
    return ids


def _running_sum(weights: _Floats) -> _Sums:
    """Sums in float64, one after the other; torch's take a fifth of the time of NumPy's when the types differ."""
    sums: _Sums = torch.from_numpy(weights).cumsum(0, dtype=torch.float64).numpy()
    return sums


def _num_within(masses: _Sums, wanted: float) -> int:
    """How many must be kept to hold ``wanted``, one at least.

    Source: nucleus sampling, arXiv:1904.09751.
    """
    return min(int(masses.searchsorted(wanted)) + 1, len(masses))


def _inverted(weights: _Floats, uniform: float) -> int:
    """The index at which the running sum passes ``uniform`` of the total. One of weight 0 is never passed at."""
    sums = _running_sum(weights)
    return int(sums.searchsorted(uniform * sums[-1], side="right"))
