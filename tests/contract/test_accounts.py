"""What holds for accounts wherever they are kept: in memory, or in Redis of each version."""

import asyncio
import json
import math
from collections.abc import AsyncGenerator, Generator

import pytest
from account_rigs import KEEP_ROWS, PATIENT_S, MemoryRig, RedisRig, Rig, until
from redis_servers import KINDS, RunningRedis, running_redis

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

pytestmark = pytest.mark.anyio

HOUR_S = 3600.0
ONE, NOTHING = Amounts(), Amounts(0)


@pytest.fixture(scope="module", params=["memory", *KINDS])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Generator[RunningRedis | None, None, None]:
    """A Redis of each kind; None for accounts that need none."""
    if request.param == "memory":
        yield None
        return
    with running_redis(request.param, tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
async def rig(server: RunningRedis | None) -> AsyncGenerator[Rig, None]:
    if server is None:
        yield MemoryRig()
        return
    on_redis = RedisRig(server.url)
    await on_redis.start()
    yield on_redis
    await on_redis.aclose()


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


class TestRates:
    async def test_two_hundred_racing_for_fifty_tokens_get_fifty(self, rig: Rig) -> None:
        assert len(await race(rig, (bucket(50),))) == 50

    async def test_and_the_whole_tokens_that_were_refilled_meanwhile(self, rig: Rig) -> None:
        line, began_s, admitted = bucket(50, window_s=0.5), rig.now_s(), 0
        for turn in range(10):
            admitted += len(await race(rig, (line,), name=f"{turn}-"))
            await rig.advance(0.01)
        refilled = (rig.now_s() - began_s) / 0.01
        assert 50 < admitted <= 50 + refilled

    async def test_a_bucket_gives_one_token_after_the_other(self, rig: Rig) -> None:
        line = bucket(10, window_s=1.0, burst=3)
        assert await race(rig, (line,), clients=3) == ["r0", "r1", "r2"]
        drained_s = rig.now_s()
        for token in range(1, 4):
            decision = await admit(rig.accounts, f"early{token}", (line,))
            assert decision.denied is line
            assert 0 < decision.states[0].retry_s <= 0.1
            await rig.advance(decision.states[0].retry_s)
            await until(rig, lambda: _is_admitted(rig, line))
            assert rig.now_s() - drained_s >= 0.1 * token - 0.05  # 50 ms for the three before, as they asked at once

    async def test_tokens_may_take_less_than_a_microsecond(self, rig: Rig) -> None:
        line = bucket(10**12, unit=Unit.TOKENS)
        assert len(await race(rig, (line,), Amounts(1, 2 * 10**10))) == 50
        assert (await admit(rig.accounts, "more", (line,), Amounts(1, 2 * 10**10))).denied is line

    async def test_a_window_is_exact_and_so_across_its_boundary(self, rig: Rig) -> None:
        line, admitted = window(50, window_s=0.4), list[tuple[float, float]]()
        deadline_s = rig.now_s() + 10
        while len(admitted) < 150:
            assert rig.now_s() < deadline_s
            before_s = rig.now_s()
            got = await race(rig, (line,), name=f"{before_s}-", clients=60)
            admitted += [(before_s, rig.now_s())] * len(got)
            await rig.advance(0.02)
        for begins_s, _ in admitted:
            inside = [1 for before_s, after_s in admitted if begins_s <= before_s and after_s < begins_s + 0.4]
            assert len(inside) <= 50

    async def test_a_windows_first_fifty_of_two_hundred(self, rig: Rig) -> None:
        assert len(await race(rig, (window(50),))) == 50

    async def test_a_window_says_when_enough_will_have_left_it(self, rig: Rig) -> None:
        line = window(100, window_s=30.0, unit=Unit.TOKENS)
        for place, tokens in enumerate((10, 20, 60)):
            assert (await admit(rig.accounts, f"r{place}", (line,), Amounts(1, tokens))).denied is None
            await rig.advance(0.2)
        ten_more = (await admit(rig.accounts, "x", (line,), Amounts(1, 20))).states[0]
        thirty_more = (await admit(rig.accounts, "y", (line,), Amounts(1, 30))).states[0]
        assert ten_more.remaining == thirty_more.remaining == 10
        assert 29 < ten_more.retry_s < 29.6
        assert ten_more.retry_s + 0.1 < thirty_more.retry_s < ten_more.reset_s < 30

    @pytest.mark.parametrize("line", [bucket(9, unit=Unit.TOKENS), window(9, unit=Unit.TOKENS), budget(9)])
    async def test_what_can_never_fit(self, rig: Rig, line: Line) -> None:
        decision = await admit(rig.accounts, "r", (line,), Amounts(1, 10, 10))
        assert decision == Decision(line, (LineState(9, math.inf, 0.0),))

    async def test_a_limit_may_be_changed_and_so_may_its_algorithm(self, rig: Rig) -> None:
        assert len(await race(rig, (bucket(50),))) == 50
        assert (await state(rig, bucket(60))).remaining == 10
        assert (await state(rig, bucket(20))).remaining == 0
        assert 0 < (await state(rig, bucket(20))).retry_s <= HOUR_S * 30 / 20
        assert len(await race(rig, (window(50),))) == 50


async def _is_admitted(rig: Rig, line: Line) -> bool:
    return (await admit(rig.accounts, f"at{rig.now_s()}", (line,))).denied is None


class TestAllOrNone:
    PLAN = (bucket(10), window(10, unit=Unit.TOKENS), lease(3), budget(100))

    async def test_what_was_taken_is_taken_in_what_is_told(self, rig: Rig) -> None:
        decision = await admit(rig.accounts, "r", self.PLAN, Amounts(1, 4, 30))
        assert decision.denied is None
        assert [told.remaining for told in decision.states] == [9, 6, 2, 70]
        assert [told.retry_s for told in decision.states] == [0.0, 0.0, 0.0, 0.0]
        assert decision.states[0].reset_s == pytest.approx(360.0)
        assert [told.reset_s for told in decision.states[1:]] == pytest.approx([HOUR_S, HOUR_S, 0.0], abs=0.01)
        told_later = await rig.other.read(self.PLAN)
        assert [told.remaining for told in told_later] == [9, 6, 2, 70]
        assert [told.reset_s for told in told_later] == pytest.approx([360.0, HOUR_S, HOUR_S, 0.0], abs=WITHIN_S)

    @pytest.mark.parametrize(
        ("amounts", "first"), [(Amounts(11, 1, 1), 0), (Amounts(1, 11, 101), 1), (Amounts(1, 1, 101), 3)]
    )
    async def test_nothing_is_taken_from_any_line_if_one_has_not_enough(
        self, rig: Rig, amounts: Amounts, first: int
    ) -> None:
        await admit(rig.accounts, "before", self.PLAN, Amounts(1, 4, 30))
        for turn in range(3):
            decision = await admit(rig.accounts, f"r{turn}", self.PLAN, amounts, draft=True)
            assert decision.denied is self.PLAN[first]
            assert [told.remaining for told in decision.states] == [9, 6, 2, 70]
            assert decision.states[first].retry_s > 0
        assert [told.remaining for told in await rig.accounts.read(self.PLAN)] == [9, 6, 2, 70]

    async def test_a_full_lease_denies_as_well(self, rig: Rig) -> None:
        assert len(await race(rig, self.PLAN)) == 3
        decision = await admit(rig.accounts, "one more", self.PLAN)
        assert decision.denied is self.PLAN[2]
        assert [told.remaining for told in decision.states] == [7, 10, 0, 100]
        assert HOUR_S - WITHIN_S < decision.states[2].retry_s <= HOUR_S

    async def test_a_plan_of_no_lines(self, rig: Rig) -> None:
        assert await admit(rig.accounts, "r", (), draft=True) == Decision(None, ())
        await rig.accounts.renew([Admission("r", (), Amounts(), b"{}")])
        assert await settle(rig.accounts, "r", (), has_row=True) == "settled"
        assert await rig.accounts.read(()) == []
        assert await ledger(rig) == [{"id": "r", "state": "ok"}]

    async def test_asked_again_it_takes_nothing(self, rig: Rig) -> None:
        for _ in range(3):
            assert (await admit(rig.accounts, "r", self.PLAN, Amounts(1, 4, 30), draft=True)).denied is None
        assert [told.remaining for told in await rig.accounts.read(self.PLAN)] == [9, 6, 2, 70]

    async def test_nothing_is_taken_after_it_was_settled(self, rig: Rig) -> None:
        await settle(rig.accounts, "r", self.PLAN, was_admitted=False, actual=NOTHING, has_row=True)
        await admit(rig.other, "r", self.PLAN, Amounts(1, 4, 30), draft=True)
        assert [told.remaining for told in await rig.accounts.read(self.PLAN)] == [10, 10, 3, 100]
        assert await rig.accounts.close_lost() == 0

    async def test_an_id_can_be_anything(self, rig: Rig) -> None:
        for place, odd in enumerate(("", "a b", "\0", "=", '"\r\n$3\r\n', "khóa-鍵", "7:", "x" * 65536)):
            plan = (window(10, unit=Unit.TOKENS), lease(1))
            assert (await admit(rig.accounts, odd, plan, Amounts(1, 7), draft=True)).denied is None, place
            assert await settle(rig.accounts, odd, plan, Amounts(1, 7), Amounts(1, 0), has_row=True) == "settled"
            assert [told.remaining for told in await rig.accounts.read(plan)] == [10, 1]
        assert len(await rig.accounts.rows()) == 8


WITHIN_S = 5.0  # of what is told later; a slow machine makes it less, and never that much


class TestSettling:
    async def test_once_in_a_batch_with_repeats(self, rig: Rig) -> None:
        plan = (bucket(100, unit=Unit.TOKENS), budget(100), lease(1))
        await admit(rig.accounts, "r", plan, Amounts(1, 50, 60), draft=True)
        settlement = Settlement("r", plan, Amounts(1, 50, 60), Amounts(1, 20, 20), row("r"))
        other = Settlement("s", (), Amounts(), Amounts(), row("s"))
        assert await rig.accounts.settle([settlement, other, settlement]) == ["settled", "settled", "duplicate"]
        assert await rig.other.settle([settlement]) == ["duplicate"]
        assert [told.remaining for told in await rig.accounts.read(plan)] == [80, 80, 1]
        assert await ledger(rig) == [{"id": "r", "state": "ok"}, {"id": "s", "state": "ok"}]

    async def test_once_by_two_workers_at_the_same_time(self, rig: Rig) -> None:
        line = budget(10_000)
        admissions = [Admission(f"r{number}", (line,), Amounts(1, 0, 90), row(f"r{number}")) for number in range(50)]
        for admission in admissions:
            await rig.accounts.admit(admission, timeout_s=PATIENT_S)
        settlements = [Settlement(a.request_id, a.plan, a.amounts, Amounts(1, 0, 40), a.draft) for a in admissions]
        first, second = await asyncio.gather(rig.accounts.settle(settlements), rig.other.settle(settlements))
        assert [sorted(pair) for pair in zip(first, second, strict=True)] == [["duplicate", "settled"]] * 50
        assert (await state(rig, line)).remaining == 10_000 - 50 * 40
        assert sorted(str(written["id"]) for written in await ledger(rig)) == sorted(a.request_id for a in admissions)

    async def test_nothing_to_settle(self, rig: Rig) -> None:
        assert await rig.accounts.settle([]) == []
        await rig.accounts.renew([])

    async def test_without_a_row_none_is_written(self, rig: Rig) -> None:
        await admit(rig.accounts, "r", (lease(1),))
        assert await settle(rig.accounts, "r", (lease(1),)) == "settled"
        assert (await state(rig, lease(1))).remaining == 1
        assert await settle(rig.accounts, "r", (lease(1),)) == "duplicate"
        assert await rig.accounts.rows() == []

    async def test_what_was_not_used_comes_back_but_never_more_than_there_was(self, rig: Rig) -> None:
        plan = (bucket(100, window_s=0.2, unit=Unit.TOKENS), window(100, unit=Unit.TOKENS), budget(100))
        await admit(rig.accounts, "r", plan, Amounts(1, 60, 60))
        await rig.advance(0.2)  # the bucket is full again
        await settle(rig.accounts, "r", plan, Amounts(1, 60, 60), Amounts(1, 10, 10))
        assert [told.remaining for told in await rig.accounts.read(plan)] == [100, 90, 90]

    async def test_what_was_used_beyond_is_a_debt(self, rig: Rig) -> None:
        plan = (bucket(100, unit=Unit.TOKENS), window(100, unit=Unit.TOKENS), budget(100))
        await admit(rig.accounts, "r", plan, Amounts(1, 10, 10))
        await settle(rig.accounts, "r", plan, Amounts(1, 10, 10), Amounts(1, 150, 150))
        of_bucket, of_window, of_budget = await rig.accounts.read(plan)
        assert (of_bucket.remaining, of_window.remaining, of_budget.remaining) == (0, 0, 0)
        assert of_bucket.retry_s == pytest.approx(HOUR_S / 2, abs=WITHIN_S)
        assert of_window.retry_s == pytest.approx(HOUR_S, abs=WITHIN_S)
        assert of_budget.retry_s == math.inf
        assert (await admit(rig.accounts, "s", plan[:1], Amounts(1, 1))).denied is plan[0]

    async def test_it_is_put_right_at_the_time_when_it_was_taken(self, rig: Rig) -> None:
        line = window(100, window_s=0.3, unit=Unit.TOKENS)
        await admit(rig.accounts, "r", (line,), Amounts(1, 10))
        taken_s = rig.now_s()
        await rig.advance(0.1)
        await settle(rig.accounts, "r", (line,), Amounts(1, 10), Amounts(1, 100))

        async def has_left() -> bool:
            return (await state(rig, line)).remaining == 100

        await until(rig, has_left)
        assert rig.now_s() - taken_s < 0.39  # had it been put at the time of settling, it were 0.4

    async def test_what_has_left_the_window_is_left_alone(self, rig: Rig) -> None:
        line = window(100, window_s=0.05, unit=Unit.TOKENS)
        await admit(rig.accounts, "r", (line,), Amounts(1, 10))
        await rig.advance(0.1)
        await settle(rig.accounts, "r", (line,), Amounts(1, 10), Amounts(1, 100))
        assert (await state(rig, line)).remaining == 100

    async def test_what_was_not_admitted_is_charged_to_budgets_alone(self, rig: Rig) -> None:
        plan = (bucket(10, unit=Unit.TOKENS), window(10, unit=Unit.TOKENS), lease(1), budget(100))
        await admit(rig.accounts, "another", plan[2:3])
        for name, has_row in (("r", True), ("s", False)):
            amounts = Amounts(1, 5, 5), Amounts(1, 7, 7)
            assert await settle(rig.accounts, name, plan, *amounts, has_row=has_row, was_admitted=False) == "settled"
        assert [told.remaining for told in await rig.accounts.read(plan)] == [10, 10, 0, 86]

    async def test_an_admission_that_never_arrived_is_found_out(self, rig: Rig) -> None:
        plan = (bucket(10, unit=Unit.TOKENS), window(10, unit=Unit.TOKENS), budget(100))
        await settle(rig.accounts, "r", plan, Amounts(1, 5, 50), Amounts(1, 7, 20), has_row=True)
        assert [told.remaining for told in await rig.accounts.read(plan)] == [10, 10, 80]

    async def test_a_refund_of_a_budget_that_is_over_makes_no_other(self, rig: Rig) -> None:
        line = budget(100, window_s=0.05)
        await admit(rig.accounts, "r", (line,), Amounts(1, 0, 60), draft=True)
        await rig.advance(0.1)
        await settle(rig.accounts, "r", (line,), Amounts(1, 0, 60), Amounts(1, 0, 10), has_row=True)
        assert (await state(rig, line)).remaining == 100


class TestBudgets:
    async def test_two_hundred_at_once_never_overshoot_it(self, rig: Rig) -> None:
        line = budget(1000)
        admitted = await race(rig, (line,), Amounts(1, 0, 10))
        assert len(admitted) == 100
        assert (await state(rig, line)).remaining == 0
        for id_ in admitted:
            await settle(rig.other, id_, (line,), Amounts(1, 0, 10), Amounts(1, 0, 7))
        assert (await state(rig, line)).remaining == 300
        assert len(await race(rig, (line,), Amounts(1, 0, 10), name="again")) == 30

    async def test_it_is_kept_for_its_window_from_its_first_use(self, rig: Rig) -> None:
        line = budget(100, window_s=0.3)
        await admit(rig.accounts, "r", (line,), Amounts(1, 0, 60))
        await rig.advance(0.2)
        await admit(rig.accounts, "s", (line,), Amounts(1, 0, 20))
        assert (await state(rig, line)).remaining in (20, 100)  # 100 only where the machine was slow
        await rig.advance(0.11)
        assert (await state(rig, line)).remaining == 100


class TestLeases:
    async def test_they_end_by_themselves_unless_they_are_renewed(self, rig: Rig) -> None:
        line = lease(2, window_s=0.5)
        kept, left = (Admission(name, (line,), Amounts(), b"") for name in ("kept", "left"))
        for admission in (kept, left):
            assert (await rig.accounts.admit(admission, timeout_s=PATIENT_S)).denied is None
        assert (await admit(rig.accounts, "third", (line,))).denied is line
        seen: list[int] = []

        async def one_has_ended() -> bool:
            await rig.other.renew([kept])
            seen.append((await state(rig, line)).remaining)
            return seen[-1] == 1

        await until(rig, one_has_ended)
        assert set(seen) == {0, 1}

    async def test_what_has_ended_is_not_brought_back(self, rig: Rig) -> None:
        line = lease(1)
        admission = Admission("r", (line,), Amounts(), row("r", "lost"))
        await rig.accounts.admit(admission, timeout_s=PATIENT_S)
        await settle(rig.accounts, "r", (line,), has_row=True)
        await rig.accounts.renew([admission])
        assert (await state(rig, line)).remaining == 1
        assert await rig.accounts.close_lost() == 0

    async def test_giving_back_twice_frees_one_place(self, rig: Rig) -> None:
        line = lease(2)
        for name in ("r", "s"):
            await admit(rig.accounts, name, (line,))
        for _ in range(2):
            await settle(rig.accounts, "r", (line,))
        assert (await state(rig, line)).remaining == 1


class TestLost:
    PLAN = (lease(5, window_s=0.1), budget(100))

    async def test_a_reservation_that_ran_out_is_closed_once_with_its_draft(self, rig: Rig) -> None:
        await admit(rig.accounts, "r", self.PLAN, Amounts(1, 0, 30), draft=True)
        await _close(rig)
        assert await rig.other.close_lost() == 0
        assert await ledger(rig) == [{"id": "r", "state": "lost"}]
        assert [told.remaining for told in await rig.accounts.read(self.PLAN)] == [5, 70]

    async def test_one_that_is_settled_after_all_says_so(self, rig: Rig) -> None:
        amounts = Amounts(1, 0, 30), Amounts(1, 0, 10)
        await admit(rig.accounts, "r", self.PLAN, amounts[0], draft=True)
        await _close(rig)
        assert await settle(rig.accounts, "r", self.PLAN, *amounts, has_row=True) == "late"
        assert await settle(rig.accounts, "r", self.PLAN, *amounts, has_row=True) == "duplicate"
        assert await ledger(rig) == [{"id": "r", "state": "lost"}, {"id": "r", "state": "ok", "late": True}]
        assert (await state(rig, self.PLAN[1])).remaining == 90

    async def test_one_that_is_renewed_is_not_lost(self, rig: Rig) -> None:
        plan = (lease(5, window_s=0.5),)
        renewed, left = (Admission(name, plan, Amounts(), row(name, "lost")) for name in ("renewed", "left"))
        for admission in (renewed, left):
            await rig.accounts.admit(admission, timeout_s=PATIENT_S)

        async def one_is_closed() -> bool:
            await rig.accounts.renew([renewed])
            return await rig.other.close_lost() == 1

        await until(rig, one_is_closed)
        assert await ledger(rig) == [{"id": "left", "state": "lost"}]
        assert await settle(rig.accounts, "renewed", plan, has_row=True) == "settled"

    async def test_not_more_than_asked_are_closed_at_once(self, rig: Rig) -> None:
        await asyncio.gather(*(admit(rig.accounts, f"r{n}", self.PLAN[:1], draft=True) for n in range(5)))
        await rig.advance(0.2)
        assert [await rig.accounts.close_lost(at_most=2) for _ in range(4)] == [2, 2, 1, 0]

    async def test_which_ids_were_settled_is_told_by_the_ledger(self, rig: Rig) -> None:
        began_s = rig.unix_s() - 1
        for name in ("lost", "late", "settled"):
            await admit(rig.accounts, name, self.PLAN[:1], draft=True)
        await settle(rig.accounts, "settled", self.PLAN[:1], has_row=True)
        await rig.advance(0.2)
        assert await rig.accounts.close_lost() == 2
        await settle(rig.accounts, "late", self.PLAN[:1], has_row=True)
        asked = ["lost", "late", "settled", "unknown"]
        assert await rig.accounts.already_settled(asked, began_s) == {"late", "settled"}
        assert await rig.accounts.already_settled(asked, rig.unix_s() + 60) == set()
        assert await rig.accounts.already_settled([], began_s) == set()


async def _close(rig: Rig) -> None:
    async def is_closed() -> bool:
        return await rig.accounts.close_lost() == 1

    await until(rig, is_closed)


class TestLedger:
    async def test_rows_are_read_page_by_page(self, rig: Rig) -> None:
        assert await rig.accounts.rows() == []
        for number in range(25):
            await settle(rig.accounts, f"r{number}", (), has_row=True)
        pages, cursor = [], ""
        while page := await rig.other.rows(cursor, at_most=10):
            pages.append(page)
            cursor = page[-1][0]
        assert [len(page) for page in pages] == [10, 10, 5]
        assert [written for page in pages for _, written in page] == [row(f"r{number}") for number in range(25)]
        assert len({at for page in pages for at, _ in page}) == 25
        await settle(rig.accounts, "next", (), has_row=True)
        assert [written for _, written in await rig.accounts.rows(cursor)] == [row("next")]

    async def test_the_oldest_of_too_many_are_dropped(self, rig: Rig) -> None:
        plan: Plan = ()
        ids = [f"r{number}" for number in range(KEEP_ROWS + 500)]
        assert set(await rig.accounts.settle([Settlement(i, plan, NOTHING, NOTHING, row(i)) for i in ids])) == {
            "settled"
        }
        rows = await rig.accounts.rows(at_most=10 * KEEP_ROWS)
        assert KEEP_ROWS <= len(rows) <= KEEP_ROWS + 200  # Redis drops them a hundred at a time
        assert [written for _, written in rows] == [row(i) for i in ids[-len(rows) :]]


class TestForgetting:
    async def test_who_is_idle_leaves_nothing(self, rig: Rig) -> None:
        plan = (bucket(10, 0.1), window(10, 0.1), lease(9, 0.1), budget(1000, 0.1))
        amounts = Amounts(1, 1, 1)
        for number, ending in enumerate(("nothing", "settled", "refunded", "refunded at once", "charged more")):
            name = f"r{number}"
            await admit(rig.accounts, name, plan, amounts, draft=True)
            if ending == "nothing":
                await rig.advance(0.2)
                assert await rig.accounts.close_lost() == 1
                await settle(rig.accounts, name, plan, amounts, amounts, has_row=True)
            else:
                actual = {"settled": amounts, "charged more": Amounts(3, 3, 3)}.get(ending, NOTHING)
                await settle(rig.accounts, name, plan, amounts, actual, has_row=True)

        async def nothing_is_left() -> bool:
            return await rig.leftovers() == 0

        await until(rig, nothing_is_left)


class TestOnRedis:
    """What can only happen there."""

    @pytest.fixture
    def redis(self, rig: Rig) -> RedisRig:
        if not isinstance(rig, RedisRig):
            pytest.skip("for accounts in Redis")
        return rig

    async def test_its_scripts_may_be_forgotten_at_any_time(self, redis: RedisRig) -> None:
        plan = (bucket(10), budget(10))
        client = redis.clients[1]
        await client.call("SCRIPT", "FLUSH")
        assert await race(redis, plan, clients=3) == ["r0", "r1", "r2"]
        await client.call("SCRIPT", "FLUSH")
        settlements = [Settlement(f"r{n}", plan, Amounts(), Amounts(), row(f"r{n}")) for n in (0, 1, 1)]
        assert await redis.accounts.settle(settlements) == ["settled", "settled", "duplicate"]
        for call in (redis.accounts.renew([Admission("r2", plan, Amounts())]), redis.accounts.close_lost()):
            await client.call("SCRIPT", "FLUSH")
            await call
        await client.call("SCRIPT", "FLUSH")
        assert [told.remaining for told in await redis.accounts.read(plan)] == [7, 10]
        assert len(await redis.accounts.rows()) == 2

    async def test_prefixes_do_not_touch_each_other(self, redis: RedisRig) -> None:
        other = redis.under("genkan-tes")
        plan = (bucket(1), lease(1), budget(1))
        assert len(await race(redis, plan, clients=2)) == 1
        assert (await admit(other, "r0", plan, Amounts(1, 1, 1), draft=True)).denied is None
        assert await settle(other, "r0", plan, has_row=True) == "settled"
        assert [told.remaining for told in await redis.accounts.read(plan)] == [0, 0, 1]
        assert await redis.accounts.rows() == []
        ours, theirs = b"genkan-test:", b"genkan-tes:"
        assert all(key.startswith((ours, theirs)) for key in await redis.keys())

    async def test_what_is_no_row_is_passed_over(self, redis: RedisRig) -> None:
        key = "genkan-test:ledger"
        for number in range(30):
            await settle(redis.accounts, f"r{number}", (), has_row=True)
            for fields in (("r", "no JSON"), ("r", "[]"), ("other", "{}"), ("r", "{}", "s", "{}"), ("r", b"\xff")):
                await redis.clients[0].call("XADD", key, "*", *fields)
        rows = await redis.accounts.rows(at_most=20)
        assert [written for _, written in rows] == [row(f"r{number}") for number in range(20)]
        more = await redis.accounts.rows(rows[-1][0], at_most=20)
        assert [written for _, written in more] == [row(f"r{number}") for number in range(20, 30)]
        assert await redis.accounts.already_settled(["r3", "x"], 0) == {"r3"}

    async def test_all_that_is_kept_of_an_admission_expires_or_is_a_reservation(self, redis: RedisRig) -> None:
        plan = (bucket(10), window(10), lease(9), budget(10))
        await admit(redis.accounts, "r", plan, Amounts(1, 1, 1), draft=True)
        expiring = [key for key in await redis.keys() if await redis.clients[0].call("PTTL", key) > 0]
        assert sorted(set(await redis.keys()) - set(expiring)) == [b"genkan-test:leases", b"genkan-test:reserved"]
        await settle(redis.accounts, "r", plan, Amounts(1, 1, 1), Amounts(1, 1, 1), has_row=True)
        assert all([await redis.clients[0].call("PTTL", key) > 0 for key in await redis.keys()])
