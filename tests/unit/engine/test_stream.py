"""One reader's tokens, and how several event loops are woken."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from genkan.engine.sequence import Token
from genkan.engine.stream import TokenStream, deliver
from genkan.errors import EngineFailed, ReaderTooSlow

pytestmark = pytest.mark.anyio


def token(id_: int) -> Token:
    return Token(id_, None, 0)


@pytest.fixture
def overflows() -> list[TokenStream]:
    return []


def stream_of(overflows: list[TokenStream], limit: int = 16) -> TokenStream:
    stream = TokenStream(limit, lambda: overflows.append(stream))
    return stream


async def test_items_come_in_order_and_an_error_last(overflows: list[TokenStream]) -> None:
    stream = stream_of(overflows)
    for item in (token(1), token(2), EngineFailed("no")):
        stream.put(item)
    assert [await stream.next(), await stream.next()] == [token(1), token(2)]
    with pytest.raises(EngineFailed, match="no"):
        await stream.next()
    assert overflows == []


async def test_a_reader_that_lets_too_much_pile_up_gets_that_much_and_an_error(overflows: list[TokenStream]) -> None:
    stream = stream_of(overflows, limit=3)
    for id_ in range(3):
        stream.put(token(id_))
    assert overflows == []
    for id_ in range(3, 6):
        stream.put(token(id_))
    stream.put(EngineFailed("what comes after is nobody's"))
    assert overflows == [stream]  # once
    assert [(await stream.next()).id for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ReaderTooSlow) as caught:
        await stream.next()
    assert caught.value.limit_tokens == 3


async def test_what_was_read_makes_room(overflows: list[TokenStream]) -> None:
    stream = stream_of(overflows, limit=2)
    for id_ in range(20):
        stream.put(token(2 * id_))
        stream.put(token(2 * id_ + 1))
        assert [(await stream.next()).id for _ in range(2)] == [2 * id_, 2 * id_ + 1]
    assert overflows == []


async def test_an_error_is_told_however_much_waits(overflows: list[TokenStream]) -> None:
    stream = stream_of(overflows, limit=1)
    stream.put(token(1))
    stream.put(EngineFailed("no"))
    assert await stream.next() == token(1)
    with pytest.raises(EngineFailed):
        await stream.next()
    assert overflows == []


async def test_a_loop_is_woken_once_for_all_its_streams(
    overflows: list[TokenStream], monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    wake_ups: list[Any] = []
    wake = loop.call_soon_threadsafe

    def counting(callback: Callable[..., Any], *args: Any) -> asyncio.Handle:
        wake_ups.append(args)
        return wake(callback, *args)

    monkeypatch.setattr(loop, "call_soon_threadsafe", counting)
    streams = [stream_of(overflows) for _ in range(3)]
    deliver((stream, token(place)) for place, stream in enumerate(streams))
    assert [(await stream.next()).id for stream in streams] == [0, 1, 2]
    assert len(wake_ups) == 1
    deliver([])
    assert len(wake_ups) == 1


async def test_streams_of_a_closed_loop_are_cancelled_and_the_others_served(overflows: list[TokenStream]) -> None:
    async def made() -> TokenStream:
        return stream_of(overflows)

    gone = await asyncio.to_thread(lambda: asyncio.run(made()))
    here = stream_of(overflows)
    deliver([(gone, token(1)), (here, token(2))])
    assert await here.next() == token(2)
    assert overflows == [gone]
