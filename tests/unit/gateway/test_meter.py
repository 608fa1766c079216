"""Requests within what an upstream allows us: who waits, who goes on, and what is given back."""

import asyncio
from typing import Any

import pytest
from accounts_at_hand import AccountsAtHand
from responders import ScriptedResponder
from scripted_upstreams import ANSWERS, HANGS, ScriptedUpstream, ServedBy, VirtualClock, failed, taken
from unsteady_accounts import UnsteadyAccounts

from genkan.config import Config
from genkan.errors import InvalidRequest, RequestError, UpstreamThrottled
from genkan.gateway import meter as meter_module
from genkan.gateway.meter import Limited, Meter
from genkan.gateway.reservations import Reservation, TimeLeft
from genkan.store.accounts import Amounts, LineState
from genkan.upstream.base import Answer
from genkan.wire.caller import Caller
from genkan.wire.chat import ChatRequest

pytestmark = pytest.mark.anyio


class Rig(AccountsAtHand):
    """`first` at an upstream with ``limits``, and `second` at one without, behind the route `r`."""

    def __init__(
        self, *turns: Any, wait_s: float = 30.0, faults: tuple[str, ...] = (), total_s: float = 600.0, **limits: Any
    ) -> None:
        place = {"upstream": "up-1", "limits": limits, "limit_wait_s": wait_s}
        config = Config.model_validate(
            {
                "upstreams": [{"name": name, "kind": "openai", "base_url": "http://h/v1"} for name in ("up-1", "up-2")],
                "models": [{"name": "first", "deployments": [place]}, {"name": "second", "upstream": "up-2"}],
                "routes": [
                    {"alias": "r", "chain": ["first", "second"], "total_s": total_s, "retry": {"max_retries": 0}}
                ],
            }
        )
        clock = VirtualClock()
        super().__init__(config, clock, accounts=UnsteadyAccounts(clock, *faults) if faults else None)
        self.config_place = config.models[0].deployments[0]
        self.only = self._meter()
        upstream: Any = ScriptedUpstream("up-1", clock, *turns) if turns else ServedBy(ScriptedResponder(), "up-1")
        self.first = upstream
        self._pipeline = self.pipeline(upstream, ServedBy(ScriptedResponder(), "up-2"))
        self._number = 0

    def _meter(self) -> Meter:
        made = self.meter("first@up-1", self.config_place)
        assert made is not None
        return made

    async def ask(self, model: str = "r", **fields: Any) -> Answer:
        self._number += 1
        raw = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 10, **fields}
        return await self._pipeline.respond(ChatRequest.from_object(raw), Caller(f"req_{self._number}"))

    async def enter(self, name: str = "req", *, tokens: int = 0, left_s: float = 600.0) -> Reservation:
        return await self.only.enter(name, Amounts(1, tokens), left_s=left_s, redis_left=TimeLeft(0.15))

    async def states(self) -> list[LineState]:
        await asyncio.sleep(0)
        await self.settled()
        return await self.accounts.read(self.only.plan)

    async def left(self) -> list[int]:
        return [state.remaining for state in await self.states()]


# --- Waiting ---


async def test_who_has_room_does_not_wait() -> None:
    async with Rig(requests={"limit": 2}) as rig:
        await rig.enter()
        assert (rig.clock.slept_s, await rig.left()) == ([], [1])


async def test_who_has_none_waits_as_long_as_it_takes() -> None:
    async with Rig(requests={"limit": 60, "burst": 1}) as rig:
        await rig.enter("a")
        await rig.enter("b")
        assert rig.clock.slept_s == [pytest.approx(1.0)]


@pytest.mark.parametrize(("wait_s", "left_s"), [(0.5, 600.0), (30.0, 0.5), (0.0, 600.0)])
async def test_who_would_wait_longer_than_it_may_is_told_at_once(wait_s: float, left_s: float) -> None:
    async with Rig(requests={"limit": 60, "burst": 1}, wait_s=wait_s) as rig:
        await rig.enter("a")
        with pytest.raises(Limited) as caught:
            await rig.enter("b", left_s=left_s)
        assert caught.value.retry_after_s == pytest.approx(1.0)
        assert rig.clock.slept_s == []


async def test_what_never_fits_is_told_at_once() -> None:
    async with Rig(tokens={"limit": 100}) as rig:
        with pytest.raises(Limited) as caught:
            await rig.enter(tokens=101)
        assert caught.value.retry_after_s is None


async def test_a_place_is_asked_for_again_until_it_is_given_back() -> None:
    async with Rig(concurrent=1) as rig:
        held = await rig.enter("a")
        waiting = asyncio.create_task(rig.enter("b"))
        while len(rig.clock.slept_s) < 3:  # noqa: ASYNC110 - what moves the clock has no event to wait for
            await asyncio.sleep(0)
        rig.only.leave(held, Amounts(1, 0))
        await waiting
        assert set(rig.clock.slept_s) == {0.05}


async def test_they_are_let_in_in_the_order_in_which_they_came() -> None:
    async with Rig(requests={"limit": 60, "burst": 1}) as rig:
        order: list[int] = []

        async def enter(number: int) -> None:
            await rig.enter(f"req_{number}")
            order.append(number)

        await asyncio.gather(*(enter(number) for number in range(10)))
        assert order == list(range(10))
        assert sum(rig.clock.slept_s) == pytest.approx(9.0)


async def test_who_waits_for_its_turn_waits_no_longer_than_it_may() -> None:
    async with Rig(concurrent=1, wait_s=0.02) as rig:
        await rig.only._turn.acquire()  # somebody who waits for long
        with pytest.raises(Limited):
            await rig.enter()
        rig.only._turn.release()
        await rig.enter()


