"""A sliding window that forgets nothing: at most ``limit`` in any stretch of time of its length. Pure.

Theory. Every take is remembered with its time until it is a window old, and a running sum of what they cost says what
is free; so unlike counters of fixed windows, which let up to twice the limit through around a boundary, or weighted
ones, which estimate, it is exact. What was taken at t counts until just before t + window. The price is memory for
each take in the window. All costs are O(1), amortised over the takes that leave, except that of the time until
something fits, which looks at as many of the oldest takes as have to leave.
"""

from collections import OrderedDict
from collections.abc import Hashable
from typing import NamedTuple


class Taken(NamedTuple):
    """One take."""

    at_us: int
    cost: int


class Window:
    """The takes of one window. Times must not run backwards; costs are whole and at least 0.

    Each take has an id, by which its cost can be put right later. An id is taken once as long as it is remembered.
    """

    __slots__ = ("_taken", "limit", "total", "window_us")

    def __init__(self, limit: int, window_us: int) -> None:
        self.limit = limit
        self.window_us = window_us
        self.total = 0  # what those that are remembered cost; above ``limit`` after a take became dearer
        self._taken: OrderedDict[Hashable, Taken] = OrderedDict()  # by time

    def take(self, take_id: Hashable, now_us: int, cost: int) -> bool:
        """Take ``cost``, or nothing if it does not fit. True, and nothing taken again, if this id already has."""
        self.forget(now_us)
        if take_id in self._taken:
            return True
        if self.total + cost > self.limit:
            return False
        self._taken[take_id] = Taken(now_us, cost)
        self.total += cost
        return True

    def replace(self, take_id: Hashable, now_us: int, cost: int) -> None:
        """What a take really cost; it keeps its time. Nothing happens if it has left the window."""
        self.forget(now_us)
        taken = self._taken.get(take_id)
        if taken is None:
            return
        self.total += cost - taken.cost
        if cost:
            self._taken[take_id] = Taken(taken.at_us, cost)
        else:
            del self._taken[take_id]

    def forget(self, now_us: int) -> None:
        """Drop what has left the window."""
        gone_us = now_us - self.window_us
        while self._taken:
            oldest = next(iter(self._taken.values()))
            if oldest.at_us > gone_us:
                return
            self._taken.popitem(last=False)
            self.total -= oldest.cost

    def is_empty(self, now_us: int) -> bool:
        """Whether it is as if never used."""
        self.forget(now_us)
        return not self._taken

    def remaining(self, now_us: int) -> int:
        """What can be taken now; 0 in debt."""
        self.forget(now_us)
        return max(0, self.limit - self.total)

    def retry_us(self, now_us: int, cost: int) -> int | None:
        """Until ``cost`` can be taken: 0 if it can now, None if it never can."""
        if cost > self.limit:
            return None
        self.forget(now_us)
        over = self.total + cost - self.limit
        if over <= 0:
            return 0
        for taken in self._taken.values():
            over -= taken.cost
            if over <= 0:
                return taken.at_us + self.window_us - now_us
        raise AssertionError("what is free when all has left is the limit")

    def reset_us(self, now_us: int) -> int:
        """Until all has left."""
        self.forget(now_us)
        if not self._taken:
            return 0
        return next(reversed(self._taken.values())).at_us + self.window_us - now_us
