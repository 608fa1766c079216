"""How long one deployment's first tokens took of late. Pure; the clock is passed in.

Theory. Who stops waiting for a first token, because another attempt was quicker or the client left, has seen that it
takes *at least* so long: the observation is censored. Left out, or counted as a time, it would make times look shorter
than they are, and a hedge that learned from them would begin earlier and earlier. So quantiles are those of the
product-limit estimator: the share that takes longer than t is the product, over all times up to t at which tokens came,
of 1 − tokens/those that were still waiting. Where nothing is censored that is the plain quantile, and one more censored
observation never lowers it. Source: Kaplan and Meier, "Nonparametric estimation from incomplete observations", 1958.

Times lie in buckets, eight to a doubling, of which the upper end is told: a quantile is never too small, and too large
by ``MAX_FACTOR`` at the most. The latest ``_KEPT`` observations count, if they are not older than ``_RECENT_S``.
"""

import math
from collections import deque

_KEPT = 1000
_RECENT_S = 600.0
_PER_DOUBLING = 8
_SHORTEST_S = 0.001
_LONGEST_S = 3600.0
_BUCKETS = math.ceil(math.log2(_LONGEST_S / _SHORTEST_S) * _PER_DOUBLING) + 1
_KEEPS_FOR = 8  # observations, after which a quantile is computed anew

#: By which a quantile may be too large, if it is between a millisecond and an hour.
MAX_FACTOR: float = 2 ** (1 / _PER_DOUBLING)


class FirstTokens:
    """Recent times to the first token.

    Cost: some 0.5 µs an observation; some 10 µs a quantile, which is kept for the next few. Memory: up to 120 kB.
    """

    __slots__ = ("_came", "_censored", "_known", "_quantiles", "_recent", "_since")

    def __init__(self) -> None:
        self._recent: deque[tuple[float, int, list[int]]] = deque()  # when, which bucket, of which of these two:
        self._came = [0] * _BUCKETS
        self._censored = [0] * _BUCKETS
        self._known = 0  # the sum of what came
        self._quantiles: dict[float, float | None] = {}
        self._since = 0  # observations that came or went since those were computed

    def took(self, seconds: float, now_s: float) -> None:
        """A first token came after ``seconds``. ``now_s`` is monotonic."""
        self._known += 1
        self._add(seconds, now_s, self._came)

    def took_longer(self, than_s: float, now_s: float) -> None:
        """After so long it had not come, and was no longer waited for."""
        self._add(than_s, now_s, self._censored)

    def count(self, now_s: float) -> int:
        """How many recent ones came."""
        self._forget(now_s)
        return self._known

    def quantile(self, share: float) -> float | None:
        """The seconds within which ``share`` of first tokens come, as it was a few observations ago or less.

        Where too much was waited for in vain to tell, it is the longest that one took; None where nothing is known.
        """
        if self._since >= _KEEPS_FOR:
            self._quantiles.clear()
        if not self._quantiles:
            self._since = 0
        if share not in self._quantiles:
            self._quantiles[share] = self._computed(share)
        return self._quantiles[share]

    def _computed(self, share: float) -> float | None:
        waiting = len(self._recent)
        longer = 1.0  # the share that takes longer than the bucket's end
        longest: int | None = None
        for bucket, (came, censored) in enumerate(zip(self._came, self._censored, strict=True)):
            if came:
                longest = bucket
                longer *= 1 - came / waiting
                if longer <= 1 - share + 1e-9:
                    break
            waiting -= came + censored
        return None if longest is None else _end_s(longest)

    def _add(self, seconds: float, now_s: float, counts: list[int]) -> None:
        if len(self._recent) == _KEPT:
            self._drop_oldest()
        self._forget(now_s)
        bucket = _bucket(seconds)
        counts[bucket] += 1
        self._recent.append((now_s, bucket, counts))
        self._since += 1

    def _forget(self, now_s: float) -> None:
        while self._recent and self._recent[0][0] < now_s - _RECENT_S:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        _, bucket, counts = self._recent.popleft()
        counts[bucket] -= 1
        self._known -= counts is self._came
        self._since += 1


def _bucket(seconds: float) -> int:
    """The one that ends with ``seconds`` or soon after."""
    if seconds <= _SHORTEST_S:
        return 0
    return min(math.ceil(math.log2(seconds / _SHORTEST_S) * _PER_DOUBLING), _BUCKETS - 1)


def _end_s(bucket: int) -> float:
    return _SHORTEST_S * 2 ** (bucket / _PER_DOUBLING)
