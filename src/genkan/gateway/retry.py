"""Whether a request may be tried once more, and when."""

from collections.abc import Generator
from typing import Any

import backoff

_BUCKETS = 100


class RetryBudget:
    """Retries as a share of requests, so that a failing upstream is not buried under them. Pure; per process.

    Theory. Counting attempts of one request bounds nothing when all requests fail: three tries each are three times the
    load, when there should be less of it. A budget bounds the sum: a retry is given only if it makes the retries of the
    last ``window_s`` no more than ``ratio`` of the requests in it, or than ``at_least``, so that a quiet gateway may
    retry at all. The window slides in steps of a hundredth. Cost: O(1), some 0.2 µs; memory is the same under any load.
    Source: Envoy's retry budget, Finagle's RetryBudget.
    """

    __slots__ = (
        "_at_least", "_bucket", "_per_s", "_ratio", "_requests", "_requests_of", "_retries", "_retries_of", "_slot",
    )  # fmt: skip

    def __init__(self, ratio: float = 0.2, at_least: int = 3, window_s: float = 10.0) -> None:
        self._ratio = ratio
        self._at_least = at_least
        self._per_s = _BUCKETS / window_s
        self._bucket = 0  # time in buckets
        self._slot = 0  # where the present bucket's counts are
        self._requests_of = [0] * _BUCKETS
        self._retries_of = [0] * _BUCKETS
        self._requests = self._retries = 0  # the sums over all buckets

    def requested(self, now_s: float) -> None:
        """Count a request; its retries are none. ``now_s`` is monotonic."""
        if int(now_s * self._per_s) > self._bucket:
            self._slide(now_s)
        self._requests_of[self._slot] += 1
        self._requests += 1

    def take(self, now_s: float, within: float = 1.0) -> bool:
        """Whether there may be a retry now; if so, it is counted. ``within``: only in that share of the budget."""
        if int(now_s * self._per_s) > self._bucket:
            self._slide(now_s)
        if self._retries + 1 > within * max(self._at_least, self._ratio * self._requests):
            return False
        self._retries_of[self._slot] += 1
        self._retries += 1
        return True

    def _slide(self, now_s: float) -> None:
        bucket = int(now_s * self._per_s)
        for passed in range(max(self._bucket, bucket - _BUCKETS) + 1, bucket + 1):
            slot = passed % _BUCKETS
            self._requests -= self._requests_of[slot]
            self._retries -= self._retries_of[slot]
            self._requests_of[slot] = self._retries_of[slot] = 0
        self._bucket, self._slot = bucket, bucket % _BUCKETS


class Backoff:
    """The pauses before one request's retries: at random from 0 to a bound that doubles each time (full jitter)."""

    __slots__ = ("_bounds_s",)

    def __init__(self, base_s: float, cap_s: float) -> None:
        """The bound is ``base_s`` at first, and never more than ``cap_s``."""
        self._bounds_s: Generator[float, Any, None] = backoff.expo(factor=base_s, max_value=cap_s)
        next(self._bounds_s)  # the generator's first value is no bound but None

    def next_s(self) -> float:
        """Seconds to pause before the next retry."""
        return backoff.full_jitter(next(self._bounds_s))


def wait_s(retry_after_s: float | None, backoff_s: float, left_s: float, *, max_wait_s: float) -> float | None:
    """Seconds to wait before a retry, or None when it is not worth it.

    An upstream that said when to come back is asked no earlier, and ``backoff_s`` later, lest all come back at once.
    It is not worth it when the upstream wants more than ``max_wait_s``, or when the wait would use up ``left_s``, the
    time that the request has left.
    """
    if retry_after_s is None:
        wait = backoff_s
    elif retry_after_s <= max_wait_s:
        wait = retry_after_s + backoff_s
    else:
        return None
    return wait if wait < left_s else None
