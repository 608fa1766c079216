"""What admissions may rely on, wherever accounts are kept: in memory, or in Redis of each version."""

import pytest
from account_calls import (
    HOUR_S,
    NOTHING,
    WITHIN_S,
    admit,
    bucket,
    budget,
    lease,
    ledger,
    race,
    row,
    settle,
    state,
    window,
)
from account_rigs import PATIENT_S, Rig, until

from genkan.store.accounts import Admission, Amounts, Decision, Line, LineState, Unit

pytestmark = pytest.mark.anyio


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
        line, began_s = bucket(10, window_s=1.0, burst=3), rig.now_s()
        admitted = len(await race(rig, (line,), clients=3))
        assert admitted == 3
        while admitted < 7:
            decision = await admit(rig.accounts, f"at once {admitted}", (line,))
            if decision.denied is not None:
                assert 0 < decision.states[0].retry_s <= 0.1
                await rig.advance(decision.states[0].retry_s + 0.001)
                assert (await admit(rig.accounts, f"in time {admitted}", (line,))).denied is None
            admitted += 1
            assert admitted <= 3 + (rig.now_s() - began_s) / 0.1

    async def test_no_part_of_a_token_is_lost_between_takes(self, rig: Rig) -> None:
        line = bucket(10, window_s=1.0, burst=100)
        for number in range(10):
            told = (await admit(rig.accounts, f"r{number}", (line,))).states[0]
            await rig.advance(0.025)
        assert told.reset_s <= 10 * 0.1 - 9 * 0.025 + 0.001

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
        thirty_more = (await admit(rig.accounts, "x", (line,), Amounts(1, 30))).states[0]
        twenty_more = (await admit(rig.accounts, "y", (line,), Amounts(1, 20))).states[0]
        assert thirty_more.remaining == twenty_more.remaining == 10
        assert 30 - WITHIN_S < twenty_more.retry_s <= 29.4
        assert twenty_more.retry_s + 0.2 <= thirty_more.retry_s <= thirty_more.reset_s - 0.2

    @pytest.mark.parametrize("line", [bucket(9, unit=Unit.TOKENS), window(9, unit=Unit.TOKENS), budget(9)])
    async def test_what_can_never_fit(self, rig: Rig, line: Line) -> None:
        decision = await admit(rig.accounts, "r", (line,), Amounts(1, 10, 10))
        assert decision == Decision(line, (LineState(9, -1, 0),))

    async def test_a_limit_may_be_changed_and_so_may_its_algorithm(self, rig: Rig) -> None:
        assert len(await race(rig, (bucket(50),))) == 50
        assert (await state(rig, bucket(60))).remaining == 10
        assert (await state(rig, bucket(20))).remaining == 0
        assert 0 < (await state(rig, bucket(20))).retry_s <= HOUR_S * 30 / 20
        assert len(await race(rig, (window(50),))) == 50


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
        line = budget(100, window_s=1.0)
        await admit(rig.accounts, "r", (line,), Amounts(1, 0, 60))
        await rig.advance(0.5)
        decision = await admit(rig.accounts, "s", (line,), Amounts(1, 0, 20))
        assert decision.states[0].remaining == 20
        await rig.advance(0.51)
        assert (await state(rig, line)).remaining == 100

    async def test_who_reads_it_sees_by_how_much_it_is_overspent(self, rig: Rig) -> None:
        line = budget(100)
        await admit(rig.accounts, "r", (line,), Amounts(1, 0, 60))
        await settle(rig.accounts, "r", (line,), Amounts(1, 0, 60), Amounts(1, 0, 130))
        assert (await state(rig, line)).remaining == -30
        decision = await admit(rig.accounts, "s", (line,), Amounts(1, 0, 1))
        assert decision.denied == line
        assert decision.states[0].remaining == 0


class TestLeases:
    async def test_they_end_by_themselves_unless_they_are_renewed(self, rig: Rig) -> None:
        line = lease(2, window_s=0.8)
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
