"""Requests that are the same, in one worker: one ask, any number of answers, and anybody may leave at any time."""

import asyncio
import gc
from collections.abc import AsyncGenerator

import orjson
import pytest
from flight_asks import USAGE, Asked, Began, Client, body_of, chunk, client, settled, text_of, usage_chunk
from flight_asks import asked as request_of

from genkan.cache.collector import Collected
from genkan.errors import InternalError, InvalidRequest, ServerStopping, StreamInterrupted, UpstreamFailed
from genkan.gateway.flights import Flights
from genkan.gateway.recording import KEPT_BYTES
from genkan.upstream.base import Answer

pytestmark = pytest.mark.anyio


@pytest.fixture
async def flights() -> AsyncGenerator[Flights, None]:
    """Nothing may be left of any flight. (An error that nobody was told of fails the test once it is collected.)"""
    flights = Flights()
    await flights.start()
    yield flights
    await settled()
    assert flights.count == 0
    await flights.aclose()
    gc.collect()


def failed() -> UpstreamFailed:
    return UpstreamFailed(upstream="up", status_there=500)


async def done(*clients: Client) -> None:
    async with asyncio.timeout(5):
        await asyncio.wait([one.task for one in clients])


async def test_one_alone_gets_what_it_asked_for_as_it_came(flights: Flights) -> None:
    one = client(flights, request_of(include_usage=True))
    one.line.say("a", "b")
    one.line.finish(usage=True)
    await done(one)
    assert one.payloads == [chunk("a"), chunk("b"), chunk("", finish_reason="stop"), usage_chunk()]
    assert one.is_leader
    assert one.usage == USAGE
    assert one.line.closes == 1
    (collected,) = one.completed
    assert isinstance(collected, Collected)
    assert (collected.text, collected.usage is not None) == ("ab", True)


async def test_a_hundred_ask_once(flights: Flights) -> None:
    first, *others = clients = [client(flights) for _ in range(100)]
    await settled()
    first.line.say("a")
    await settled()
    assert all(one.payloads for one in clients)  # live, not at the end
    first.line.say("b")
    first.line.finish()
    await done(*clients)
    assert [one.text for one in clients] == ["ab"] * 100
    assert sum(one.line.was_asked for one in clients) == 1
    assert sum(len(one.completed) for one in clients) == 1
    assert all(one.is_leader is False and one.deployment == "m@up" and one.usage == USAGE for one in others)
    assert {one.finish_reason for one in others} == {"stop"}
    ids = {orjson.loads(one.payloads[0])["id"] for one in clients}
    assert len(ids) == 100


async def test_who_comes_late_gets_all_of_it(flights: Flights) -> None:
    first = client(flights)
    first.line.say("a", "b")
    await settled()
    late = client(flights, request_of(include_usage=True))
    await settled()
    assert late.text == "ab"
    first.line.finish()
    await done(first, late)
    last = orjson.loads(late.payloads[-1])
    assert last["usage"]["cached"] is True
    assert last["usage"]["total_tokens"] == 7
    assert last["id"] == orjson.loads(late.payloads[0])["id"] != "chatcmpl-theirs"
    assert "usage" not in orjson.loads(first.payloads[-1])


async def test_who_did_not_ask_for_usage_does_not_get_it(flights: Flights) -> None:
    first, other = client(flights, request_of(include_usage=True)), client(flights)
    await settled()
    first.line.say("a")
    first.line.finish(usage=True)
    await done(first, other)
    assert first.payloads[-1] == usage_chunk()
    assert all(b"usage" not in data for data in other.payloads)


async def test_a_body_for_who_wants_one_and_a_stream_for_who_wants_that(flights: Flights) -> None:
    first, whole = client(flights), client(flights, request_of(stream=False))
    await settled()
    first.line.say("a", "b")
    first.line.finish()
    await done(first, whole)
    assert whole.body is not None
    assert whole.text == "ab"
    assert orjson.loads(whole.body)["usage"]["cached"] is True
    first, other, stream = (
        client(flights, request_of(stream=False)),
        client(flights, request_of(stream=False)),
        client(flights),
    )
    await settled()
    first.line.said.put_nowait(body_of("some more words"))
    await done(first, other, stream)
    assert first.body == body_of("some more words")
    assert other.body is not None
    assert other.body != first.body
    assert other.text == stream.text == "some more words"
    assert len(stream.payloads) > 3
    assert [one.line.was_asked for one in (first, other, stream)] == [True, False, False]


async def test_what_is_no_plain_text_goes_to_streams_and_the_others_ask_for_themselves(flights: Flights) -> None:
    first, stream, whole = client(flights), client(flights), client(flights, request_of(stream=False))
    await settled()
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    first.line.said.put_nowait([chunk("", tool_calls=[call])])
    first.line.finish()
    await done(first, stream)
    assert first.completed == [None]
    assert b"call_1" in stream.payloads[0]
    await settled()
    assert whole.line.was_asked
    whole.line.said.put_nowait(body_of("own"))
    await done(whole)
    assert (whole.text, whole.is_leader) == ("own", True)


