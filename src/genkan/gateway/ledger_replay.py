"""What dead workers left in the journal, settled."""

import asyncio
import logging
from pathlib import Path

from genkan.clock import Clock
from genkan.gateway.journal import Journal
from genkan.gateway.journal_records import Contents, Unfinished, contents_of
from genkan.gateway.ledger_observer import LedgerObserver
from genkan.gateway.outbox import settled_or_refused
from genkan.gateway.segment import Orphan
from genkan.store.accounts import Accounts

_BATCH = 100
#: Redis knows for 120 s by itself what it settled; older ones are looked up among the ledger's rows.
_KNOWN_S = 100.0
_CLOCKS_DIFFER_S = 60.0  # at most, between this machine and Redis'

_log = logging.getLogger("genkan.gateway")


class Replayer:
    """Settles what segments say that nobody holds any more. Any number of workers may do so at the same time."""

    def __init__(self, journal: Journal, accounts: Accounts, *, clock: Clock, observer: LedgerObserver) -> None:
        self._journal = journal
        self._accounts = accounts
        self._clock = clock
        self._observer = observer

    async def replay(self) -> None:
        """Replay and delete every segment whose writer is gone. Reads files in a thread. Raises StoreError, OSError.

        A request that was settled there is settled so; one that had begun and was not is settled as lost.
        """
        for path in await asyncio.to_thread(self._journal.orphans):
            orphan = Orphan.take(path)
            if orphan is None:
                continue
            try:
                await self._settle(path, await asyncio.to_thread(_contents, orphan))
                orphan.remove()
            finally:
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
                self._journal.set_aside(each.settlement, str(answer) or type(answer).__name__)
                continue
            self._observer.settled(answer, 1)
            lost += each.is_lost and answer != "duplicate"
        self._observer.lost(lost)
        return lost

    async def _unknown(self, unfinished: list[Unfinished]) -> list[Unfinished]:
        """Those that Redis does not have, or can be asked to settle in any case."""
        now_s = self._clock.unix()
        old = [each for each in unfinished if each.unix_s < now_s - _KNOWN_S]
        if not old:
            return unfinished
        since_s = min(each.unix_s for each in old) - _CLOCKS_DIFFER_S
        known = await self._accounts.already_settled([each.settlement.request_id for each in old], since_s=since_s)
        return [each for each in unfinished if each.settlement.request_id not in known]


def _contents(orphan: Orphan) -> Contents:
    return contents_of(orphan.read())
