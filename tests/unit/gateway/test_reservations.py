"""What each policy makes of a Redis that is slow or gone, and what is given back of what nobody knows was taken."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from accounts_at_hand import AccountsAtHand
from scripted_upstreams import VirtualClock
from unsteady_accounts import UnsteadyAccounts

from genkan.config import Config
from genkan.errors import AccountsUnavailable
from genkan.gateway.reservations import Reservation, TimeLeft
from genkan.store.accounts import Admission, Amounts, Line, Plan, Settlement, Unit
from genkan.store.memory_accounts import MemoryAccounts

pytestmark = pytest.mark.anyio

RATE = Line("t:a:requests:window", "window", Unit.REQUESTS, 10, 60.0)
TOKENS = Line("t:a:tokens:bucket", "bucket", Unit.TOKENS, 1000, 60.0, 1000)
LEASE = Line("t:a:concurrent", "lease", Unit.REQUESTS, 10, 30.0)
BUDGET = Line("t:a:budget-tokens:total:all", "budget", Unit.BUDGET_TOKENS, 10_000, 1e6)
ALL: Plan = (RATE, TOKENS, LEASE, BUDGET)
LIMITS: Plan = (RATE, TOKENS, LEASE)
AMOUNTS = Amounts(1, 100, 500, 0)
DRAFT = b'{"id":"req_1"}'


class Rig(AccountsAtHand):
    def __init__(self, *faults: str, share: float = 0.5, **when_lost: str) -> None:
        config = Config.model_validate(
            {
                "redis": {"when_lost": when_lost},
                "upstreams": [{"name": "u", "kind": "openai", "base_url": "http://h/v1"}],
                "models": [{"name": "m", "upstream": "u"}],
            }
        )
        clock = VirtualClock()
        self.shared = UnsteadyAccounts(clock, *faults)
        self.local = MemoryAccounts(clock, ledger=config.ledger, share=share)
        super().__init__(config, clock, accounts=self.shared, local=self.local)

    async def take(self, plan: Plan, request_id: str = "req_1", draft: bytes = DRAFT) -> Reservation:
        return await self.reservations.take(Admission(request_id, plan, AMOUNTS, draft), TimeLeft(0.15))

    async def end(self, taken: Reservation, actual: Amounts, row: bytes = b'{"id":"req_1"}') -> None:
        admission = taken.admission
        settlement = Settlement(
            admission.request_id, admission.plan, admission.amounts, actual, row, taken.was_admitted
        )
        self.reservations.settle(taken, settlement)
        await asyncio.sleep(0)
        await self.settled()

    async def left(self, accounts: MemoryAccounts | None = None, plan: Plan = ALL) -> list[int]:
        await self.settled()
        asked = self.shared if accounts is None else accounts
        return [state.remaining for state in await asked.read(plan)]


UNTOUCHED = [10, 1000, 10, 10_000]


async def test_with_redis_all_is_taken_there_and_put_right_there() -> None:
    async with Rig() as rig:
        taken = await rig.take(ALL)
        assert (taken.decision.denied, taken.decision.is_local, taken.was_sent) == (None, False, True)
        assert await rig.left() == [9, 900, 9, 9500]
        await rig.end(taken, Amounts(1, 40, 30))
        assert await rig.left() == [9, 960, 10, 9970]
        assert await rig.left(rig.local) == [5, 500, 5, 10_000]


async def test_a_denial_takes_nothing_and_is_not_to_be_settled() -> None:
    async with Rig() as rig:
        for number in range(10):
            await rig.take((RATE,), f"req_{number}")
        denied = await rig.take(ALL, "req_11")
        assert denied.decision.denied is RATE
        assert await rig.left() == [0, 1000, 10, 10_000]
        assert "req_11" not in rig.ledger._open


@pytest.mark.parametrize("fault", ["lost", "timeout", "late", "broken", "refused"])
async def test_local_limits_are_this_workers_share(fault: str) -> None:
    async with Rig(fault) as rig:
        found = [await rig.take((RATE,), f"req_{number}") for number in range(6)]
        assert [each.decision.denied for each in found] == [None] * 5 + [RATE]
        assert all(each.decision.is_local for each in found)
        await rig.end(found[0], Amounts(0))
        assert (await rig.take((RATE,), "req_7")).decision.denied is None  # what the first gave back


async def test_what_is_taken_locally_is_put_right_locally() -> None:
    async with Rig("lost") as rig:
        taken = await rig.take(LIMITS)
        assert await rig.left(rig.local, LIMITS) == [4, 400, 4]
        await rig.end(taken, Amounts(1, 20))
        assert await rig.left(rig.local, LIMITS) == [4, 480, 5]
        assert await rig.left() == UNTOUCHED


@pytest.mark.parametrize("fault", ["lost", "timeout", "late", "broken"])
async def test_open_limits_let_everybody_in(fault: str) -> None:
    async with Rig(fault, limits="open") as rig:
        found = [await rig.take((RATE,), f"req_{number}") for number in range(20)]
        assert all(each.decision.denied is None and each.local is None for each in found)


@pytest.mark.parametrize("fault", ["lost", "timeout", "late", "broken", "refused"])
@pytest.mark.parametrize(
    ("plan", "when_lost", "text"),
    [
        (ALL, {}, "Budgets cannot be checked"),
        ((BUDGET,), {"limits": "open"}, "Budgets cannot be checked"),
        ((RATE,), {"limits": "closed"}, "Limits cannot be checked"),
        (ALL, {"limits": "closed", "budgets": "open"}, "Limits cannot be checked"),
    ],
)
async def test_what_is_closed_lets_nobody_in_and_takes_nothing(
    fault: str, plan: Plan, when_lost: dict[str, Any], text: str
) -> None:
    async with Rig(fault, **when_lost) as rig:
        with pytest.raises(AccountsUnavailable, match=text) as caught:
            await rig.take(plan)
        assert (caught.value.status, caught.value.retry_after_s) == (503, 2.0)
        await rig.settled()
        await rig.shared.catch_up()
        assert await rig.left() == UNTOUCHED
        assert await rig.rows() == []


@pytest.mark.parametrize("plan", [(), (BUDGET,)])
async def test_closed_limits_keep_nobody_out_who_has_none(plan: Plan) -> None:
    async with Rig("lost", limits="closed", budgets="open") as rig:
        assert (await rig.take(plan)).decision.denied is None


@pytest.mark.parametrize("fault", ["lost", "timeout", "late", "broken"])
async def test_an_open_budget_is_charged_in_the_end_whatever_redis_did(fault: str) -> None:
    async with Rig(fault, budgets="open") as rig:
        taken = await rig.take(ALL)
        await rig.end(taken, Amounts(1, 40, 30))
        await rig.shared.catch_up()
        assert (await rig.left())[3] == 9970
        assert (await rig.left())[2] == 10  # no lease stays
        assert len(await rig.shared.rows()) == 1


async def test_a_request_that_is_denied_here_holds_nothing_in_redis() -> None:
    async with Rig("timeout") as rig:
        found = [await rig.take(LIMITS, f"req_{number}", b'{"id":"x"}') for number in range(6)]
        assert found[-1].decision.denied is not None
        assert (await rig.left())[2] == 5


async def test_who_leaves_while_redis_is_asked_has_taken_nothing() -> None:
    async with Rig("hangs", "ok") as rig:
        asking = asyncio.create_task(rig.take(ALL, draft=DRAFT))
        await rig.shared.hanging.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert await rig.left() == UNTOUCHED
        assert await rig.rows() == []


async def test_without_a_draft_nothing_is_given_back_to_a_budget_that_may_never_have_been_taken() -> None:
    async with Rig("hangs", "ok") as rig:
        asking = asyncio.create_task(rig.take(ALL, draft=b""))
        await rig.shared.hanging.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        left = await rig.left()
        assert left[2] == UNTOUCHED[2]  # a lease is known by the request's id
        assert left[3] <= UNTOUCHED[3]


async def test_calls_get_what_is_left_of_the_requests_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = iter([0.0, 0.09, 1.0, 1.05, 2.0, 2.5, 3.0, 3.0])
    monkeypatch.setattr("genkan.gateway.reservations.time", SimpleNamespace(monotonic=lambda: next(now_s)))
    async with Rig() as rig:
        left = TimeLeft(0.15)
        for number in range(4):
            await rig.reservations.take(Admission(f"req_{number}", (RATE,), AMOUNTS), left)
    assert rig.shared.limits_s == pytest.approx([0.1, 0.06, 0.01, 0.001])


async def test_what_may_run_long_is_renewed_until_it_is_settled() -> None:
    async with Rig() as rig:
        taken = await rig.take(LIMITS)
        assert list(rig.ledger._open) == ["req_1"]
        await rig.end(taken, AMOUNTS)
        assert list(rig.ledger._open) == []


async def test_nothing_to_limit_and_nothing_to_record_is_not_followed() -> None:
    async with Rig() as rig:
        await rig.take((), draft=b"")
        assert list(rig.ledger._open) == []
