"""Commands that are put together from parts are what they would be if they were packed whole."""

import math
import struct

import hiredis
import pytest

from genkan.config.store import LedgerConfig
from genkan.store.account_commands import ADMIT, RENEW, SETTLE, AccountCommands, decision
from genkan.store.accounts import Admission, Amounts, Line, LineState, Plan, Settlement, Unit

BUCKET = Line("key/7", "bucket", Unit.REQUESTS, 3, 60.0, burst=5)
WINDOW = Line("tenant/a", "window", Unit.TOKENS, 1000, 0.25)
LEASE = Line("tenant/a", "lease", Unit.REQUESTS, 9, 12.5)
BUDGET = Line("a:total", "budget", Unit.BUDGET_NANO_USD, 10**15, math.inf)
PLAN = (BUCKET, WINDOW, LEASE, BUDGET)
LINES = ["p:gcra:key/7", "p:window:tenant/a", "p:lease:tenant/a", "p:budget:a:total"]
PACKED = b"".join(
    struct.pack("<cBdd", *line)
    for line in ((b"b", 1, 5, 2e7), (b"w", 2, 1000, 250_000), (b"l", 1, 9, 12_500), (b"$", 4, 10**15, 10**14))
)
ROW = '{"id":"ż"}'.encode()


@pytest.fixture
def commands() -> AccountCommands:
    return AccountCommands("p", LedgerConfig(keep_rows=2000, keep_days=2))


def test_admit(commands: AccountCommands) -> None:
    admission = Admission("ré\r\n1", PLAN, Amounts(1, 20, 30, 4000), ROW)
    whole = ADMIT.command(
        ["p:s:ré\r\n1", "p:reserved", "p:leases", *LINES],
        [PACKED, 12_500, "ré\r\n1", struct.pack("<4d", 1, 20, 30, 4000), ROW],
    )
    assert [commands.admit(admission) for _ in range(2)] == [whole, whole]


@pytest.mark.parametrize("plan", [PLAN, ()])
def test_settle(commands: AccountCommands, plan: Plan) -> None:
    settlement = Settlement("r", plan, Amounts(1, 2, 3, 4), Amounts(5, 6, 7, 10**16), ROW, was_admitted=False)
    keys = ["p:s:r", "p:reserved", "p:leases", "p:lost", "p:ledger", *(LINES if plan else [])]
    args: list[bytes | str | int] = [
        PACKED if plan else b"",
        2000,
        2 * 86_400_000,
        "r",
        0,
        struct.pack("<8d", 1, 2, 3, 4, 5, 6, 7, 10**16),
        ROW,
    ]
    assert commands.settle(settlement) == SETTLE.command(keys, args)


def test_without_a_lease_a_reservation_is_held_for_30_s(commands: AccountCommands) -> None:
    assert b"\r\n$5\r\n30000\r\n$1\r\nr\r\n" in commands.admit(Admission("r", (BUCKET, BUDGET), Amounts()))


def test_or_for_as_long_as_is_said() -> None:
    commands = AccountCommands("p", LedgerConfig(), hold_s=120.0)
    assert b"\r\n$6\r\n120000\r\n$1\r\nr\r\n" in commands.admit(Admission("r", (BUCKET, BUDGET), Amounts()))
    renewed = RENEW.command(["p:leases"], ["r", 120_000, 0])
    assert commands.renew([Admission("r", (BUCKET,), Amounts(), b"{}")]) == renewed


def test_plans_are_remembered_by_what_they_are_and_not_without_end(commands: AccountCommands) -> None:
    for number in range(5000):
        line = Line(f"n{number}", "bucket", Unit.REQUESTS, 1, 1.0, burst=1)
        assert b"p:gcra:n%d\r\n" % number in commands.admit(Admission("r", (line,), Amounts()))
    assert len(commands) <= 4096
    parsed = hiredis.Reader()
    parsed.feed(commands.admit(Admission("r", PLAN, Amounts())))
    assert len(parsed.gets()) == 3 + 7 + 5


def test_replies() -> None:
    told = decision((BUCKET, WINDOW), [2, 4, 0, 20_000_000, 0, -1, 250_000])
    assert told.denied is WINDOW
    assert [state.retry_s for state in told.states] == [0.0, math.inf]
    assert [state.reset_s for state in told.states] == [20.0, 0.25]
    assert told.states == (LineState(4, 0, 20_000_000), LineState(0, -1, 250_000))
    assert decision((), [0]).denied is None
