"""The ledger as one worker sees it: every request's end gets to Redis exactly once, whatever dies in between.

Theory. The store settles a request once however often it is asked, so what is left to do is to ask at least once. From
the first attempt on, a request is in the journal; its settlement is as well before it is sent, and stays until the
store has it for good. If this worker dies, another, or the next one, replays its journal: what was settled is settled,
and what was not is closed as lost. If it dies before the first attempt, no upstream has done anything, and the store
closes the reservation when its lease runs out.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from itertools import takewhile

from genkan.clock import Clock
from genkan.errors import StoreError
from genkan.gateway.journal import Journal
from genkan.gateway.ledger_observer import LedgerObserver, Unobserved
from genkan.gateway.ledger_replay import Replayer
from genkan.gateway.outbox import Outbox
from genkan.store.accounts import Accounts, Admission, Settlement

_TEND_EVERY_S = 5.0
_RETRY_EVERY_S = 1.0
_MANY_OPEN = 8  # requests; with fewer, a settlement goes out along with the next admission
_AT_ONCE = 100  # closed or renewed by one call

_Duty = tuple[Callable[[], Awaitable[None]], str]  # and what it is called

_log = logging.getLogger("genkan.gateway")


class Ledger:
    """Opens, follows and settles requests. For one event loop; no task and no lock for a request."""

    def __init__(
        self,
        accounts: Accounts,
        journal: Journal,
        *,
        clock: Clock,
        lease_s: float,
        observer: LedgerObserver | None = None,
        tend_every_s: float = _TEND_EVERY_S,
    ) -> None:
        """``lease_s``: how long the shortest lease holds. ``tend_every_s``: how often others' remains are looked for.

        The journal is this ledger's from now on.
        """
        self._accounts = accounts
        self._journal = journal
        self._clock = clock
        self._renew_every_s = lease_s / 3
        self._observer = observer or Unobserved()
        self._tend_every_s = tend_every_s
        self._open: dict[str, _Opened] = {}  # oldest first
        self._outbox = Outbox(
            accounts,
            clock=clock,
            observer=self._observer,
            recall=journal.recall,
            on_done=journal.done,
            on_refused=self._set_aside,
        )
        self._replayer = Replayer(journal, accounts, clock=clock, observer=self._observer)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to send, to renew leases and to replay what others left. Waits for nothing."""
        duties = [
            self._outbox.run(),
            _every(self._renew_every_s, (self._renew, "renewing")),
            # First what dead workers knew, then what nobody does.
            _every(self._tend_every_s, (self._replay, "replaying"), (self._close_lost, "closing of what is lost")),
            _every(_RETRY_EVERY_S, (self._retry, "writing again")),
        ]
        if self._journal.fsync_s:
            duties.append(_every(self._journal.fsync_s, (self._journal.sync, "syncing")))
        self._tasks = [asyncio.create_task(duty, name="ledger") for duty in duties]

    async def aclose(self, *, drain_s: float = 5.0) -> None:
        """Wait at most ``drain_s`` until Redis has all that was settled; what is left stays in the journal."""
        try:
            async with asyncio.timeout(drain_s):
                await self._outbox.drained()
                await self._close_lost()  # Redis is there, so it will not forget what it took last
            self._outbox.close()
            self._replayer.close()
        except (TimeoutError, StoreError):
            pass  # the journal has what is left
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            if len(self._outbox):  # only now with those that were being sent
                _log.warning("%d settlements are left to the journal in %s", len(self._outbox), self._journal.folder)
            self._replayer.lost_ground()
            self._journal.close()

    def opened(self, admission: Admission, *, was_admitted: bool = True) -> None:
        """It was admitted, and will be settled. Until then its leases and its reservation are renewed.

        ``was_admitted``: as in Settlement; there is nothing to renew if not.
        """
        self._open[admission.request_id] = _Opened(admission, was_admitted, self._clock.monotonic())

    def attempt_begun(self, request_id: str, attempt: int, deployment: str) -> None:
        """An upstream is about to be asked. Written to the journal when this returns. About 5 µs, pwrite(2) included.

        The request must be open. ``attempt`` counts from 1; ``deployment`` is a ``model@upstream``.
        """
        opened, unix_s = self._open[request_id], self._clock.unix()
        if opened.is_begun:
            is_written = self._journal.attempted(request_id, attempt, deployment, unix_s)
        else:
            opened.is_begun = True
            is_written = self._journal.begun(opened.admission, opened.was_admitted, attempt, deployment, unix_s)
        if not is_written:
            self._observer.journal_failed()

    def settle(self, settlement: Settlement, *, is_urgent: bool = True) -> None:
        """The request has ended so. Written to the journal when this returns, then sent until Redis has it.

        Not at once, but with others, if it is not urgent and there are many under way that may soon end.
        """
        self._open.pop(settlement.request_id, None)
        is_written = self._journal.settled(settlement, self._clock.unix())
        if not is_written:
            self._observer.journal_failed()
        if not self._outbox.put(settlement, is_written=is_written, is_urgent=is_urgent or len(self._open) < _MANY_OPEN):
            self._journal.leave(settlement.request_id)
            self._observer.left()

    def lost_ground(self) -> None:
        """Redis was restarted, or is another: send again what it took in its last seconds."""
        self._outbox.lost_ground()
        self._replayer.lost_ground()

    def _set_aside(self, settlement: Settlement, why: str) -> None:
        self._journal.set_aside(settlement, why)
        self._journal.done([settlement.request_id])

    async def _renew(self) -> None:
        """Renew all that is as old as the time between two renewals; what is younger can wait for the next."""
        born_s = self._clock.monotonic() - self._renew_every_s
        old = takewhile(lambda opened: opened.since_s <= born_s, self._open.values())
        due = [opened.admission for opened in old if opened.was_admitted]
        for first in range(0, len(due), _AT_ONCE):
            asked_s = self._clock.monotonic()
            await self._accounts.renew(due[first : first + _AT_ONCE])
            self._outbox.answered(asked_s)

    async def _close_lost(self) -> None:
        """Close what ran out because nobody lives who would renew it, or settle it from a journal."""
        n = _AT_ONCE
        while n == _AT_ONCE:
            asked_s = self._clock.monotonic()
            n = await self._accounts.close_lost(at_most=_AT_ONCE)
            self._outbox.answered(asked_s)
            self._observer.lost(n)

    async def _replay(self) -> None:
        """Settle what dead workers knew."""
        self._journal.hand_over_left()
        await self._replayer.replay()

    async def _retry(self) -> None:
        self._journal.retry()


class _Opened:
    """A request that is not settled."""

    __slots__ = ("admission", "is_begun", "since_s", "was_admitted")

    def __init__(self, admission: Admission, was_admitted: bool, now_s: float) -> None:
        self.admission = admission
        self.was_admitted = was_admitted
        self.since_s = now_s
        self.is_begun = False


async def _every(seconds: float, *duties: _Duty) -> None:
    """Do them now, then every so many seconds, by a tenth more or less, so that workers do not do it all at once.

    What Redis is not well enough for is tried again within a second.
    """
    while True:
        pause_s = seconds * random.uniform(0.9, 1.1)  # noqa: S311 - no secret
        for duty, name in duties:
            try:
                await duty()
            except StoreError:  # who talks to Redis says so, once
                pause_s = min(pause_s, _RETRY_EVERY_S)
            except OSError as error:
                _log.warning("the ledger's %s failed: %s", name, error)
            except Exception:  # noqa: BLE001 - a bug in one duty must not end the others
                _log.exception("the ledger's %s failed", name)
        await asyncio.sleep(pause_s)
