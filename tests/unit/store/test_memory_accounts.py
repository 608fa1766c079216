"""Accounts in memory: what is particular to them. What they have in common with those in Redis: tests/contract."""

import math

import pytest
from hand_clock import HandClock

from genkan.config.store import LedgerConfig
from genkan.errors import StoreRefused
from genkan.store.accounts import Admission, Amounts, Decision, Line, LineState, Plan, Settlement, Unit
from genkan.store.memory_accounts import MemoryAccounts

pytestmark = pytest.mark.anyio

REQUESTS = Line("requests", "bucket", Unit.REQUESTS, limit=60, window_s=60.0, burst=10)
TOKENS = Line("tokens", "window", Unit.TOKENS, limit=1000, window_s=60.0)
RUNNING = Line("running", "lease", Unit.REQUESTS, limit=4, window_s=30.0)
BUDGET = Line("budget", "budget", Unit.BUDGET_NANO_USD, limit=500, window_s=86400.0)
PLAN = (REQUESTS, TOKENS, RUNNING, BUDGET)
EACH = Amounts(1, 100, 100, 50)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def accounts(clock: HandClock) -> MemoryAccounts:
    return MemoryAccounts(clock, ledger=LedgerConfig())


async def admit(
    accounts: MemoryAccounts, request_id: str, plan: Plan = PLAN, amounts: Amounts = EACH, draft: bytes = b""
) -> Decision:
    return await accounts.admit(Admission(request_id, plan, amounts, draft), timeout_s=0.1)


async def remaining(accounts: MemoryAccounts, plan: Plan = PLAN) -> list[int]:
    return [state.remaining for state in await accounts.read(plan)]


# Memory


async def test_clients_that_are_idle_leave_nothing_behind(clock: HandClock, accounts: MemoryAccounts) -> None:
    for n in range(500):
        plan = tuple(
            Line(f"{n}:{line.key}", line.kind, line.unit, line.limit, line.window_s, line.burst) for line in PLAN
        )
        await admit(accounts, f"r{n}", plan, draft=b"{}")
    assert len(accounts) == 500 * 5
    clock.advance(2 * 86400.0)
    while await accounts.close_lost():
        pass
    for _ in range(3):
        await accounts.close_lost()
    assert len(accounts) == 500  # the ids of what was lost, for eight days
    clock.advance(8 * 86400.0)
    await accounts.close_lost()
    assert len(accounts) == 0


async def test_idle_clients_make_room_for_new_ones_while_nobody_else_cleans_up(
    clock: HandClock, accounts: MemoryAccounts
) -> None:
    most = 0
    for n in range(5000):
        await admit(accounts, f"r{n}", (Line(f"{n}", "bucket", Unit.REQUESTS, limit=1, window_s=1.0, burst=1),))
        clock.advance(0.01)
        most = max(most, len(accounts))
    assert most <= 2 * 100  # a hundred are not idle at any time


async def test_what_is_not_idle_is_never_dropped(clock: HandClock, accounts: MemoryAccounts) -> None:
    await admit(accounts, "held")
    for _ in range(50):
        await accounts.close_lost()
    assert await remaining(accounts) == [9, 900, 3, 450]


async def test_settlements_are_remembered_for_two_minutes(clock: HandClock, accounts: MemoryAccounts) -> None:
    ended = Settlement("r", PLAN, EACH, EACH, b"")
    await admit(accounts, "r")
    assert await accounts.settle([ended, ended]) == ["settled", "duplicate"]
    clock.advance(119.9)
    assert await accounts.settle([ended]) == ["duplicate"]
    clock.advance(0.1)
    assert await accounts.settle([ended]) == ["settled"]


async def test_reading_remembers_nothing(accounts: MemoryAccounts) -> None:
    assert await remaining(accounts) == [10, 1000, 4, 500]
    assert len(accounts) == 0


async def test_a_limit_that_was_changed_applies_to_what_was_taken_before(accounts: MemoryAccounts) -> None:
    await admit(accounts, "r")
    changed = (
        Line("requests", "bucket", Unit.REQUESTS, limit=7, window_s=1.0, burst=5),
        Line("tokens", "window", Unit.TOKENS, limit=150, window_s=60.0),
        Line("running", "lease", Unit.REQUESTS, limit=1, window_s=30.0),
        Line("budget", "budget", Unit.BUDGET_NANO_USD, limit=60, window_s=86400.0),
    )
    assert await remaining(accounts, changed) == [4, 50, 0, 10]
    denied = (await admit(accounts, "s", changed)).denied
    assert denied is not None
    assert denied.key == "tokens"


# Rows


async def test_the_ledger_keeps_its_newest_rows(clock: HandClock) -> None:
    accounts = MemoryAccounts(clock, ledger=LedgerConfig(keep_rows=1000))
    rows = [b'{"id":"%d"}' % n for n in range(1500)]
    await accounts.settle([Settlement(f"{n}", (), EACH, EACH, row) for n, row in enumerate(rows)])
    kept = await accounts.rows(at_most=2000)
    assert [row for _, row in kept] == rows[500:]
    assert await accounts.rows(kept[-3][0]) == kept[-2:]


