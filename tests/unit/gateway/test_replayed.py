"""A stored answer, given as it is asked for."""

import asyncio

import orjson
import pytest
from caching_rig import ask, text_of
from stored_answers import stored

from genkan.gateway.replayed import replayed

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("stream", [False, True])
async def test_it_comes_whole_or_as_a_stream(stream: bool) -> None:
    answer = replayed(stored(), "req_7", ask(stream=stream))
    assert (answer.body is None) == stream
    assert answer.usage is not None
    assert answer.usage["cached"] is True
    if answer.body is not None:
        assert orjson.loads(answer.body)["usage"] == answer.usage
    assert await text_of(answer) == "It is on its way."


async def test_a_long_stream_lets_others_work() -> None:
    """Who takes it never waits, so all of it would be one step of the event loop."""
    answer = replayed(stored(text="word " * 10_000), "req_7", ask(stream=True))
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    assert await text_of(answer) == "word " * 10_000
    counting.cancel()
    assert turns > 30