async def test_who_leaves_while_it_waits_keeps_nobody_waiting() -> None:
    async with Rig(requests={"limit": 60, "burst": 1}) as rig:
        await rig.enter("a")
        await rig.only._turn.acquire()
        waiting = [asyncio.create_task(rig.enter(name)) for name in ("b", "c")]
        await asyncio.sleep(0)
        waiting[0].cancel()
        rig.only._turn.release()
        with pytest.raises(asyncio.CancelledError):
            await waiting[0]
        await waiting[1]
        assert (rig.only._waiting, rig.only._turn.locked()) == (0, False)


async def test_no_more_wait_than_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meter_module, "MAX_WAITING", 2)
    async with Rig(concurrent=1) as rig:
        await rig.only._turn.acquire()
        waiting = [asyncio.create_task(rig.enter(name)) for name in ("a", "b")]
        await asyncio.sleep(0)
        with pytest.raises(Limited):
            await rig.enter("c")
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_one_request_that_enters_twice_gives_both_back() -> None:
    async with Rig(requests={"limit": 10, "algorithm": "sliding_window"}, concurrent=5) as rig:
        for _ in range(2):
            rig.only.leave(await rig.enter("same"), Amounts(0, 0))
            assert await rig.left() == [10, 5]


async def test_without_redis_the_share_of_this_worker_counts() -> None:
    async with Rig(faults=("lost",), requests={"limit": 60, "burst": 2}, wait_s=0.0) as rig:
        for _ in range(2):
            assert (await rig.enter()).decision.is_local
        with pytest.raises(Limited):
            await rig.enter()


async def test_only_the_first_call_takes_of_what_the_request_may_wait_for_redis() -> None:
    async with Rig(faults=("ok",), requests={"limit": 60, "burst": 1}) as rig:
        await rig.enter("a")
        left = TimeLeft(0.01)
        await rig.only.enter("b", Amounts(), left_s=60.0, redis_left=left)
        assert isinstance(rig.accounts, UnsteadyAccounts)
        assert rig.accounts.limits_s[1:] == [0.01, 0.1]


# --- Along the chain ---


async def test_a_request_waits_for_its_upstream_and_then_goes_there() -> None:
    async with Rig(requests={"limit": 60, "burst": 1}) as rig:
        found = [(await rig.ask()).fields["model"] for _ in range(3)]
        assert found == ["first"] * 3
        assert sum(rig.clock.slept_s) == pytest.approx(2.0)


@pytest.mark.parametrize("limits", [{"requests": {"limit": 1}}, {"tokens": {"limit": 20}}, {"tokens": {"limit": 5}}])
async def test_where_the_wait_is_too_long_the_next_is_asked(limits: Any) -> None:
    async with Rig(wait_s=1.0, **limits) as rig:
        answers = [await rig.ask(), await rig.ask()]
        assert answers[1].fields["model"] == "second"
        assert answers[1].fields["fallback"] == "limited"
        assert rig.clock.slept_s == []


async def test_when_nobody_else_is_there_the_client_is_told_when_to_come_back() -> None:
    async with Rig(wait_s=1.0, requests={"limit": 1, "window_s": 40.0}) as rig:
        await rig.ask("first")
        with pytest.raises(UpstreamThrottled) as caught:
            await rig.ask("first")
        assert caught.value.status == 429
        assert caught.value.retry_after_s == pytest.approx(40.0)


async def test_what_its_upstream_can_never_take_is_the_requests_fault() -> None:
    async with Rig(tokens={"limit": 2}) as rig:
        with pytest.raises(InvalidRequest) as caught:
            await rig.ask("first")
        assert (caught.value.status, caught.value.code) == (400, "request_exceeds_limit")
        assert (await rig.rows())[0].state == "request_exceeds_limit"


LIMITS: dict[str, Any] = {
    "requests": {"limit": 100, "algorithm": "sliding_window"},
    "tokens": {"limit": 1000, "algorithm": "sliding_window"},
    "concurrent": 10,
}


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_gives_back_its_place_and_what_it_did_not_take(stream: bool) -> None:
    async with Rig(**LIMITS) as rig:
        answer = await rig.ask("first", stream=stream)
        if stream:
            assert await rig.left() == [99, 986, 9]
        await taken(answer)
        assert await rig.left() == [99, 995, 10]


async def test_a_failure_gives_back_its_tokens() -> None:
    async with Rig(failed(500), **LIMITS) as rig:
        assert (await rig.ask()).fields["model"] == "second"
        assert await rig.left() == [99, 1000, 10]


async def test_a_client_that_leaves_gives_back_all_but_the_prompt() -> None:
    async with Rig(HANGS, **LIMITS) as rig:
        asking = asyncio.create_task(rig.ask("first"))
        await rig.first.entered.wait()
        assert await rig.left() == [99, 986, 9]
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert await rig.left() == [99, 996, 10]


async def test_a_bug_gives_all_back() -> None:
    async with Rig(**LIMITS) as rig:
        rig.first._responder = ScriptedResponder(refuse=ZeroDivisionError())
        with pytest.raises(ZeroDivisionError):
            await rig.ask("first")
        assert await rig.left() == [99, 1000, 10]


async def test_who_cools_is_not_asked_for_room() -> None:
    def throttled(upstream: str) -> RequestError:
        return UpstreamThrottled(upstream=upstream, retry_after_s=9.0)

    async with Rig(throttled, ANSWERS, **LIMITS) as rig:
        await rig.ask()
        assert (await rig.ask()).fields["model"] == "second"
        assert await rig.left() == [99, 1000, 10]
