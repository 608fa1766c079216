"""Requests to be settled, accounts that fail as they are told, and what a ledger's rows say."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from genkan.clock import Clock
from genkan.config.store import LedgerConfig
from genkan.errors import StoreLost, StoreRefused, StoreTimeout
from genkan.store.accounts import Accounts, Admission, Amounts, Line, Outcome, Settlement, Unit
from genkan.store.memory_accounts import MemoryAccounts

PLAN = (
    Line("t:acme:r", "bucket", Unit.REQUESTS, 10**9, 60.0, burst=10**9, scope="tenant 'acme'"),
    Line("t:acme:c", "lease", Unit.REQUESTS, 10**6, 30.0, is_own=False),
    Line("t:acme:usd", "budget", Unit.BUDGET_NANO_USD, 10**12, 86400.0),
)
RESERVED = Amounts(1, 10, 20, 300)
ACTUAL = Amounts(1, 7, 7, 100)
WAIT_S = 20.0  # how long a test waits for what takes milliseconds


def admission(request_id: str) -> Admission:
    draft: dict[str, Any] = {"id": request_id, "state": "lost", "usage": None, "cost_nano_usd": None, "attempts": []}
    return Admission(request_id, PLAN, RESERVED, orjson.dumps(draft))


def settlement(request_id: str, *, was_admitted: bool = True) -> Settlement:
    row: dict[str, Any] = {"id": request_id, "state": "ok", "cost_nano_usd": 100, "attempts": [{"n": 1, "state": "ok"}]}
    return Settlement(request_id, PLAN, RESERVED, ACTUAL, orjson.dumps(row), was_admitted)


async def rows_of(accounts: Accounts) -> dict[str, list[dict[str, Any]]]:
    """Every row of the ledger, by the request's id."""
    rows: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    cursor = ""
    while page := await accounts.rows(cursor):
        cursor = page[-1][0]
        for _, raw in page:
            row = orjson.loads(raw)
            rows[row["id"]].append(row)
    return rows


def one_each(rows: dict[str, list[dict[str, Any]]]) -> set[str]:
    """The ids in ``rows``, each with one row."""
    assert {request_id: found for request_id, found in rows.items() if len(found) != 1} == {}
    return set(rows)


async def eventually(is_so: Callable[[], bool]) -> None:
    """Wait, but not for ever, until it is so."""
    deadline_s = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < deadline_s, "it never came to be so"
        await asyncio.sleep(0.002)


class FlakyAccounts(MemoryAccounts):
    """Accounts that fail as the next of ``faults`` says, and those in ``poison`` always.

    ``lost``: not done, ``timeout``: done but nobody is told, ``half``: half of it is done, ``oom``: Redis is full,
    ``ok``: done. While it ``is_down``, nothing is.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock, ledger=LedgerConfig())
        self.faults: list[str] = []
        self.poison: dict[str, Exception] = {}
        self.is_down = False
        self.asked: list[list[str]] = []  # ids of each call
        self.renewed: list[str] = []

    async def settle(self, settlements: Sequence[Settlement]) -> list[Outcome]:
        self.asked.append([each.request_id for each in settlements])
        was_down = self.is_down
        await asyncio.sleep(0)
        if self.is_down or was_down:
            raise StoreLost("gone")
        for each in settlements:
            if each.request_id in self.poison:
                raise self.poison[each.request_id]
        fault = self.faults.pop(0) if self.faults else "ok"
        if fault == "lost":
            raise StoreLost("gone")
        if fault == "oom":
            raise StoreRefused("OOM command not allowed when used memory > 'maxmemory'")
        if fault == "half":
            await super().settle(settlements[: len(settlements) // 2])
            raise StoreLost("gone")
        outcomes = await super().settle(settlements)
        if fault == "timeout":
            raise StoreTimeout("no answer")
        return outcomes

    async def close_lost(self, *, at_most: int = 100) -> int:
        if self.is_down:
            raise StoreLost("gone")
        return await super().close_lost(at_most=at_most)

    async def renew(self, admissions: Sequence[Admission]) -> None:
        if self.is_down:
            raise StoreLost("gone")
        self.renewed += [each.request_id for each in admissions]
        await super().renew(admissions)
