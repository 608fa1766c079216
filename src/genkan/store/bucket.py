"""A token bucket, by the generic cell rate algorithm: all that it remembers is one number. Pure.

Theory. A bucket of ``burst`` tokens is refilled by ``limit`` in each window. GCRA (ATM Forum, Traffic Management 4.0;
as a limiter of requests: Brandur Leach, "Rate limiting, cells, and GCRA", and his redis-cell) keeps, instead of a level
and the time at which it was right, the moment at which the bucket would be full again. Time alone refills it; taking
``n`` tokens moves that moment ``n * window / limit`` further; there is enough if it is then at most
``burst * window / limit`` ahead of now.

A moment is kept as an integer number of microseconds times ``limit``: one token is then exactly ``window_us``, and no
rounding is ever added up. A full bucket gives exactly ``burst`` whole tokens at one instant, and the n-th one after
that exactly n * window / limit later. As all that is ever done to the moment is addition, takes and adjustments
commute, but for the one bound: it never lies before now, so no refund makes a bucket more than full.
"""

from typing import NamedTuple

#: The state of a bucket that was never used. Any state that is not ahead of now means the same.
FULL = 0


class Bucket(NamedTuple):
    """The rule. States are the moment at which the bucket is full, in 1/``limit`` microseconds; costs are whole."""

    limit: int
    window_us: int
    burst: int

    def take(self, state: int, now_us: int, cost: int) -> int | None:
        """The state with ``cost`` tokens taken; None if they are not all there."""
        now = now_us * self.limit
        taken = (state if state > now else now) + cost * self.window_us
        return taken if taken - now <= self.burst * self.window_us else None

    def adjust(self, state: int, now_us: int, tokens: int) -> int:
        """The state with ``tokens`` more taken than were, or fewer if negative: into debt, but never more than full."""
        now = now_us * self.limit
        return max(now, max(state, now) + tokens * self.window_us)

    def is_full(self, state: int, now_us: int) -> bool:
        """Whether it is as if never used."""
        return state <= now_us * self.limit

    def remaining(self, state: int, now_us: int) -> int:
        """Whole tokens that can be taken now; 0 in debt."""
        return max(0, self._room(state, now_us) // self.window_us)

    def retry_us(self, state: int, now_us: int, cost: int) -> int | None:
        """Until ``cost`` tokens can be taken: 0 if they can now, None if they never can."""
        if cost > self.burst:
            return None
        missing = cost * self.window_us - self._room(state, now_us)
        return max(0, _rounded_up(missing, self.limit))

    def reset_us(self, state: int, now_us: int) -> int:
        """Until it is full."""
        return max(0, _rounded_up(state, self.limit) - now_us)

    def as_of(self, other: "Bucket", state: int, now_us: int) -> int:
        """What ``state`` of this bucket is in ``other``: as many tokens taken."""
        taken = max(0, state - now_us * self.limit)
        return now_us * other.limit + _rounded_up(taken * other.window_us, self.window_us)

    def _room(self, state: int, now_us: int) -> int:
        return self.burst * self.window_us - max(0, state - now_us * self.limit)


def _rounded_up(dividend: int, divisor: int) -> int:
    return -(-dividend // divisor)
