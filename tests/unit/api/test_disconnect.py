"""Work that is cancelled for a client that has gone, and only that work."""

import asyncio
from typing import Any

import pytest

from genkan.api import disconnect
from genkan.api.disconnect import WATCH_AFTER_S, cancelled_on_disconnect
from genkan.api.exchange import ClientGone, Exchange

pytestmark = pytest.mark.anyio


def left_by_its_client(looks: list[float] | None = None) -> Exchange:
    """Each look at whether it is notes its time in ``looks``."""

    async def receive() -> dict[str, Any]:
        if looks is not None:
            looks.append(asyncio.get_running_loop().time())
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        raise AssertionError("there is nobody to answer")

    return Exchange({"method": "GET", "path": "/", "headers": []}, receive, send)


async def turned_into_an_error() -> None:
    with cancelled_on_disconnect(left_by_its_client()):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise KeyError from None


def cancellations() -> int:
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


async def test_the_block_is_cancelled_and_the_task_goes_on() -> None:
    with pytest.raises(ClientGone), cancelled_on_disconnect(left_by_its_client()):
        await asyncio.Event().wait()
    assert cancellations() == 0


async def test_a_cancellation_that_the_block_turned_into_an_error_is_taken_back_as_well() -> None:
    with pytest.raises(KeyError):
        await turned_into_an_error()
    assert cancellations() == 0


async def test_a_timeout_around_it_still_knows_its_own_cancellation_afterwards() -> None:
    async def limited() -> None:
        async with asyncio.timeout(1.0) as limit:
            with pytest.raises(KeyError):
                await turned_into_an_error()
            limit.reschedule(0.0)
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await limited()


async def test_who_else_cancelled_the_task_is_not_forgotten() -> None:
    async def work() -> None:
        with cancelled_on_disconnect(left_by_its_client()):
            try:
                await asyncio.Event().wait()
            finally:
                task.cancel()

    task = asyncio.create_task(work())
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_watch_begins_only_once_a_block_has_run_for_long() -> None:
    looks: list[float] = []
    began_s = asyncio.get_running_loop().time()
    with pytest.raises(ClientGone), cancelled_on_disconnect(left_by_its_client(looks)):
        await asyncio.wait_for(asyncio.Event().wait(), 20 * WATCH_AFTER_S)
    [looked_s] = looks
    assert looked_s - began_s > 0.9 * WATCH_AFTER_S


async def test_blocks_that_end_soon_are_not_watched_and_are_forgotten() -> None:
    looks: list[float] = []
    for _ in range(10):
        with cancelled_on_disconnect(left_by_its_client(looks)):
            await asyncio.sleep(WATCH_AFTER_S / 5)
    await asyncio.sleep(2.5 * WATCH_AFTER_S)
    assert looks == []
    blocks = disconnect._long_blocks[asyncio.get_running_loop()]
    assert (blocks._new, blocks._seen, blocks._looks) == ([], [], False)  # and no timer runs any more


def test_every_loop_has_its_own_blocks_watched_and_those_of_loops_that_ended_are_forgotten() -> None:
    async def left() -> str:
        with pytest.raises(ClientGone), cancelled_on_disconnect(left_by_its_client()):
            await while_another_loop_has_one()
        return "noticed"

    async def while_another_loop_has_one() -> None:
        await asyncio.to_thread(asyncio.run, quick())
        await asyncio.Event().wait()

    async def quick() -> None:
        with cancelled_on_disconnect(left_by_its_client()):
            pass

    assert asyncio.run(left()) == "noticed"
    asyncio.run(quick())
    assert len(disconnect._long_blocks) == 1


async def test_many_blocks_at_once_have_a_watch_each() -> None:
    async def work(number: int) -> None:
        await asyncio.sleep(number * WATCH_AFTER_S / 10)
        with pytest.raises(ClientGone), cancelled_on_disconnect(left_by_its_client()):
            await asyncio.Event().wait()

    async with asyncio.timeout(20 * WATCH_AFTER_S):
        await asyncio.gather(*map(work, range(30)))


def test_a_loop_that_ended_with_blocks_left_is_no_obstacle_for_the_next() -> None:
    async def leave_open() -> None:
        cancelled_on_disconnect(left_by_its_client()).__enter__()

    async def gone() -> None:
        with pytest.raises(ClientGone), cancelled_on_disconnect(left_by_its_client()):
            await asyncio.wait_for(asyncio.Event().wait(), 20 * WATCH_AFTER_S)

    asyncio.run(leave_open())
    asyncio.run(gone())
