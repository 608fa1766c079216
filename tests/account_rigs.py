"""Accounts of every kind behind one face, for tests that hold for all of them."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable

from genkan.config.store import LedgerConfig
from genkan.store.accounts import Accounts
from genkan.store.address import parse_address
from genkan.store.memory_accounts import MemoryAccounts
from genkan.store.redis_accounts import RedisAccounts
from genkan.store.resp import RespClient

KEEP_ROWS = 1000
PREFIX = "genkan-test"
WAIT_S = 10.0  # how long anything here waits for something that is soon there
PATIENT_S = 5.0  # a timeout that only a broken server reaches
_LEDGER = LedgerConfig(keep_rows=KEEP_ROWS)


class Rig(ABC):
    """Accounts, and what a test needs to know of where they are kept."""

    accounts: Accounts
    other: Accounts  # the same, as another worker sees them

    @abstractmethod
    def now_s(self) -> float:
        """A monotonic clock of which the accounts' own runs neither ahead nor behind."""

    @abstractmethod
    def unix_s(self) -> float:
        """The accounts' own time."""

    @abstractmethod
    async def advance(self, seconds: float) -> None:
        """Let so much time go by."""

    @abstractmethod
    async def leftovers(self) -> int:
        """How much is kept besides the ledger, apart from marks that are sure to expire within 120 s."""


class MemoryRig(Rig):
    """In memory, with time that stands still until it is told."""

    def __init__(self) -> None:
        self._passed_s = 0.0
        self.accounts: Accounts = MemoryAccounts(self, ledger=_LEDGER)
        self.other = self.accounts

    def monotonic(self) -> float:
        return 1000.0 + self._passed_s

    def unix(self) -> float:
        return 1.8e9 + self._passed_s

    now_s = monotonic
    unix_s = unix

    async def advance(self, seconds: float) -> None:
        self._passed_s += seconds

    async def leftovers(self) -> int:
        assert isinstance(self.accounts, MemoryAccounts)
        await self.advance(120.001)
        await self.accounts.settle([])
        await self.accounts.close_lost()
        return len(self.accounts)


class RedisRig(Rig):
    """On a real Redis, with two clients; time is time."""

    def __init__(self, url: str) -> None:
        self.clients = [RespClient(parse_address(url), connect_s=PATIENT_S, timeout_s=PATIENT_S) for _ in range(2)]
        self.accounts, self.other = (RedisAccounts(client, prefix=PREFIX, ledger=_LEDGER) for client in self.clients)

    async def start(self) -> None:
        for client in self.clients:
            await client.start()
        await self.clients[0].call("FLUSHALL")

    async def aclose(self) -> None:
        for client in self.clients:
            await client.aclose()

    def under(self, prefix: str) -> Accounts:
        """Others on the same Redis."""
        return RedisAccounts(self.clients[0], prefix=prefix, ledger=_LEDGER)

    def now_s(self) -> float:
        return time.monotonic()

    def unix_s(self) -> float:
        return time.time()

    async def advance(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def leftovers(self) -> int:
        return len([key for key in await self.keys() if not await self._is_mark(key)])

    async def keys(self) -> list[bytes]:
        keys: list[bytes] = await self.clients[0].call("KEYS", "*")
        return [key for key in keys if key != f"{PREFIX}:ledger".encode()]

    async def _is_mark(self, key: bytes) -> bool:
        expires_s = await self.clients[0].call("TTL", key)
        return key.startswith(f"{PREFIX}:s:".encode()) and 0 < expires_s <= 120


async def until(rig: Rig, condition: Callable[[], Awaitable[bool]], step_s: float = 0.01) -> None:
    """Let time go by until ``condition`` is true, `WAIT_S` at most."""
    deadline_s = rig.now_s() + WAIT_S
    while not await condition():
        assert rig.now_s() < deadline_s, "it did not come about in time"
        await rig.advance(step_s)
