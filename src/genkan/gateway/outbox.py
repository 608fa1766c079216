"""Settlements on their way to Redis: in batches, one after the other, until each was taken.

Theory. To settle is idempotent, so whatever is not known to have been done is asked again, for as long as it takes.
Redis itself may forget its last second when it is killed (it forces its own log to disk once a second). So what it
took is remembered here, by its id, until a later call, begun ``SURE_AFTER_S`` after that, was answered by the same
Redis; when another answers, or the same after a restart, `Outbox.lost_ground` has it read from the journal and sends it
again.

It knows what it settled for 120 s. What may have been settled longer ago, as Redis was away since, is looked up first.

To send costs Redis and this worker the same for one settlement as for a hundred, besides what each takes, so what is
not urgent waits a moment for others. Urgent is what gives back something scarce: the client's next request may need it.

A settlement that Redis alone refuses, while it takes others, must not stop them: a batch that is refused is sent again
one by one, and what is refused ``REFUSALS`` times is set aside.
"""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Collection

from genkan.clock import Clock
from genkan.errors import StoreError, StoreTimeout
from genkan.gateway.ledger_observer import LedgerObserver
from genkan.gateway.settling import reason, settled_long_ago, settled_or_refused, too_old_to_ask
from genkan.store.accounts import Accounts, Outcome, Settlement

SURE_AFTER_S = 3.0
GATHER_S = 0.004
REFUSALS = 5
_BATCH = 100
_AT_MOST = 50_000
_AT_MOST_BYTES = 64 * 2**20
_LOOKS = 5
_DONE_EVERY_S = 0.1
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0

_log = logging.getLogger("genkan.gateway")


