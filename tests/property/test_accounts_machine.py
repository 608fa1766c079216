"""Accounts in memory in any order of calls, against a model that keeps every request and adds it all up each time."""

from collections.abc import Coroutine
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeVar

import orjson
from hand_clock import HandClock
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from genkan.config.store import LedgerConfig
from genkan.store.accounts import Admission, Amounts, Line, Settlement, Unit
from genkan.store.memory_accounts import SETTLED_KEPT_S, MemoryAccounts

T = TypeVar("T")

BUCKET = Line("bucket", "bucket", Unit.TOKENS, limit=7, window_s=4.0, burst=20)
WINDOW = Line("window", "window", Unit.TOKENS, limit=30, window_s=8.0)
LEASE = Line("lease", "lease", Unit.REQUESTS, limit=3, window_s=5.0)
BUDGET = Line("budget", "budget", Unit.BUDGET_TOKENS, limit=120, window_s=1e6)
PLAN = (BUCKET, WINDOW, LEASE, BUDGET)
PAUSES_S = st.sampled_from([0.25, 0.5, 1.0, 3.0, 5.0, 8.0])


def result(call: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns that never waits."""
    try:
        call.send(None)
    except StopIteration as stopped:
        value: T = stopped.value
        return value
    raise AssertionError("it waited")


@dataclass
class Known:
    """What the model knows of one request that was admitted, or that was settled without."""

    admitted_s: float
    reserved: int
    held_until_s: float  # its lease and its reservation
    cost: int  # reserved, then actual
    state: str = "open"  # lost, settled
    settled_s: float = 0.0


class AccountsMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = HandClock()
        self.accounts = MemoryAccounts(self.clock, ledger=LedgerConfig())
        self.known: dict[str, Known] = {}
        self.rows: list[dict[str, object]] = []
        self.owed = Fraction(0)  # of the bucket

    @property
    def now_s(self) -> float:
        return self.clock.monotonic()

    def spent(self) -> int:
        return sum(known.cost for known in self.known.values())

    def in_window(self) -> int:
        return sum(known.cost for known in self.known.values() if self.now_s < known.admitted_s + WINDOW.window_s)

    def running(self) -> int:
        return sum(known.state == "open" and self.now_s < known.held_until_s for known in self.known.values())

    def ids(self, *states: str) -> list[str]:
        return [request_id for request_id, known in self.known.items() if known.state in states]

    def settled(self, request_id: str, reserved: int, actual: int, *, was_admitted: bool = True) -> str:
        row = orjson.dumps({"id": request_id, "state": "ok"})
        before, after = Amounts(1, reserved, reserved), Amounts(1, actual, actual)
        (outcome,) = result(self.accounts.settle([Settlement(request_id, PLAN, before, after, row, was_admitted)]))
        return outcome

    @rule(pause_s=PAUSES_S)
    def time_goes_by(self, pause_s: float) -> None:
        self.clock.advance(pause_s)
        self.owed = max(Fraction(0), self.owed - Fraction(pause_s) * BUCKET.limit / Fraction(BUCKET.window_s))

    @rule(tokens=st.integers(1, 22))
    def admit(self, tokens: int) -> None:
        has = [
            (BUCKET, self.owed + tokens <= BUCKET.burst),
            (WINDOW, self.in_window() + tokens <= WINDOW.limit),
            (LEASE, self.running() < LEASE.limit),
            (BUDGET, self.spent() + tokens <= BUDGET.limit),
        ]
        lacking = [line for line, enough in has if not enough]
        request_id = f"r{len(self.known)}"
        draft = orjson.dumps({"id": request_id, "state": "lost"})
        admission = Admission(request_id, PLAN, Amounts(1, tokens, tokens), draft)
        decision = result(self.accounts.admit(admission, timeout_s=1.0))
        assert decision.denied == (lacking[0] if lacking else None)
        if not lacking:
            self.known[request_id] = Known(self.now_s, tokens, self.now_s + LEASE.window_s, tokens)
            self.owed += tokens

    @precondition(lambda self: self.ids("open", "lost"))
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        request_id = data.draw(st.sampled_from(self.ids("open", "lost")))
        known = self.known[request_id]
        actual = data.draw(st.integers(0, known.reserved))
        is_late = known.state == "lost"
        assert self.settled(request_id, known.reserved, actual) == ("late" if is_late else "settled")
        known.state, known.cost, known.settled_s = "settled", actual, self.now_s
        self.owed = max(Fraction(0), self.owed + actual - known.reserved)
        self.rows.append({"id": request_id, "state": "ok"} | ({"late": True} if is_late else {}))

    @precondition(lambda self: self.ids("settled"))
    @rule(data=st.data(), actual=st.integers(0, 50))
    def settle_again(self, data: st.DataObject, actual: int) -> None:
        request_id = data.draw(st.sampled_from(self.ids("settled")))
        if self.now_s < self.known[request_id].settled_s + SETTLED_KEPT_S:
            assert self.settled(request_id, 5, actual) == "duplicate"

    @precondition(lambda self: self.spent() < BUDGET.limit)
    @rule(data=st.data(), was_admitted=st.booleans())
    def settle_what_was_never_admitted(self, data: st.DataObject, was_admitted: bool) -> None:
        actual = data.draw(st.integers(0, BUDGET.limit - self.spent()))
        request_id = f"r{len(self.known)}"
        assert self.settled(request_id, 3, actual, was_admitted=was_admitted) == "settled"
        self.known[request_id] = Known(-1e9, 0, 0.0, actual, "settled", self.now_s)
        self.rows.append({"id": request_id, "state": "ok"})

    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        running = [request_id for request_id in self.ids("open") if self.now_s < self.known[request_id].held_until_s]
        chosen = data.draw(st.lists(st.sampled_from(running), unique=True)) if running else []
        result(self.accounts.renew([Admission(request_id, PLAN, Amounts(), b"{}") for request_id in [*chosen, "no"]]))
        for request_id in chosen:
            self.known[request_id].held_until_s = self.now_s + LEASE.window_s

    @rule()
    def close_lost(self) -> None:
        ran_out = [request_id for request_id in self.ids("open") if self.known[request_id].held_until_s <= self.now_s]
        ran_out.sort(key=lambda request_id: self.known[request_id].held_until_s)
        assert result(self.accounts.close_lost()) == len(ran_out)
        for request_id in ran_out:
            self.known[request_id].state = "lost"
        written = [orjson.loads(row) for _, row in result(self.accounts.rows())][len(self.rows) :]
        assert sorted(str(row["id"]) for row in written) == sorted(ran_out)
        assert all(row["state"] == "lost" for row in written)
        self.rows += written

    @invariant()
    def what_is_left_is_what_was_not_taken(self) -> None:
        of_bucket, of_window, of_lease, of_budget = result(self.accounts.read(PLAN))
        assert of_bucket.remaining == max(0, (BUCKET.burst - self.owed) // 1)
        assert of_window.remaining == WINDOW.limit - self.in_window()
        assert of_lease.remaining == LEASE.limit - self.running()
        assert of_budget.remaining == BUDGET.limit - self.spent()

    @invariant()
    def each_request_has_its_rows_in_their_order(self) -> None:
        rows = result(self.accounts.rows())
        assert [orjson.loads(row) for _, row in rows] == self.rows
        for cursor, _ in rows[len(rows) // 2 : len(rows) // 2 + 1]:
            assert result(self.accounts.rows(cursor)) == rows[len(rows) // 2 + 1 :]

    @invariant()
    def it_knows_what_was_settled(self) -> None:
        asked = [*self.known, "unheard of"]
        assert result(self.accounts.already_settled(asked, 0.0)) == set(self.ids("settled"))


TestAccounts = AccountsMachine.TestCase
TestAccounts.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