async def test_it_goes_on_when_the_one_that_was_asked_for_leaves(flights: Flights) -> None:
    first, other, whole = client(flights), client(flights), client(flights, request_of(stream=False))
    first.line.say("a")
    await settled()
    await first.leave()
    assert first.line.is_open
    first.line.say("b")
    first.line.finish()
    await done(other, whole)
    assert (other.text, whole.text) == ("ab", "ab")
    assert first.line.closes == 1
    assert len(first.completed) == 1  # its worker still stores it
    assert not other.line.was_asked


async def test_it_goes_on_when_that_one_leaves_before_the_first_word(flights: Flights) -> None:
    first, other = client(flights), client(flights)
    await settled()
    await first.leave()
    assert first.line.is_open
    first.line.say("a")
    first.line.finish()
    await done(other)
    assert other.text == "a"


async def test_who_leaves_before_asking_began_is_not_asked_for(flights: Flights) -> None:
    first, other = client(flights), client(flights)
    await asyncio.sleep(0)  # both have boarded, and the flight has not begun
    first.task.cancel()
    await settled()
    assert not first.line.was_asked or other.line.was_asked is False
    line = first.line if first.line.was_asked else other.line
    line.say("a")
    line.finish()
    await done(other)
    assert other.text == "a"


@pytest.mark.parametrize("words", [0, 1, 2])
async def test_when_all_have_left_it_is_cancelled_and_closed(flights: Flights, words: int) -> None:
    first, other = client(flights), client(flights)
    await settled()
    for _ in range(words):
        first.line.say("a")
        await settled()
    await first.leave()
    assert first.line.is_open
    await other.leave()
    assert (first.line.was_cancelled, first.line.is_open, first.line.closes) == (True, False, words > 0)
    assert first.completed == []


async def test_one_alone_that_leaves_at_once_leaves_nothing(flights: Flights) -> None:
    one = client(flights)
    await asyncio.sleep(0)
    await one.leave()
    assert not one.line.is_open
    assert flights.count == 0


async def test_an_answer_that_was_never_read_is_closed(flights: Flights) -> None:
    one = client(flights, reads=False)
    one.line.say("a")
    await settled()
    assert one.is_leader
    await one.leave()
    assert one.line.closes == 1
    assert one.line.was_cancelled


async def test_what_is_wrong_with_the_request_is_told_to_all(flights: Flights) -> None:
    clients = [client(flights, request_of(stream=n % 2 == 0)) for n in range(5)]
    await settled()
    error = InvalidRequest("no", param="x")
    error.headers = ((b"x-left", b"1"),)
    clients[0].line.fail(error)
    await done(*clients)
    assert clients[0].error is error
    for one in clients[1:]:
        assert isinstance(one.error, InvalidRequest)
        assert (one.error.message, one.error.param, one.error.headers) == ("no", "x", ())
        assert not one.line.was_asked


async def test_after_bad_luck_one_more_asks(flights: Flights) -> None:
    first, second, third = clients = [client(flights) for _ in range(3)]
    await settled()
    first.line.fail(failed())
    await done(first)
    await settled()
    assert isinstance(first.error, UpstreamFailed)
    assert (second.line.was_asked, third.line.was_asked) == (True, False)
    second.line.say("a")
    second.line.finish()
    await done(*clients)
    assert second.text == third.text == "a"
    assert len(second.completed) == 1


async def test_bad_luck_twice_is_told_to_all(flights: Flights) -> None:
    first, second, third = clients = [client(flights) for _ in range(3)]
    await settled()
    first.line.fail(failed())
    await settled()
    second.line.fail(failed())
    await done(*clients)
    assert isinstance(third.error, UpstreamFailed)
    assert not third.line.was_asked


async def test_a_bug_is_its_own_clients_only(flights: Flights) -> None:
    first, second, third = clients = [client(flights) for _ in range(3)]
    await settled()
    first.line.fail(Asked())
    await settled()
    second.line.fail(Asked())
    await done(*clients)
    assert isinstance(first.error, Asked)
    assert isinstance(third.error, InternalError)


async def test_one_that_is_cancelled_by_itself_is_replaced(flights: Flights) -> None:
    first, other = client(flights), client(flights)
    await settled()
    first.line.fail(asyncio.CancelledError())
    await settled()
    assert first.task.cancelled()
    other.line.say("a")
    other.line.finish()
    await done(other)
    assert other.text == "a"


