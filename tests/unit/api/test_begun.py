"""An awaitable that was begun ends like one that was awaited."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from genkan.api.begun import Begun

pytestmark = pytest.mark.anyio
Awaiting = Callable[[Coroutine[Any, Any, int]], Coroutine[Any, Any, int]]


async def plainly(work: Coroutine[Any, Any, int]) -> int:
    return await work


async def begun(work: Coroutine[Any, Any, int]) -> int:
    return await Begun(work)


@pytest.fixture(params=[plainly, begun])
def awaiting(request: pytest.FixtureRequest) -> Awaiting:
    return request.param  # type: ignore[no-any-return]


@asynccontextmanager
async def noting(seen: list[type[BaseException]]) -> AsyncGenerator[None, None]:
    try:
        yield
    except BaseException as error:
        seen.append(type(error))
        raise


async def at_once() -> int:
    return 7


async def after(waits: int) -> int:
    for number in range(waits):
        await asyncio.sleep(0 if number % 2 else 0.001)
    return waits


async def test_what_does_not_wait_is_done() -> None:
    work = Begun(at_once())
    assert (work.is_done, work.result, await work) == (True, 7, 7)


async def test_what_waits_is_not_done_and_has_run_up_to_there() -> None:
    steps: list[str] = []

    async def work() -> int:
        steps.append("begun")
        await asyncio.sleep(0)
        steps.append("ended")
        return 7

    started = Begun(work())
    assert (started.is_done, steps) == (False, ["begun"])
    assert await started == 7
    assert steps == ["begun", "ended"]


@pytest.mark.parametrize("waits", [0, 1, 2, 5])
async def test_it_goes_on_through_every_wait(awaiting: Awaiting, waits: int) -> None:
    assert await awaiting(after(waits)) == waits


@pytest.mark.parametrize("waits", [0, 1, 2])
async def test_an_error_comes_out(awaiting: Awaiting, waits: int) -> None:
    async def failing() -> int:
        await after(waits)
        raise KeyError("x")

    with pytest.raises(KeyError, match="x"):
        await awaiting(failing())


@pytest.mark.parametrize("waits_before", [0, 1])
async def test_a_cancellation_reaches_what_waits(awaiting: Awaiting, waits_before: int) -> None:
    seen: list[type[BaseException]] = []

    async def work() -> int:
        await after(waits_before)
        async with noting(seen):
            await asyncio.Event().wait()
        return 7

    task = asyncio.create_task(awaiting(work()))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == [asyncio.CancelledError]


async def test_who_outlives_a_cancellation_goes_on_waiting(awaiting: Awaiting) -> None:
    async def stubborn() -> int:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return await after(3)
        raise AssertionError

    task = asyncio.create_task(awaiting(stubborn()))
    await asyncio.sleep(0)
    task.cancel()
    assert await task == 3


async def test_a_time_limit_that_begins_at_the_first_wait_ends_it() -> None:
    seen: list[type[BaseException]] = []

    async def work() -> None:
        async with noting(seen):
            await asyncio.Event().wait()

    started = Begun(work())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await started
    assert seen == [asyncio.CancelledError]


async def test_a_time_limit_of_its_own_holds_across_the_first_wait(awaiting: Awaiting) -> None:
    async def work() -> int:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            return 7
        raise AssertionError

    assert await awaiting(work()) == 7
