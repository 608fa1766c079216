"""Accounts in memory that are slow or gone when they are told to be."""

import asyncio

from genkan.clock import Clock
from genkan.config.store import LedgerConfig
from genkan.errors import StoreLost, StoreRefused, StoreTimeout
from genkan.store.accounts import Admission, Decision
from genkan.store.memory_accounts import MemoryAccounts


class UnsteadyAccounts(MemoryAccounts):
    """``admit`` does as the next of ``faults`` says, and the last of them goes on.

    ``ok``: done; ``lost``: not done; ``timeout``: done, but nobody is told; ``late``: done after somebody was told that
    it took too long; ``broken``: the same, as the connection was given up; ``refused``: Redis is full; ``hangs``: done,
    and never answered.
    """

    def __init__(self, clock: Clock, *faults: str) -> None:
        super().__init__(clock, ledger=LedgerConfig())
        self.faults = list(faults or ("ok",))
        self.asked: list[Admission] = []
        self.limits_s: list[float] = []
        self.hanging = asyncio.Event()
        self.late: list[Admission] = []

    async def admit(self, admission: Admission, *, timeout_s: float = 1.0) -> Decision:
        self.asked.append(admission)
        self.limits_s.append(timeout_s)
        fault = self.faults.pop(0) if len(self.faults) > 1 else self.faults[0]
        if fault == "lost":
            raise StoreLost("gone")
        if fault == "refused":
            raise StoreRefused("OOM command not allowed when used memory > 'maxmemory'")
        if fault in ("late", "broken"):
            self.late.append(admission)
            raise StoreTimeout("no answer") if fault == "late" else StoreLost("silent for long", was_sent=True)
        decision = await super().admit(admission, timeout_s=timeout_s)
        if fault == "timeout":
            raise StoreTimeout("no answer")
        if fault == "hangs":
            self.hanging.set()
            await asyncio.Event().wait()
        return decision

    async def catch_up(self) -> None:
        """Do what came too late."""
        for admission in self.late:
            await super().admit(admission)