async def test_a_stream_that_breaks_off_does_for_those_who_had_some_of_it(flights: Flights) -> None:
    first, stream, whole = client(flights), client(flights), client(flights, request_of(stream=False))
    first.line.say("a")
    await settled()
    first.line.fail(StreamInterrupted("broke off", upstream="up"))
    await done(first, stream)
    assert isinstance(first.error, StreamInterrupted)
    assert isinstance(stream.error, StreamInterrupted)
    assert stream.text == "a"
    await settled()
    assert whole.line.was_asked  # it had nothing
    whole.line.said.put_nowait(body_of("whole"))
    await done(whole)
    assert whole.text == "whole"


async def test_who_reads_slowly_slows_nobody(flights: Flights) -> None:
    slow, quick = client(flights, reads=False), client(flights)
    await settled()
    word = "x" * 1000
    for _ in range(1000):
        slow.line.say(word)
        await settled(4)
    slow.line.finish()
    await done(quick)
    assert len(quick.text) == 1_000_000
    slow.may_read.set()
    await done(slow)
    assert len(slow.text) == 1_000_000


async def test_when_nobody_reads_nothing_more_is_taken(flights: Flights) -> None:
    one = client(flights, reads=False)
    for _ in range(1000):
        one.line.say("x" * 1000)
    one.line.finish()
    await settled(3000)
    assert 500 < one.line.said.qsize() < 1000
    one.may_read.set()
    await done(one)
    assert len(one.text) == 1_000_000


async def test_a_very_long_answer_is_joined_by_nobody_and_not_kept(flights: Flights) -> None:
    one = client(flights)
    await settled()
    piece = "x" * 100_000
    for _ in range(2 * KEPT_BYTES // len(piece)):
        one.line.say(piece)
        await settled(4)
    recording = next(iter(flights._flights.values())).recording
    assert sum(len(data) for batch in recording.batches for data in batch) < KEPT_BYTES
    other = client(flights)
    await settled()
    assert other.line.was_asked
    other.line.say("own")
    other.line.finish()
    one.line.finish()
    await done(one, other)
    assert other.text == "own"
    assert len(one.text) == 2 * KEPT_BYTES // len(piece) * len(piece)
    assert one.completed == [None]


async def test_the_end_comes_after_it_was_stored(flights: Flights) -> None:
    one = client(flights, request_of(stream=False))
    await settled()
    one.line.said.put_nowait(body_of("a"))
    while not one.completed:
        assert one.body is None
        await asyncio.sleep(0)
    await done(one)


async def test_after_the_end_it_is_asked_anew(flights: Flights) -> None:
    for text in ("a", "b"):
        one = client(flights)
        one.line.say(text)
        one.line.finish()
        await done(one)
        assert one.text == text


async def test_other_keys_are_asked_on_their_own(flights: Flights) -> None:
    one, other = client(flights), client(flights, key=bytes(15) + b"1")
    await settled()
    for each, text in ((one, "a"), (other, "b")):
        each.line.say(text)
        each.line.finish()
    await done(one, other)
    assert (one.text, other.text) == ("a", "b")


async def test_at_the_end_of_the_server_everybody_is_told() -> None:
    flights = Flights()
    begun, waiting = client(flights), client(flights, key=bytes(15) + b"1")
    whole = client(flights, request_of(stream=False))
    begun.line.say("a")
    await settled()
    await flights.aclose()
    await done(begun, waiting, whole)
    for one in (begun, waiting, whole):
        assert isinstance(one.error, ServerStopping)
    assert (begun.line.closes, waiting.line.was_cancelled) == (1, True)
    assert flights.count == 0
    late = client(flights)
    late.line.say("a")
    late.line.finish()
    await done(late)
    assert late.text == text_of([chunk("a")])


async def test_the_end_of_the_server_does_not_break_off_what_is_being_closed() -> None:
    flights = Flights()
    may_close, closed = asyncio.Event(), False

    async def close() -> None:
        nonlocal closed
        await may_close.wait()
        closed = True

    async def ask() -> Began:
        async def batches() -> AsyncGenerator[list[bytes], None]:
            yield [chunk("a")]
            await asyncio.Event().wait()

        answer = Answer(batches=batches())
        answer.on_close(close)
        return Began(answer)

    boarded = await flights.answer(bytes(16), request_of(), ask, request_id="req_1", timeout_s=0.0)
    leaving = asyncio.create_task(boarded.answer.aclose())
    await settled()
    ending = asyncio.create_task(flights.aclose())
    await settled()
    may_close.set()
    await asyncio.gather(leaving, ending)
    assert closed
    assert flights.count == 0


async def test_who_comes_just_after_the_end_is_asked_for_anew(flights: Flights) -> None:
    """So that a purge holds at once."""
    first = client(flights)
    first.line.say("a")
    first.line.finish()
    await done(first)
    late = client(flights)
    late.line.say("b")
    late.line.finish()
    await done(late)
    assert (late.text, late.is_leader) == ("b", True)
