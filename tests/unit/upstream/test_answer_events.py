"""A streamed answer as it is read from a response: whole, cut, broken off, or no stream at all."""

import asyncio

import pytest
from byte_servers import MemoryDialer, answer, asking, turns
from responders import HELLO, HELLO_BODY, USAGE, chunk

from genkan.errors import StreamInterrupted, UpstreamBroken
from genkan.upstream import answer_events
from genkan.upstream.answer_events import AnswerEvents, some_of
from genkan.upstream.http_client import Disconnected, HttpClient, Response
from genkan.wire.answers import MalformedAnswer
from genkan.wire.chat import ChatRequest

pytestmark = pytest.mark.anyio

REQUEST = ChatRequest.from_object(
    {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
)
HEAD = b"HTTP/1.1 200 OK\r\n\r\n"
EVENTS = [b"data: %b\n\n" % event for event in HELLO]
DONE = b"data: [DONE]\n\n"


class Talk:
    """A response whose body comes when the test says so, and the events in it."""

    def __init__(self, server: MemoryDialer, response: Response) -> None:
        self.server = server.made[0]
        self.response = response
        self.events = AnswerEvents("up", response, REQUEST)

    async def rest(self) -> list[bytes]:
        payloads: list[bytes] = []
        while (batch := await self.events.next()) is not None:
            assert batch
            payloads += batch
        return payloads


async def talk(head: bytes = HEAD) -> Talk:
    dialer = MemoryDialer()
    client = HttpClient(dialer, connect_s=1, keep_alive=1, keep_alive_s=1)
    task = asyncio.create_task(client.request(asking()))
    await turns()
    dialer.made[0].send(head)
    return Talk(dialer, await task)


async def test_events_are_handed_on_as_they_come() -> None:
    going = await talk()
    for event, payload in zip(EVENTS, HELLO, strict=True):
        task = asyncio.create_task(going.events.next())
        await turns()
        assert not task.done()
        going.server.send(event)
        assert await task == [payload]
    assert (going.events.follower.complete, going.events.ended) == (True, False)
    going.server.send(DONE)
    assert (await going.events.next(), going.events.ended, await going.events.next()) == (None, True, None)
    assert going.events.follower.usage == USAGE
    going.response.close()
    await turns()


async def test_a_stream_in_two_reads_is_the_same_wherever_it_is_cut() -> None:
    stream = b"".join(EVENTS) + DONE
    for place in range(len(stream) + 1):
        going = await talk()
        going.server.send(stream[:place])
        reading = asyncio.create_task(going.rest())
        await turns(2)
        going.server.send(stream[place:])
        assert await reading == HELLO
        going.response.close()
    await turns()


async def test_what_came_before_an_early_end_goes_on_and_then_the_error() -> None:
    going = await talk()
    going.server.send(EVENTS[0])
    assert await going.events.next() == HELLO[:1]
    going.server.send(EVENTS[1] + DONE + EVENTS[2])
    assert await going.events.next() == [HELLO[1]]
    with pytest.raises(StreamInterrupted, match="ended before it was complete"):
        await going.events.next()
    going.response.close()
    await turns()


@pytest.mark.parametrize("end", [b"", DONE, b": alive\n\n", b"\n"], ids=["nothing", "done", "comment", "line"])
async def test_an_answer_without_anything_in_it_is_broken(end: bytes) -> None:
    going = await talk()
    going.server.send(end)
    going.server.eof()
    with pytest.raises(UpstreamBroken, match="empty"):
        await going.rest()


async def test_an_end_of_the_body_needs_no_done() -> None:
    going = await talk()
    going.server.send(b"".join(EVENTS))
    going.server.eof()
    assert (await going.rest(), going.events.ended) == (HELLO, True)


@pytest.mark.parametrize(
    ("events", "error"), [(0, UpstreamBroken), (1, StreamInterrupted), (2, StreamInterrupted)], ids=str
)
async def test_a_connection_that_breaks_before_the_answer_is_complete_is_an_error(
    events: int, error: type[Exception]
) -> None:
    going = await talk()
    going.server.send(b"".join(EVENTS[:events]))
    going.server.reset()
    with pytest.raises(error, match="connection to the model's server broke") as caught:
        await going.rest()
    assert type(caught.value) is error
    assert isinstance(caught.value.__cause__, Disconnected)


async def test_a_connection_that_breaks_after_the_answer_is_complete_is_none() -> None:
    going = await talk()
    going.server.send(b"".join(EVENTS[:3]))
    going.server.reset()
    assert (await going.rest(), going.events.ended) == (HELLO[:3], True)


@pytest.mark.parametrize("place", [0, 1, 5, 100])
async def test_a_whole_answer_in_place_of_a_stream_becomes_one(place: int) -> None:
    head, _, body = answer(b" \r\n" + HELLO_BODY).partition(b"\r\n\r\n")
    going = await talk(head + b"\r\n\r\n")
    reading = asyncio.create_task(going.rest())
    for piece in (body[:place], body[place:]):
        await turns()
        going.server.send(piece)
    payloads = await reading
    assert b'"Hello"' in payloads[0]
    assert (going.events.ended, going.events.follower.usage) == (True, USAGE)


async def test_a_whole_answer_that_breaks_off_is_never_taken() -> None:
    going = await talk(answer(HELLO_BODY)[:-1])
    going.server.eof()
    with pytest.raises(Disconnected):
        await going.rest()


async def test_a_whole_answer_without_an_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_events, "MAX_BODY_BYTES", 1000)
    going = await talk(HEAD + b"{")
    reading = asyncio.create_task(going.rest())
    await turns()
    going.server.send(b" " * 1000)
    with pytest.raises(MalformedAnswer, match="more than 1000 bytes"):
        await reading
    going.response.close()
    await turns()


async def test_a_choice_that_nobody_asked_for_is_malformed() -> None:
    going = await talk()
    going.server.send(b"data: %b\n\n" % chunk("Hel").replace(b'"index":0', b'"index":1'))
    with pytest.raises(MalformedAnswer):
        await going.rest()
    going.response.close()
    await turns()


# --- some_of ---


async def test_some_of_a_body_is_all_of_it_when_it_is_short() -> None:
    for body in (b"", b"hello"):
        going = await talk(answer(body))
        assert await some_of(going.response, 100) == body


async def test_some_of_a_body_comes_in_many_pieces_and_waits_for_its_end() -> None:
    going = await talk(answer(b"hello")[:-5])
    reading = asyncio.create_task(some_of(going.response, 100))
    for byte in b"hello":
        await turns()
        assert not reading.done()
        going.server.send(bytes((byte,)))
    assert await reading == b"hello"


async def test_some_of_an_endless_body_passes_the_limit_and_is_no_more_than_what_came() -> None:
    going = await talk()
    reading = asyncio.create_task(some_of(going.response, 10))
    for _ in range(5):
        going.server.send(b"abcd")
        await turns()
    assert await reading == b"abcd" * 3
    going.response.close()
    await turns()


async def test_some_of_a_body_that_breaks_off_is_an_error() -> None:
    going = await talk(answer(b"hello")[:-1])
    going.server.reset()
    with pytest.raises(Disconnected):
        await some_of(going.response, 100)
