"""Takes what requests may need from Redis and, while Redis is slow or gone, what each policy says.

Rates and leases are then counted by this worker alone, each at its share of the limit, or not at all, or nothing is let
in. Money is different: a budget that cannot be read cannot be kept, so a request that one applies to is refused unless
the configuration prefers to serve it.
"""

import asyncio
import time
from dataclasses import replace

from genkan.config import WhenLostConfig
from genkan.errors import AccountsUnavailable, StoreError, StoreLost, StoreTimeout
from genkan.gateway.ledger import Ledger
from genkan.store.accounts import Accounts, Admission, Amounts, Decision, Settlement

_OPEN = Decision(denied=None, states=(), is_local=True)
NOTHING_TAKEN = Decision(denied=None, states=())


class Reservation:
    """What one admission holds, or that it was denied. Settled once."""

    __slots__ = ("admission", "decision", "local", "was_sent")

    def __init__(
        self, admission: Admission, decision: Decision, *, was_sent: bool, local: Admission | None = None
    ) -> None:
        self.admission = admission
        self.decision = decision
        self.was_sent = was_sent  # to Redis, whether or not it was done there
        self.local = local  # what this worker counts by itself

    @property
    def was_admitted(self) -> bool:
        """Whether Redis took it for certain."""
        return self.was_sent and not self.decision.is_local


class Reservations:
    """The one way to accounts for everything that a request draws on."""

    def __init__(
        self, shared: Accounts, local: Accounts, ledger: Ledger, when_lost: WhenLostConfig, *, timeout_s: float
    ) -> None:
        """``local`` counts this worker's share while ``shared`` is lost. ``timeout_s`` is for one call."""
        self._shared = shared
        self._local = local
        self._ledger = ledger
        self._when_lost = when_lost
        self._timeout_s = timeout_s
        self._settling: set[asyncio.Task[object]] = set()

    async def take(self, admission: Admission, left: "TimeLeft") -> Reservation:
        """Take all of it or nothing; ``decision.denied`` says which. Raises AccountsUnavailable.

        What was taken must be settled. Time spent is taken from ``left``. Who is cancelled has taken nothing.
        """
        began_s = time.monotonic()
        try:
            decision = await self._shared.admit(admission, timeout_s=min(self._timeout_s, left.seconds))
        except StoreError as error:
            was_sent = isinstance(error, StoreTimeout) or (isinstance(error, StoreLost) and error.was_sent)
        except BaseException:
            self._give_up(admission)  # it was sent, and nobody hears the answer
            raise
        else:
            return self._opened(Reservation(admission, decision, was_sent=True))
        finally:
            left.seconds = max(left.seconds - (time.monotonic() - began_s), 0.001)
        try:
            reservation = await self._without_redis(admission, was_sent=was_sent)
        except BaseException:
            if was_sent:
                self._give_up(admission)
            raise
        if was_sent and reservation.decision.denied is not None:
            self._give_up(admission)
        return reservation

    def settle(self, reservation: Reservation, settlement: Settlement, *, is_urgent: bool = True) -> None:
        """Put right what was taken, in the background: at once, or soon if it is not urgent."""
        self._ledger.settle(settlement, is_urgent=is_urgent)
        if reservation.local is not None:
            own = replace(settlement, plan=reservation.local.plan, row=b"", was_admitted=True)
            task = asyncio.get_running_loop().create_task(self._local.settle([own]))
            self._settling.add(task)
            task.add_done_callback(self._settling.discard)

    def _give_up(self, admission: Admission) -> None:
        """Have Redis give back what it took, if it took anything: nobody heard whether it did.

        With a draft Redis knows by itself. Without one, leases and windows are given back by the request's id; of
        buckets and budgets what may have been taken stays so: to give back what never was would let others overshoot.
        """
        nothing = Settlement(
            admission.request_id, admission.plan, admission.amounts, Amounts(0), b"", was_admitted=False
        )
        if admission.plan or admission.draft:
            self._ledger.settle(nothing)

    async def _without_redis(self, admission: Admission, *, was_sent: bool) -> Reservation:
        plan = tuple(line for line in admission.plan if line.kind != "budget")
        if len(plan) < len(admission.plan) and self._when_lost.budgets == "closed":
            raise AccountsUnavailable("Budgets cannot be checked at the moment; try again in a few seconds.")
        if plan and self._when_lost.limits == "closed":
            raise AccountsUnavailable("Limits cannot be checked at the moment; try again in a few seconds.")
        if not plan or self._when_lost.limits == "open":
            return self._opened(Reservation(admission, _OPEN, was_sent=was_sent))
        own = Admission(admission.request_id, plan, admission.amounts)
        found = await self._local.admit(own, timeout_s=self._timeout_s)
        decision = Decision(found.denied, found.states, is_local=True)
        reservation = Reservation(admission, decision, was_sent=was_sent, local=own if found.denied is None else None)
        return self._opened(reservation)

    def _opened(self, reservation: Reservation) -> Reservation:
        if reservation.decision.denied is None and (reservation.admission.plan or reservation.admission.draft):
            self._ledger.opened(reservation.admission, was_admitted=reservation.was_sent)
        return reservation


class TimeLeft:
    """What a request may still wait for Redis, over all its calls."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