class Outbox:
    """What waits to be settled. `put` costs well below a microsecond; one task, `run`, does the sending."""

    def __init__(
        self,
        accounts: Accounts,
        *,
        clock: Clock,
        observer: LedgerObserver,
        recall: Callable[[Collection[str]], Awaitable[list[Settlement]]],
        on_done: Callable[[list[str]], None],
        on_refused: Callable[[Settlement, str], None],
        at_most: int = _AT_MOST,
        at_most_bytes: int = _AT_MOST_BYTES,
    ) -> None:
        """``recall`` finds what was put, and written to the journal, by ids.

        ``on_done`` gets ids that Redis will not forget, ``on_refused`` what is set aside, and why.
        """
        self._accounts = accounts
        self._clock = clock
        self._observer = observer
        self._recall = recall
        self._on_done = on_done
        self._on_refused = on_refused
        self._at_most, self._at_most_bytes = at_most, at_most_bytes
        self._waiting: deque[Settlement] = deque()
        self._waiting_bytes = 0  # of those and of the batch that is being sent
        self._taken: deque[tuple[float, list[str]]] = deque()  # ids of what Redis took, with when it said so
        self._unwritten: dict[str, Settlement] = {}  # of what Redis took or is to take: what the journal has not
        self._forgotten: dict[str, float] = {}  # what Redis may have forgotten, with when it took it, in Unix time
        self._sent: dict[str, float] = {}  # of what waits: when it was sent before, in Unix time
        self._known: set[str] = set()  # of what waits: Redis has it
        self._looks, self._look_s = 0, 0.0  # for those in a row, and when the next is due
        self._refusals: Counter[str] = Counter()
        self._batch = _BATCH
        self._gathering: asyncio.TimerHandle | None = None  # until what is not urgent is sent
        self._done_s = 0.0
        self._wanted = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, settlement: Settlement, *, is_written: bool = True, is_urgent: bool = True) -> bool:
        """Have it settled: as soon as can be, or with others that come within ``GATHER_S``. False: there is no place.

        ``is_written``: whether the journal has it. What is urgent sends all that waits along with it.
        """
        waiting = self._waiting
        if len(waiting) >= self._at_most or self._waiting_bytes >= self._at_most_bytes:
            return False
        if not waiting:
            self._empty.clear()
        waiting.append(settlement)
        self._waiting_bytes += _size(settlement)
        if not is_written:
            self._unwritten[settlement.request_id] = settlement
        if is_urgent:
            self._wanted.set()
        elif self._gathering is None:
            self._gathering = asyncio.get_running_loop().call_later(GATHER_S, self._gathered)
        return True

    def _gathered(self) -> None:
        self._gathering = None
        self._wanted.set()

    def lost_ground(self) -> None:
        """Redis may have forgotten what it took last: all that is not sure is sent again, before anything else."""
        if not self._taken:
            return
        unix_s, now_s = self._clock.unix(), self._clock.monotonic()
        for taken_s, ids in self._taken:
            self._forgotten.update(dict.fromkeys(ids, unix_s - (now_s - taken_s)))
        self._taken.clear()
        self._empty.clear()
        self._wanted.set()

    def answered(self, asked_s: float) -> None:
        """Redis did something that it was asked at ``asked_s``; what it had taken well before that, it has for good."""
        if asked_s - self._done_s < _DONE_EVERY_S:
            return
        self._done_s = asked_s
        sure: list[str] = []
        while self._taken and self._taken[0][0] + SURE_AFTER_S <= asked_s:
            sure += self._taken.popleft()[1]
        if sure:
            self._done(sure)

    def close(self) -> None:
        """No more will be sent: what Redis took counts as done."""
        self._done([request_id for _, ids in self._taken for request_id in ids])
        self._taken.clear()

    def _done(self, ids: list[str]) -> None:
        if self._unwritten:
            for request_id in ids:
                self._unwritten.pop(request_id, None)
        self._on_done(ids)

    async def drained(self) -> None:
        """Wait until Redis took all that was put."""
        self._wanted.set()
        await self._empty.wait()

    async def run(self) -> None:
        """Send, until cancelled. What is being sent then counts as not taken."""
        pause_s = _SHORTEST_PAUSE_S
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                if self._forgotten and self._clock.monotonic() >= self._look_s:
                    await self._bring_back()
                is_well = await self._send(self._next_batch())
            except StoreError as error:
                is_well = False
                if isinstance(error, StoreTimeout):
                    self._batch = max(1, self._batch // 2)  # perhaps it was too much for the time it has
            except Exception:  # noqa: BLE001 - a bug must not end all sending; the journal has what it met
                _log.exception("settlements could not be sent")
                is_well = False
            self._observer.queued(len(self._waiting))
            if not (self._waiting or self._forgotten):
                self._empty.set()
            elif not is_well or self._gathering is None:
                self._wanted.set()
            if is_well and not (self._forgotten and not self._waiting):
                pause_s = _SHORTEST_PAUSE_S
            else:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _bring_back(self) -> None:
        """Have what Redis may have forgotten wait again, before all else; what cannot be found, for another look."""
        forgotten, self._forgotten = self._forgotten, {}
        self._looks += 1
        found = {each: self._unwritten[each] for each in forgotten.keys() & self._unwritten.keys()}
        try:
            found |= {each.request_id: each for each in await self._recall(forgotten.keys() - found.keys())}
        finally:
            again = [found[request_id] for request_id in forgotten if request_id in found]
            self._waiting.extendleft(reversed(again))
            self._waiting_bytes += sum(map(_size, again))
            self._sent |= {each.request_id: forgotten[each.request_id] for each in again}
            self._look_again_for({each: at_s for each, at_s in forgotten.items() if each not in found})

    def _look_again_for(self, missing: dict[str, float]) -> None:
        if not missing:
            self._looks = 0
        elif self._looks < _LOOKS:
            self._forgotten = missing | self._forgotten
            self._look_s = self._clock.monotonic() + _LONGEST_PAUSE_S
        else:  # whoever finds the journal when this process has ended replays it
            self._looks = 0
            _log.error("%d settlements that Redis may have forgotten are not in the journal", len(missing))

    def _next_batch(self) -> list[Settlement]:
        return [self._waiting.popleft() for _ in range(min(self._batch, len(self._waiting)))]

    async def _send(self, batch: list[Settlement]) -> bool:
        """Whether all went well; what did not waits again. Raises StoreError."""
        asked_s, unix_s = self._clock.monotonic(), self._clock.unix()
        try:
            if self._sent:
                await self._look_up(too_old_to_ask(self._sent, unix_s))
            unknown = [each for each in batch if each.request_id not in self._known]
            answers = iter(await settled_or_refused(self._accounts, unknown) if unknown else [])
        except BaseException:
            self._waiting.extendleft(reversed(batch))
            for each in batch:
                self._sent.setdefault(each.request_id, unix_s)
            raise
        self._batch = min(2 * self._batch, _BATCH)
        outcomes: Counter[Outcome] = Counter()
        taken: list[str] = []
        again: list[Settlement] = []
        for settlement in batch:
            answer = "duplicate" if settlement.request_id in self._known else next(answers)
            if isinstance(answer, Exception):
                again.extend(self._refused(settlement, answer))
                continue
            outcomes[answer] += 1
            taken.append(settlement.request_id)
            self._waiting_bytes -= _size(settlement)
            if self._sent or self._known or self._refusals:
                self._forget(settlement.request_id)
        if taken:
            self._taken.append((self._clock.monotonic(), taken))
        for outcome, n in outcomes.items():
            self._observer.settled(outcome, n)
        self._waiting.extend(again)
        self.answered(asked_s)
        return not again

    async def _look_up(self, old: dict[str, float]) -> None:
        """Find out what Redis has of what it may have forgotten to have settled; the rest is as if never sent."""
        self._known |= await settled_long_ago(self._accounts, old)
        for request_id in old:
            del self._sent[request_id]

    def _forget(self, request_id: str) -> None:
        """It waits no longer."""
        self._sent.pop(request_id, None)
        self._known.discard(request_id)
        self._refusals.pop(request_id, None)

    def _refused(self, settlement: Settlement, why: Exception) -> list[Settlement]:
        """What is to be tried again: it, or nothing."""
        self._refusals[settlement.request_id] += 1
        if self._refusals[settlement.request_id] < REFUSALS:
            return [settlement]
        self._forget(settlement.request_id)
        self._unwritten.pop(settlement.request_id, None)
        self._waiting_bytes -= _size(settlement)
        self._observer.refused()
        self._on_refused(settlement, reason(why))
        return []


def _size(settlement: Settlement) -> int:
    return len(settlement.row) + 600  # the rest of it, about
