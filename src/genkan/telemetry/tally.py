"""Counts in memory and writes the sums ten times a second.

With several processes prometheus_client keeps each value in a file that is mapped into memory. To add to one costs
over a microsecond, a system call among it, and a request adds to six or eight. Here it costs a tenth of that; what is
written is the same, a tenth of a second later at most, and `flush` writes it before somebody reads it.
"""

import asyncio
from bisect import bisect_left

from prometheus_client import Counter, Histogram

FLUSH_S = 0.1


class Tally:
    """Counters and histograms that wait to be written. Without a running event loop nothing waits."""

    def __init__(self) -> None:
        self._counts: dict[Counter, float] = {}
        self._observed: dict[Histogram, _Observed] = {}
        self._is_due = False

    def count(self, counter: Counter, by: float = 1) -> None:
        """So much more; ``counter`` has its labels already."""
        self._counts[counter] = self._counts.get(counter, 0) + by
        if not self._is_due:
            self._schedule()

    def observe(self, histogram: Histogram, value: float) -> None:
        """One more value; ``histogram`` has its labels already."""
        observed = self._observed.get(histogram)
        if observed is None:
            observed = self._observed[histogram] = _Observed(histogram)
        observed.add(value)
        if not self._is_due:
            self._schedule()

    def flush(self) -> None:
        """Write all that waits."""
        self._is_due = False
        counts, self._counts = self._counts, {}
        for counter, number in counts.items():
            counter.inc(number)
        for observed in self._observed.values():
            observed.write()

    def _schedule(self) -> None:
        try:
            asyncio.get_running_loop().call_later(FLUSH_S, self.flush)
        except RuntimeError:
            self.flush()
        else:
            self._is_due = True


class _Observed:
    """Values of one histogram. It takes them one by one only, so what it is made of is written to.

    Those are `_sum`, `_upper_bounds` and `_buckets` of prometheus_client 0.26; a test compares with `observe`.
    """

    __slots__ = ("_bounds", "_histogram", "_in_bucket", "_sum")

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram
        self._bounds: list[float] = list(histogram._upper_bounds)
        self._in_bucket: dict[int, int] = {}
        self._sum = 0.0

    def add(self, value: float) -> None:
        bucket = bisect_left(self._bounds, value)
        self._in_bucket[bucket] = self._in_bucket.get(bucket, 0) + 1
        self._sum += value

    def write(self) -> None:
        if not self._in_bucket:
            return
        self._histogram._sum.inc(self._sum)
        for bucket, number in self._in_bucket.items():
            self._histogram._buckets[bucket].inc(number)
        self._in_bucket.clear()
        self._sum = 0.0