async def test_the_ledger_drops_rows_that_are_too_old(clock: HandClock) -> None:
    accounts = MemoryAccounts(clock, ledger=LedgerConfig(keep_days=1))
    for n in range(3):
        await accounts.settle([Settlement(f"{n}", (), EACH, EACH, b'{"id":"%d"}' % n)])
        clock.advance(43200.0)
    assert [row for _, row in await accounts.rows()] == [b'{"id":"1"}', b'{"id":"2"}']


async def test_a_cursor_older_than_the_ledger_is_its_beginning(clock: HandClock) -> None:
    accounts = MemoryAccounts(clock, ledger=LedgerConfig(keep_rows=1000))
    await accounts.settle([Settlement("first", (), EACH, EACH, b'{"id":"first"}')])
    ((cursor, _),) = await accounts.rows()
    await accounts.settle([Settlement(f"{n}", (), EACH, EACH, b'{"id":"%d"}' % n) for n in range(1100)])
    assert (await accounts.rows(cursor, at_most=1))[0][1] == b'{"id":"100"}'


async def test_what_is_no_cursor_is_refused(accounts: MemoryAccounts) -> None:
    with pytest.raises(StoreRefused):
        await accounts.rows("nonsense")


# A share of limits, for when each worker goes on by itself


async def test_a_share_applies_to_rates_and_leases_and_not_to_budgets(clock: HandClock) -> None:
    half = MemoryAccounts(clock, ledger=LedgerConfig(), share=0.5)
    assert await remaining(half) == [5, 500, 2, 500]
    for n in range(5):
        await admit(half, f"{n}", (REQUESTS,))
    denied = await admit(half, "denied", (REQUESTS,))
    assert denied.denied == REQUESTS
    assert denied.states[0].retry_s == 2.0  # one a second for all, so one in two for each of two


async def test_what_fits_a_limit_but_not_the_share_of_it_has_to_be_alone(clock: HandClock) -> None:
    tenth = MemoryAccounts(clock, ledger=LedgerConfig(), share=0.1)
    bucket = Line("bucket", "bucket", Unit.TOKENS, limit=1000, window_s=60.0, burst=1000)
    for line in (TOKENS, bucket):
        assert (await admit(tenth, "large", (line,), Amounts(1, 800))).denied is None
        (state,) = (await admit(tenth, "next", (line,), Amounts(1, 1))).states
        assert 0 < state.retry_s < math.inf
        (never,) = (await admit(tenth, "never", (line,), Amounts(1, 1001))).states
        assert never.retry_s == math.inf
    clock.advance(60.0)
    assert (await admit(tenth, "later", (TOKENS,), Amounts(1, 800))).denied is None
    assert (await admit(tenth, "later", (bucket,), Amounts(1, 1))).denied == bucket  # 800 are back after 480 s
    clock.advance(420.1)
    assert (await admit(tenth, "latest", (bucket,), Amounts(1, 1))).denied is None


async def test_the_smallest_share_still_lets_something_through(clock: HandClock) -> None:
    mite = MemoryAccounts(clock, ledger=LedgerConfig(), share=1e-6)
    assert (await admit(mite, "r", (REQUESTS, TOKENS, RUNNING))).denied is None


async def test_leases_that_do_not_run_out_are_held_until_they_are_settled(clock: HandClock) -> None:
    local = MemoryAccounts(clock, ledger=LedgerConfig(), share=0.5, leases_run_out=False)
    for request_id in ("a", "b"):
        assert (await admit(local, request_id, (RUNNING,))).denied is None
    clock.advance(86400.0)
    await local.close_lost()
    denied = await admit(local, "c", (RUNNING,))
    assert denied == Decision(RUNNING, (LineState(0, 30_000_000, 30_000_000),))
    changed = Line("running", "lease", Unit.REQUESTS, limit=6, window_s=10.0)
    assert await local.read((changed,)) == [LineState(1, 0, 10_000_000)]
    await local.settle([Settlement(request_id, (RUNNING,), EACH, EACH, b"") for request_id in ("a", "b")])
    assert await local.read((RUNNING,)) == [LineState(2, 0, 0)]
    clock.advance(121.0)
    await local.close_lost()
    assert len(local) == 0


async def test_without_a_lease_a_request_is_lost_after_as_long_as_is_said(clock: HandClock) -> None:
    accounts = MemoryAccounts(clock, ledger=LedgerConfig(), hold_s=120.0)
    admission = Admission("r", (REQUESTS,), EACH, b"{}")
    await accounts.admit(admission)
    clock.advance(119.0)
    await accounts.renew([admission])
    clock.advance(119.0)
    assert await accounts.close_lost() == 0
    clock.advance(1.0)
    assert await accounts.close_lost() == 1


@pytest.mark.parametrize("share", [0.0, -1.0, 1.1, math.nan])
async def test_a_share_is_a_part(clock: HandClock, share: float) -> None:
    with pytest.raises(ValueError, match="share must be above 0 and at most 1"):
        MemoryAccounts(clock, ledger=LedgerConfig(), share=share)
