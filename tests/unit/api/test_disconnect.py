"""Work that is cancelled for a client that has gone, and only that work."""

import asyncio
from typing import Any

import pytest

from genkan.api.disconnect import cancelled_on_disconnect
from genkan.api.exchange import ClientGone, Exchange

pytestmark = pytest.mark.anyio


def left_by_its_client() -> Exchange:
    async def receive() -> dict[str, Any]:
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
