"""How many requests one upstream is given at a time, and how many wait for it."""

import asyncio
from collections import OrderedDict


class Full(Exception):
    """All places are taken and the queue is full."""

    def __init__(self, limit: int, queue: int) -> None:
        super().__init__(f"{limit} requests are in work and {queue} wait")
        self.limit = limit
        self.queue = queue


class Bulkhead:
    """``limit`` places and a first-come-first-served queue for them, within one event loop.

    A place that becomes free while somebody waits never shows as free: ``release`` hands it on. So nobody can step in
    between, and whoever is cancelled with a place already in hand must pass it on too, or it would be lost. In use it
    costs no task, no lock, and a future only for who waits.
    """

    __slots__ = ("_in_use", "_waiters", "limit", "queue")

    def __init__(self, limit: int, queue: int) -> None:
        """``limit`` 0: no limit. ``queue``: how many may wait."""
        self.limit = limit
        self.queue = queue
        self._in_use = 0
        self._waiters: OrderedDict[asyncio.Future[None], None] = OrderedDict()

    @property
    def in_use(self) -> int:
        """Places taken, those included that were handed on and whose new owner has not run yet."""
        return self._in_use

    @property
    def waiting(self) -> int:
        """Requests in the queue. One that was cancelled counts until its task has run."""
        return len(self._waiters)

    def try_acquire(self) -> bool:
        """Take a place if there is one, as ``acquire`` would."""
        if self.limit and self._in_use >= self.limit:
            return False
        self._in_use += 1
        return True

    async def acquire(self) -> None:
        """Take a place, at once if there is one; the caller must ``release`` it. Raises Full, and then at once."""
        if self.try_acquire():
            return
        if len(self._waiters) >= self.queue:
            raise Full(self.limit, self.queue)
        place = asyncio.get_running_loop().create_future()
        self._waiters[place] = None
        try:
            await place
        except BaseException:  # cancelled, or its coroutine closed
            if place.done() and not place.cancelled():
                self.release()
            else:
                self._waiters.pop(place, None)
            raise

    def release(self) -> None:
        """Give a place back: to the first that still waits, if any does."""
        assert self._in_use > 0
        while self._waiters:
            place, _ = self._waiters.popitem(last=False)
            if not place.done():
                place.set_result(None)
                return
        self._in_use -= 1
