"""What an upstream allows us: requests wait until they may be sent, or go on along the chain.

One request at a time asks, in the order in which they came; the others of this worker wait behind it. So nobody is
overtaken for ever, and a thousand that wait cost Redis no more than one.
"""

import asyncio
import itertools
import math
from collections.abc import Awaitable, Callable

from genkan.clock import Clock
from genkan.gateway.reservations import Reservation, Reservations, TimeLeft
from genkan.store.accounts import Admission, Amounts, Plan, Settlement

Sleep = Callable[[float], Awaitable[None]]
MAX_WAITING = 1000
_POLL_S = 0.05  # for a lease: nobody knows when the next one is given back
_CALL_S = 0.15
_numbers = itertools.count()


class Limited(Exception):
    """The upstream's limits leave no room in time. ``retry_after_s`` is None if they never will."""

    def __init__(self, retry_after_s: float | None) -> None:
        super().__init__(f"no room within its limits; retry after {retry_after_s} s")
        self.retry_after_s = retry_after_s


class Meter:
    """The limits of one deployment."""

    def __init__(
        self, plan: Plan, reservations: Reservations, *, wait_s: float, clock: Clock, sleep: Sleep = asyncio.sleep
    ) -> None:
        self.plan = plan
        self._reservations = reservations
        self._wait_s = wait_s
        self._clock = clock
        self._sleep = sleep
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def enter(self, request_id: str, amounts: Amounts, *, left_s: float, redis_left: TimeLeft) -> Reservation:
        """Room for one request, to be given back by `leave`.

        Waits for it at most as long as is configured and ``left_s`` allows. What it waits for Redis is taken from
        ``redis_left``, unless it has to wait anyway. Raises Limited, at once where it can be told, and
        AccountsUnavailable.
        """
        if self._waiting >= MAX_WAITING:
            raise Limited(_POLL_S)
        deadline_s = self._clock.monotonic() + min(self._wait_s, left_s)
        self._waiting += 1
        try:
            async with asyncio.timeout(min(self._wait_s, left_s)):
                await self._turn.acquire()
        except TimeoutError:
            raise Limited(_POLL_S) from None
        finally:
            self._waiting -= 1
        try:
            return await self._first(request_id, amounts, deadline_s, redis_left)
        finally:
            self._turn.release()

    def leave(self, reservation: Reservation, actual: Amounts) -> None:
        """What it took in the end."""
        admission = reservation.admission
        self._reservations.settle(
            reservation,
            Settlement(admission.request_id, self.plan, admission.amounts, actual, b"", reservation.was_admitted),
        )

    async def _first(self, request_id: str, amounts: Amounts, deadline_s: float, redis_left: TimeLeft) -> Reservation:
        while True:
            # An id is settled once: a request that comes here twice, or to another meter, is another each time.
            asked = Admission(f"{request_id}.m{next(_numbers)}", self.plan, amounts)
            reservation = await self._reservations.take(asked, redis_left)
            decision = reservation.decision
            if decision.denied is None:
                return reservation
            retry_s = max(state.retry_s for state in decision.states)
            if math.isinf(retry_s):
                raise Limited(None)
            pause_s = _POLL_S if decision.denied.kind == "lease" else max(retry_s, 0.001)
            if self._clock.monotonic() + pause_s > deadline_s:
                raise Limited(max(retry_s, _POLL_S))
            await self._sleep(pause_s)
            redis_left = TimeLeft(_CALL_S)
