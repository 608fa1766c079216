"""What settlements and the ledger may rely on, wherever accounts are kept: in memory, or in Redis of each version."""

import asyncio
import math

import pytest
from account_calls import HOUR_S, NOTHING, WITHIN_S, admit, bucket, budget, lease, ledger, row, settle, state, window
from account_rigs import KEEP_ROWS, PATIENT_S, Rig, until

from genkan.store.accounts import Admission, Amounts, Plan, Settlement, Unit

pytestmark = pytest.mark.anyio


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
        assert (of_bucket.remaining, of_window.remaining, of_budget.remaining) == (0, 0, -50)
        assert of_bucket.retry_s == pytest.approx(HOUR_S / 2, abs=WITHIN_S)
        assert of_window.retry_s == pytest.approx(HOUR_S, abs=WITHIN_S)
        assert of_budget.retry_s == math.inf
        assert (await admit(rig.accounts, "s", plan[:1], Amounts(1, 1))).denied is plan[0]

    async def test_it_is_put_right_at_the_time_when_it_was_taken(self, rig: Rig) -> None:
        line = window(100, window_s=30.0, unit=Unit.TOKENS)
        await admit(rig.accounts, "r", (line,), Amounts(1, 10))
        await rig.advance(0.2)
        await settle(rig.accounts, "r", (line,), Amounts(1, 10), Amounts(1, 90))
        put_right = await state(rig, line)
        assert put_right.remaining == 10
        assert 30 - WITHIN_S < put_right.reset_s <= 29.8

    async def test_what_was_put_right_leaves_the_window_as_it_was_put(self, rig: Rig) -> None:
        line, seen = window(100, window_s=1.0, unit=Unit.TOKENS), list[int]()
        await admit(rig.accounts, "r", (line,), Amounts(1, 50))
        await settle(rig.accounts, "r", (line,), Amounts(1, 50), Amounts(1, 90))
        await rig.advance(0.5)
        await admit(rig.accounts, "s", (line,), Amounts(1, 10))

        async def all_have_left() -> bool:
            seen.append((await state(rig, line)).remaining)
            return seen[-1] == 100

        await until(rig, all_have_left)
        assert list(dict.fromkeys(seen)) == [0, 90, 100]

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

    async def test_what_knows_the_request_is_put_right_whether_or_not_it_is_known_to_have_been_admitted(
        self, rig: Rig
    ) -> None:
        plan = (bucket(10, unit=Unit.TOKENS), window(10, unit=Unit.TOKENS), lease(2), budget(100))
        for name in ("r", "s"):
            await admit(rig.accounts, name, plan, Amounts(1, 5, 5))
        assert [told.remaining for told in await rig.accounts.read(plan)] == [0, 0, 0, 90]
        for name, has_row in (("r", True), ("s", False)):
            amounts = Amounts(1, 5, 5), Amounts(1, 2, 7)
            assert await settle(rig.accounts, name, plan, *amounts, has_row=has_row, was_admitted=False) == "settled"
        assert [told.remaining for told in await rig.accounts.read(plan)] == [0, 6, 2, 76]

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
        plan = (lease(5, window_s=0.8),)
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
