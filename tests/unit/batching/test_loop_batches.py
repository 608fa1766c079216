"""Batches in one event loop: when they go, how many at once, and what becomes of those who leave."""

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genkan.batching.errors import BatcherFull
from genkan.batching.loop_batches import LoopBatches

pytestmark = pytest.mark.anyio
LONG_S = 3600.0


class Work:
    """Doubles numbers once it is let on; fails for negative ones."""

    def __init__(self, *, let_on: bool = True) -> None:
        self.began: list[int] = []
        self.cancelled: list[int] = []
        self.now = self.most = 0
        self.may_end = asyncio.Event()
        if let_on:
            self.may_end.set()

    async def __call__(self, number: int) -> int:
        self.began.append(number)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.cancelled.append(number)
            raise
        finally:
            self.now -= 1
        if number < 0:
            raise ValueError(number)
        return 2 * number


def batches(
    work: Any, *, size: int = 4, wait_s: float = LONG_S, queue: int = 100, at_once: int = 1
) -> LoopBatches[int, int]:
    return LoopBatches(work, max_batch_size=size, max_wait_s=wait_s, max_queue=queue, at_once=at_once)


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_outcomes_are_in_the_order_of_the_items_and_errors_among_them() -> None:
    outcomes = await batches(Work()).outcomes([3, -1, 5, 7])
    assert outcomes[0::2] == [6, 10]
    assert isinstance(outcomes[1], ValueError)
    assert outcomes[3] == 14


async def test_a_batch_that_is_not_full_goes_after_its_time() -> None:
    work = Work()
    line = batches(work, wait_s=0.01)
    began_s = asyncio.get_running_loop().time()
    assert await line.outcomes([1]) == [2]
    assert asyncio.get_running_loop().time() - began_s >= 0.009


async def test_a_lone_caller_waits_once() -> None:
    line = batches(Work(), wait_s=0.05)
    await line.outcomes([1])
    began_s = asyncio.get_running_loop().time()
    for _ in range(10):
        await line.outcomes([1])
    assert asyncio.get_running_loop().time() - began_s < 0.05


async def test_calls_share_batches() -> None:
    work = Work(let_on=False)
    line = batches(work)
    calls = [asyncio.create_task(line.outcomes([number, 10 + number])) for number in (1, 2)]
    await settle()
    assert work.began == [1, 11, 2, 12]
    work.may_end.set()
    assert await asyncio.gather(*calls) == [[2, 22], [4, 24]]


@pytest.mark.parametrize("at_once", [1, 2, 3])
async def test_so_many_batches_run_and_no_more(at_once: int) -> None:
    work = Work(let_on=False)
    call = asyncio.create_task(batches(work, at_once=at_once).outcomes([*range(20)]))
    await settle()
    assert work.began == [*range(4 * at_once)]
    work.may_end.set()
    assert await call == [*range(0, 40, 2)]
    assert work.most == 4 * at_once


async def test_more_than_may_wait_are_refused_together() -> None:
    work = Work(let_on=False)
    line = batches(work, size=3, queue=6)
    with pytest.raises(BatcherFull):
        await line.outcomes([*range(7)])
    assert work.began == []
    call = asyncio.create_task(line.outcomes([*range(6)]))
    await settle()
    work.may_end.set()
    assert await call == [*range(0, 12, 2)]


async def test_who_is_cancelled_takes_its_items_along_and_nobody_elses() -> None:
    work = Work(let_on=False)
    line = batches(work, size=2)
    leaves = asyncio.create_task(line.outcomes([1, 2, 3]))
    await settle()
    stays = asyncio.create_task(line.outcomes([4, 5]))
    await settle()
    assert work.began == [1, 2]
    leaves.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaves
    assert work.cancelled == [1, 2]
    work.may_end.set()
    assert await stays == [8, 10]
    assert work.began == [1, 2, 4, 5]  # 3 was never begun


async def test_who_is_cancelled_as_its_work_begins_leaves_nothing_behind() -> None:
    work = Work(let_on=False)
    line = batches(work, size=1)
    first, second = (asyncio.create_task(line.outcomes([number])) for number in (1, 2))
    await settle()
    work.may_end.set()
    await asyncio.sleep(0)  # the first has ended; its batch will, and make the task of the second
    second.cancel()  # which wakes before that task has run
    with pytest.raises(asyncio.CancelledError):
        await second
    assert await first == [2]
    assert work.began == [1]
    assert await line.outcomes([3]) == [6]


async def test_who_leaves_while_it_waits_is_in_no_batch() -> None:
    work = Work()
    line = batches(work, size=2)
    waits = asyncio.create_task(line.outcomes([1]))
    await settle()
    waits.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waits
    assert await line.outcomes([2, 3]) == [4, 6]
    assert work.began == [2, 3]


async def test_work_that_is_cancelled_by_another_is_an_outcome() -> None:
    async def cancelled(number: int) -> int:
        raise asyncio.CancelledError

    (outcome, _) = await batches(cancelled, size=2).outcomes([1, 2])
    assert isinstance(outcome, asyncio.CancelledError)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.lists(st.integers(-3, 9), min_size=1, max_size=9), min_size=1, max_size=6),
    st.integers(1, 5),
    st.integers(1, 3),
)
def test_everyone_gets_their_own_whatever_comes(calls: list[list[int]], size: int, at_once: int) -> None:
    work = Work()

    async def all_calls() -> list[list[int | BaseException]]:
        line = batches(work, size=size, at_once=at_once, wait_s=0.0)
        return await asyncio.gather(*map(line.outcomes, calls))

    for items, outcomes in zip(calls, asyncio.run(all_calls()), strict=True):
        for item, outcome in zip(items, outcomes, strict=True):
            assert isinstance(outcome, ValueError) if item < 0 else outcome == 2 * item
    assert work.most <= size * at_once
