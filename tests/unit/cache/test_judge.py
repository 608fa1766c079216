"""The judge: in turn, within its budget, and never in anyone's way."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from hand_clock import HandClock
from semantic_rigs import SayingModel, Told

from genkan.cache.judge import Ask, Judge, Reply
from genkan.cache.judge_budget import JudgeBudget
from genkan.cache.judge_prompt import Pair

PAIR = Pair(stored_question="How do I pay?", stored_answer="By card.", new_question="How can I pay?")

pytestmark = pytest.mark.anyio


async def pair() -> Pair | None:
    return PAIR


class Verdicts:
    def __init__(self) -> None:
        self.said: list[bool | None] = []

    async def __call__(self, same: bool | None) -> None:
        self.said.append(same)


@asynccontextmanager
async def judging(
    ask: Ask, told: Told, *, share: float = 1.0, per_minute: int = 100, usd: float = 1.0, uniform: float = 0.5
) -> AsyncIterator[Judge]:
    budget = JudgeBudget(per_minute=per_minute, usd_per_day=usd)
    judge = Judge(ask, budget, share=share, clock=HandClock(), observer=told, uniform=lambda: uniform)
    await judge.start()
    try:
        yield judge
    finally:
        await judge.aclose()


@pytest.mark.parametrize(("says", "same"), [("YES", True), ("NO", False), ("I would say YES", False), ("", False)])
async def test_a_verdict_is_a_clear_yes_or_a_no(says: str, same: bool) -> None:
    told, verdicts = Told(), Verdicts()
    async with judging(SayingModel(says), told) as judge:
        assert judge.offer(pair, verdicts)
        await judge.idle()
    assert verdicts.said == [same]
    assert told.verdicts == ["same" if same else "different"]


async def test_a_model_that_fails_gives_no_verdict_and_the_next_pair_is_judged() -> None:
    told, verdicts = Told(), Verdicts()
    replies: Iterator[RuntimeError | Reply] = iter([RuntimeError("down"), Reply("YES", None)])

    async def ask(instructions: str, matter: str) -> Reply:
        reply = next(replies)
        if isinstance(reply, Exception):
            raise reply
        return reply

    async with judging(ask, told) as judge:
        judge.offer(pair, verdicts)
        judge.offer(pair, verdicts)
        await judge.idle()
    assert verdicts.said == [None, True]
    assert told.verdicts == ["failed", "same"]


async def test_what_follows_may_fail_and_what_is_gone_is_not_judged() -> None:
    told, verdicts, model = Told(), Verdicts(), SayingModel()

    async def fails(same: bool | None) -> None:
        raise RuntimeError("a bug")

    async def gone() -> Pair | None:
        return None

    async with judging(model, told) as judge:
        judge.offer(pair, fails)
        judge.offer(gone, verdicts)
        await judge.idle()
    assert verdicts.said == [None]
    assert told.verdicts == ["same", "gone"]
    assert len(model.matters) == 1


async def test_of_what_is_offered_a_share_is_judged() -> None:
    told, verdicts = Told(), Verdicts()
    async with judging(SayingModel(), told, share=0.6, uniform=0.5) as judge:
        assert judge.offer(pair, verdicts)
        assert not judge.offer(pair, verdicts, share=0.5)
        await judge.idle()
    assert told.verdicts == ["same"]


async def test_beyond_its_budget_nothing_is_asked() -> None:
    told, verdicts = Told(), Verdicts()
    async with judging(SayingModel(), told, per_minute=2) as judge:
        assert [judge.offer(pair, verdicts) for _ in range(3)] == [True, True, False]
        await judge.idle()
    assert told.verdicts == ["dropped", "same", "same"]
    told = Told()
    async with judging(SayingModel(cost_nano_usd=2_000_000_000), told) as judge:
        assert judge.offer(pair, verdicts)
        await judge.idle()
        assert not judge.offer(pair, verdicts)


async def test_more_than_it_can_hold_is_dropped_and_an_end_is_an_end() -> None:
    told, verdicts = Told(), Verdicts()
    begun = asyncio.Event()

    async def hangs(instructions: str, matter: str) -> Reply:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with judging(hangs, told) as judge:
        assert judge.offer(pair, verdicts)
        await begun.wait()
        assert all(judge.offer(pair, verdicts) for _ in range(64))
        assert not judge.offer(pair, verdicts)
    assert verdicts.said == []
    assert told.verdicts == ["dropped"]
    assert not judge.offer(pair, verdicts)
