"""What dead workers left in the journal, settled.

A segment that was replayed is kept, and held, until Redis has for good what it says: a Redis that is killed may forget
its last second. If it was, the segment is let go, and so found and replayed again.
"""

import asyncio
import logging
from collections import deque
from pathlib import Path

from genkan.clock import Clock
from genkan.gateway.journal import Journal
from genkan.gateway.journal_records import Contents, Unfinished, contents_of
from genkan.gateway.ledger_observer import LedgerObserver
from genkan.gateway.outbox import SURE_AFTER_S
from genkan.gateway.segment import Orphan
from genkan.gateway.settling import reason, settled_long_ago, settled_or_refused, too_old_to_ask
from genkan.store.accounts import Accounts

_BATCH = 100

_log = logging.getLogger("genkan.gateway")


class Replayer:
    """Settles what segments say that nobody holds any more. Any number of workers may do so at the same time."""

    def __init__(self, journal: Journal, accounts: Accounts, *, clock: Clock, observer: LedgerObserver) -> None:
        self._journal = journal
        self._accounts = accounts
        self._clock = clock
        self._observer = observer
        self._restarts = 0  # of Redis
        self._replayed: deque[tuple[float, Orphan]] = deque()  # with when Redis had taken all of it

    async def replay(self) -> None:
        """Replay every segment whose writer is gone, and delete those that were long enough ago. Raises StoreError.

        A request that was settled there is settled so; one that had begun and was not is settled as lost. Reads files
        in a thread.
        """
        paths = await asyncio.to_thread(self._journal.orphans)
        if paths:
            asked_s = self._clock.monotonic()
            await self._accounts.rows(at_most=1)  # raises if Redis is away, before a segment is read in vain
            while self._replayed and self._replayed[0][0] + SURE_AFTER_S <= asked_s:
                _remove(self._replayed.popleft()[1])
        for path in paths:
            try:
                if (orphan := Orphan.take(path)) is not None:
                    await self._replay(orphan)
            except OSError as error:
                _log.warning("%s cannot be replayed: %s", path, error)

    def lost_ground(self) -> None:
        """Redis may have forgotten what it took last: all that is not sure is to be replayed again."""
        self._restarts += 1
        while self._replayed:
            self._replayed.popleft()[1].release()

    def close(self) -> None:
        """Nothing is replayed any more, and Redis is well: what it took counts as done."""
        while self._replayed:
            _remove(self._replayed.popleft()[1])

    async def _replay(self, orphan: Orphan) -> None:
        restarts = self._restarts
        try:
            await self._settle(orphan.path, await asyncio.to_thread(_contents, orphan))
        except BaseException:
            orphan.release()
            raise
        if restarts == self._restarts:
            self._replayed.append((self._clock.monotonic(), orphan))
        else:
            orphan.release()

    async def _settle(self, path: Path, contents: Contents) -> None:
        unfinished = await self._unknown(contents.unfinished)
        lost = 0
        for first in range(0, len(unfinished), _BATCH):
            lost += await self._settle_batch(unfinished[first : first + _BATCH])
        if unfinished or contents.damaged:
            _log.warning(
                "replayed %s: %d requests to settle, of them %d lost; %d damaged records",
                *(path.name, len(unfinished), lost, contents.damaged),
            )

    async def _settle_batch(self, batch: list[Unfinished]) -> int:
        """How many of them are lost."""
        lost = 0
        answers = await settled_or_refused(self._accounts, [each.settlement for each in batch])
        for each, answer in zip(batch, answers, strict=True):
            if isinstance(answer, Exception):
                self._observer.refused()
                self._journal.set_aside(each.settlement, reason(answer))
                continue
            self._observer.settled(answer, 1)
            lost += each.is_lost and answer != "duplicate"
        self._observer.lost(lost)
        return lost

    async def _unknown(self, unfinished: list[Unfinished]) -> list[Unfinished]:
        """Without those that Redis settled so long ago that it would settle them again."""
        asked = {each.settlement.request_id: each.unix_s for each in unfinished}
        known = await settled_long_ago(self._accounts, too_old_to_ask(asked, self._clock.unix()))
        return [each for each in unfinished if each.settlement.request_id not in known]


def _remove(orphan: Orphan) -> None:
    try:
        orphan.remove()
    except OSError as error:  # it will be replayed again, and found to be settled
        _log.warning("%s cannot be deleted: %s", orphan.path, error)
        orphan.release()


def _contents(orphan: Orphan) -> Contents:
    return contents_of(orphan.read())
