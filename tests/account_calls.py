"""Lines of each kind, and short ways to ask accounts for something."""

import asyncio
import json

from account_rigs import PATIENT_S, Rig

from genkan.store.accounts import (
    Accounts,
    Admission,
    Amounts,
    Decision,
    Line,
    LineState,
    Outcome,
    Plan,
    Settlement,
    Unit,
)

HOUR_S = 3600.0
WITHIN_S = 5.0  # of what is told later; a slow machine makes it less, and never that much
ONE, NOTHING = Amounts(), Amounts(0)


def bucket(limit: int, window_s: float = HOUR_S, *, burst: int | None = None, unit: Unit = Unit.REQUESTS) -> Line:
    return Line("a", "bucket", unit, limit, window_s, limit if burst is None else burst)


def window(limit: int, window_s: float = HOUR_S, unit: Unit = Unit.REQUESTS) -> Line:
    return Line("a", "window", unit, limit, window_s)


def lease(limit: int, window_s: float = HOUR_S) -> Line:
    return Line("a", "lease", Unit.REQUESTS, limit, window_s)


def budget(limit: int, window_s: float = HOUR_S) -> Line:
    return Line("a:2026-11", "budget", Unit.BUDGET_TOKENS, limit, window_s)


def row(request_id: str, state: str = "ok") -> bytes:
    return json.dumps({"id": request_id, "state": state}, separators=(",", ":")).encode()


async def admit(
    accounts: Accounts, request_id: str, plan: Plan, amounts: Amounts = ONE, *, draft: bool = False
) -> Decision:
    kept = row(request_id, "lost") if draft else b""
    return await accounts.admit(Admission(request_id, plan, amounts, kept), timeout_s=PATIENT_S)


async def race(rig: Rig, plan: Plan, amounts: Amounts = ONE, *, name: str = "r", clients: int = 200) -> list[str]:
    """The ids of those that were admitted, of so many who ask two workers at once."""
    ids = [f"{name}{number}" for number in range(clients)]
    asked = [admit((rig.accounts, rig.other)[place % 2], id_, plan, amounts) for place, id_ in enumerate(ids)]
    decisions = await asyncio.gather(*asked)
    return [id_ for id_, decision in zip(ids, decisions, strict=True) if decision.denied is None]


async def settle(
    accounts: Accounts,
    request_id: str,
    plan: Plan,
    reserved: Amounts = ONE,
    actual: Amounts = ONE,
    *,
    has_row: bool = False,
    was_admitted: bool = True,
) -> Outcome:
    written = row(request_id) if has_row else b""
    [outcome] = await accounts.settle([Settlement(request_id, plan, reserved, actual, written, was_admitted)])
    return outcome


async def state(rig: Rig, line: Line) -> LineState:
    [of_line] = await rig.other.read((line,))
    return of_line


async def ledger(rig: Rig) -> list[dict[str, object]]:
    return [json.loads(written) for _, written in await rig.accounts.rows()]
