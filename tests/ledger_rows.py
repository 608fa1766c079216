"""Rows as the gateway writes them, and ledgers that hold them."""

import json
from collections.abc import Sequence
from typing import Any

from genkan.config import LedgerConfig
from genkan.store.accounts import Accounts, Amounts, Settlement
from genkan.store.memory_accounts import MemoryAccounts

DAY_1 = 1_795_996_800.0  # 2026-11-30, midnight UTC


class LedgerClock:
    """Noon of that day, until it is moved."""

    def __init__(self) -> None:
        self.passed_s = 0.0

    def monotonic(self) -> float:
        return self.passed_s

    def unix(self) -> float:
        return DAY_1 + 43_200 + self.passed_s


def attempt(n: int = 1, deployment: str = "gpt-4.1@openai", **changes: Any) -> dict[str, Any]:
    """An attempt that answered 10 tokens with 5, of which 4 were cached."""
    return {
        "n": n,
        "deployment": deployment,
        "state": "ok",
        "usage": {"prompt": 10, "completion": 5, "cached": 4, "cache_write": 0},
        "estimated": False,
        "cost_nano_usd": 54_000,
        "seconds": 0.25,
    } | changes


def failed(n: int = 1, deployment: str = "gpt-4.1@openai") -> dict[str, Any]:
    """An attempt that was never answered."""
    return attempt(n, deployment, state="upstream_unreachable", usage=None, cost_nano_usd=None)


def row(name: str = "req_1", **changes: Any) -> bytes:
    """A request of tenant acme that its only attempt answered; billed as the attempt is."""
    attempts = changes.pop("attempts", [attempt()])
    answered = attempts[-1] if attempts else attempt()
    fields = {
        "id": name,
        "t": DAY_1 + 60,
        "tenant": "acme",
        "key": "key_1",
        "route": "default",
        "stream": False,
        "state": answered["state"],
        "usage": answered["usage"],
        "estimated": False,
        "cost_nano_usd": answered["cost_nano_usd"],
        "saved_nano_usd": 6_000 if answered["usage"] else 0,
        "answered": len(attempts) if answered["usage"] and attempts else None,
        "attempts": attempts,
    }
    return json.dumps(fields | changes, separators=(",", ":")).encode()


def stored_row(name: str = "req_1", tier: str = "exact", **changes: Any) -> bytes:
    """A request that got the answer of `attempt`, stored."""
    stored = {"tier": tier, "deployment": "gpt-4.1@openai"}
    usage = attempt()["usage"]
    changes = {"usage": usage, "cost_nano_usd": 0, "saved_nano_usd": 54_000, "answered": None} | changes
    return row(name, attempts=[], stored=stored, **changes)


def lost_row(name: str = "req_1", **changes: Any) -> bytes:
    """What stands for a request whose worker died."""
    return row(name, state="lost", usage=None, cost_nano_usd=None, saved_nano_usd=0, attempts=[], **changes)


def numbered(*rows: bytes) -> list[tuple[str, bytes]]:
    """The rows with cursors, as a ledger gives them."""
    return [(f"1-{place}", raw) for place, raw in enumerate(rows, 1)]


def memory_ledger(clock: LedgerClock | None = None) -> MemoryAccounts:
    """An empty one."""
    return MemoryAccounts(clock or LedgerClock(), ledger=LedgerConfig())


async def append(accounts: Accounts, rows: Sequence[bytes]) -> None:
    """Settle requests that nothing was taken for, so that these are their rows."""
    none = Amounts(requests=0)
    await accounts.settle([Settlement(json.loads(raw)["id"], (), none, none, raw, was_admitted=False) for raw in rows])
