"""Ledgers of workers that can be let die."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from ledgers import FlakyAccounts

from genkan.clock import Clock, SystemClock
from genkan.gateway.journal import Journal
from genkan.gateway.ledger import Ledger
from genkan.store.accounts import Outcome


class Notes:
    """A LedgerObserver that remembers."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.waiting = 0

    def settled(self, outcome: Outcome, n: int) -> None:
        self.counts[outcome] += n

    def queued(self, n: int) -> None:
        self.waiting = n

    def left(self) -> None:
        self.counts["left"] += 1

    def refused(self) -> None:
        self.counts["refused"] += 1

    def lost(self, n: int) -> None:
        self.counts["lost"] += n

    def journal_failed(self) -> None:
        self.counts["journal_failed"] += 1


class Worker:
    """A ledger with its journal, that can be let die."""

    def __init__(
        self, accounts: FlakyAccounts, folder: Path, *, clock: Clock | None = None, lease_s: float = 30.0
    ) -> None:
        self.notes = Notes()
        self.journal = Journal(folder)
        self.ledger = Ledger(
            accounts,
            self.journal,
            clock=clock or SystemClock(),
            lease_s=lease_s,
            observer=self.notes,
            tend_every_s=0.02,
        )

    async def die(self) -> None:
        """As by ``kill -9``: nothing is said to anybody any more, and the kernel closes the files."""
        for task in self.ledger._tasks:
            task.cancel()
        await asyncio.gather(*self.ledger._tasks, return_exceptions=True)
        self.ledger._replayer.lost_ground()
        for segment in self.journal._segments:
            segment.close()


@asynccontextmanager
async def working(worker: Worker) -> AsyncGenerator[Ledger, None]:
    await worker.ledger.start()
    try:
        yield worker.ledger
    finally:
        await worker.ledger.aclose(drain_s=5.0)
