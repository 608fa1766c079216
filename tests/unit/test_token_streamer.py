"""Streams for many clients: order, pace, time, places, frames, callbacks and how everything ends."""

import asyncio
import doctest
import gc
import inspect
import json
import logging
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import pytest

from genkan import TokenStreamer, token_streamer
from genkan.errors import InternalError, InvalidRequest, TimedOut, TooManyClients
from genkan.token_source import Generate
from genkan.wire.sse import DONE, DONE_DATA, SseDecoder

pytestmark = pytest.mark.anyio
WAIT_S = 10.0  # how long anything here waits for something that happens at once


class ManualClock:
    """A clock on which only sleeping, and ``advance``, takes time."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.sleeps: list[float] = []

    def monotonic(self) -> float:
        return self.now_s

    def unix(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> None:
        self.now_s += seconds

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now_s += seconds


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


class Counting:
    """Generators of the numbers from 0 up to the prompt, which count what happens to them."""

    def __init__(self) -> None:
        self.made = 0
        self.ended = 0

    def sync(self, prompt: str) -> Iterator[str]:
        try:
            for number in range(int(prompt)):
                self.made += 1
                yield str(number)
        finally:
            self.ended += 1

    async def asynchronous(self, prompt: str) -> AsyncIterator[str]:
        try:
            for number in range(int(prompt)):
                self.made += 1
                yield str(number)
        finally:
            self.ended += 1


@pytest.fixture
def counting() -> Counting:
    return Counting()


@pytest.fixture(params=["sync", "async"])
def numbers(request: pytest.FixtureRequest, counting: Counting) -> Generate:
    return counting.sync if request.param == "sync" else counting.asynchronous


class Blocked:
    """A sync and an async generator that make one token and then no other until they are released."""

    def __init__(self) -> None:
        self.entered, self._released, self.ended = threading.Event(), threading.Event(), threading.Event()
        self.threads: list[threading.Thread] = []  # one a sync generator

    def sync(self, _: str) -> Iterator[str]:
        self.threads.append(threading.current_thread())
        try:
            yield "first"
            self.entered.set()
            self._released.wait(WAIT_S)
            yield "late"
        finally:
            self.ended.set()

    async def asynchronous(self, _: str) -> AsyncIterator[str]:
        try:
            yield "first"
            self.entered.set()
            await asyncio.Event().wait()
        finally:
            self.ended.set()

    def release(self) -> None:
        self._released.set()


@pytest.fixture
def blocked() -> Iterator[Blocked]:
    generators = Blocked()
    yield generators
    generators.release()


@pytest.fixture(params=["sync", "async"])
def blocking(request: pytest.FixtureRequest, blocked: Blocked) -> Generate:
    return blocked.sync if request.param == "sync" else blocked.asynchronous


async def happened(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, WAIT_S)


async def all_of(streamer: TokenStreamer, prompt: str, client_id: str | None = None) -> list[str]:
    return [token async for token in streamer.stream(prompt, client_id)]


async def events_of(streamer: TokenStreamer, prompt: str) -> list[Any]:
    """The payloads of the frames, all but the last, which is checked to be ``[DONE]``."""
    frames = [frame async for frame in streamer.sse(prompt, "client")]
    decoder = SseDecoder()
    payloads = [decoder.feed(frame) for frame in frames]
    assert all(len(events) == 1 for events in payloads), "a frame is one whole event"
    assert frames[-1] == DONE
    assert [events[0] for events in payloads].count(DONE_DATA) == 1
    return [json.loads(events[0]) for events in payloads[:-1]]


def test_the_examples_are_true() -> None:
    results = doctest.testmod(token_streamer)
    assert (results.failed, results.attempted > 5) == (0, True)


def test_the_defaults() -> None:
    defaults = {name: each.default for name, each in inspect.signature(TokenStreamer).parameters.items()}
    assert (defaults["pacing_s"], defaults["max_clients"], defaults["timeout_s"]) == (0.02, 100, 60.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pacing_s", -0.01),
        ("pacing_s", float("nan")),
        ("pacing_s", float("inf")),
        ("max_clients", 0),
        ("timeout_s", 0.0),
        ("timeout_s", float("inf")),
    ],
)
def test_refuses_limits_that_allow_nothing(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} is out of range; given: {value}"):
        TokenStreamer(Counting().sync, **{name: value})  # type: ignore[arg-type]


async def test_streams_the_tokens_in_order(numbers: Generate, counting: Counting) -> None:
    assert await all_of(TokenStreamer(numbers, pacing_s=0), "50") == [str(number) for number in range(50)]
    assert counting.ended == 1


async def test_a_stream_that_nobody_reads_does_nothing(numbers: Generate, counting: Counting) -> None:
    streamer = TokenStreamer(numbers)
    await streamer.stream("3").aclose()
    assert (counting.made, streamer.statistics.total) == (0, 0)


# Pace


async def test_paces_each_client(numbers: Generate, clock: ManualClock) -> None:
    streamer = TokenStreamer(numbers, pacing_s=0.5, clock=clock, sleep=clock.sleep)
    assert [clock.now_s async for _ in streamer.stream("4")] == [0.0, 0.5, 1.0, 1.5]


async def test_two_streams_of_one_client_are_paced_each_for_itself(clock: ManualClock) -> None:
    streamer = TokenStreamer(Counting().asynchronous, pacing_s=0.5, clock=clock, sleep=clock.sleep)
    async with aclosing(streamer.stream("2", "same")) as first, aclosing(streamer.stream("2", "same")) as second:
        assert [await anext(first), await anext(second)] == ["0", "0"]
        assert clock.sleeps == []
        assert streamer.statistics.active == 2


async def test_time_that_the_generator_or_the_client_took_counts_for_the_pace(clock: ManualClock) -> None:
    async def slow(_: str) -> AsyncIterator[str]:
        for token in "abc":
            clock.advance(0.2)
            yield token

    streamer = TokenStreamer(slow, pacing_s=0.5, clock=clock, sleep=clock.sleep)
    async with aclosing(streamer.stream("")) as tokens:
        await anext(tokens)
        await anext(tokens)
        assert clock.sleeps == [pytest.approx(0.3)]
        clock.advance(0.4)  # the client's own time
        await anext(tokens)
    assert clock.sleeps == [pytest.approx(0.3)]


async def test_without_a_pace_nobody_waits(numbers: Generate, clock: ManualClock) -> None:
    await all_of(TokenStreamer(numbers, pacing_s=0, clock=clock, sleep=clock.sleep), "20")
    assert clock.sleeps == []


async def test_waits_again_when_a_timer_was_early(clock: ManualClock) -> None:
    async def early(seconds: float) -> None:
        await clock.sleep(max(seconds - 0.125, 0.0625))

    streamer = TokenStreamer(Counting().asynchronous, pacing_s=0.5, clock=clock, sleep=early)
    assert [clock.now_s async for _ in streamer.stream("2")] == [0.0, 0.5]
    assert clock.sleeps == [0.375, 0.0625, 0.0625]


async def test_a_slow_client_holds_its_generator_up(numbers: Generate, counting: Counting) -> None:
    streamer = TokenStreamer(numbers, pacing_s=0)
    async with aclosing(streamer.stream("1000000")) as tokens:
        for expected in range(1, 6):
            await anext(tokens)
            assert counting.made == expected
    assert (counting.made, counting.ended) == (5, 1)


# Time


async def test_a_stream_may_take_no_longer_than_its_limit(
    numbers: Generate, counting: Counting, clock: ManualClock
) -> None:
    streamer = TokenStreamer(numbers, pacing_s=0.5, timeout_s=1.75, clock=clock, sleep=clock.sleep)
    tokens = streamer.stream("100")
    assert [await anext(tokens) for _ in range(4)] == ["0", "1", "2", "3"]
    with pytest.raises(TimedOut, match=r"total took more than 1\.75 s") as caught:
        await anext(tokens)
    assert (caught.value.phase, caught.value.limit_s, counting.ended) == ("total", 1.75, 1)


async def test_a_client_that_took_all_the_time_gets_no_more(
    numbers: Generate, counting: Counting, clock: ManualClock
) -> None:
    tokens = TokenStreamer(numbers, timeout_s=60.0, clock=clock, sleep=clock.sleep).stream("3")
    await anext(tokens)
    clock.advance(60.0)
    with pytest.raises(TimedOut):
        await anext(tokens)
    assert (counting.made, counting.ended) == (1, 1)


async def test_a_generator_that_blocks_is_left_in_time(
    blocking: Generate, blocked: Blocked, clock: ManualClock
) -> None:
    streamer = TokenStreamer(blocking, pacing_s=0, timeout_s=60.0, clock=clock)
    tokens = streamer.stream("")
    assert await anext(tokens) == "first"
    clock.advance(59.99)  # the rest passes on the real clock
    with pytest.raises(TimedOut):
        await anext(tokens)
    assert streamer.statistics.active == 0
    blocked.release()
    await happened(blocked.ended)


async def test_a_timeout_of_the_generators_own_is_not_taken_for_the_streams() -> None:
    async def generate(_: str) -> AsyncIterator[str]:
        yield "a"
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        await all_of(TokenStreamer(generate, pacing_s=0), "")


async def test_a_callback_that_hangs_is_left_in_time(counting: Counting) -> None:
    streamer = TokenStreamer(counting.asynchronous, timeout_s=0.01)

    @streamer.on_token
    async def hang(client_id: str, token: str) -> None:
        await asyncio.Event().wait()

    with pytest.raises(TimedOut):
        await all_of(streamer, "3")
    assert (counting.made, counting.ended) == (1, 1)


# Places


async def test_a_hundred_clients_have_a_place_and_one_more_has_not() -> None:
    streamer = TokenStreamer(Counting().asynchronous, pacing_s=0)
    streams = [streamer.stream("2", f"client-{number}") for number in range(100)]
    assert [await anext(stream) for stream in streams] == ["0"] * 100
    with pytest.raises(TooManyClients, match="At most 100 clients") as caught:
        await all_of(streamer, "2")
    assert (caught.value.status, caught.value.limit, caught.value.retry_after_s) == (503, 100, 5.0)
    assert streamer.statistics.active == 100

    await streams[50].aclose()
    assert await all_of(streamer, "2") == ["0", "1"]
    for stream in streams:
        await stream.aclose()
    assert streamer.statistics.active == 0


async def test_a_hundred_clients_read_at_once_each_its_own(numbers: Generate) -> None:
    streamer = TokenStreamer(numbers, pacing_s=0)
    answers = await asyncio.gather(*(all_of(streamer, str(length)) for length in range(100)))
    assert answers == [[str(number) for number in range(length)] for length in range(100)]
    assert (streamer.statistics.total, streamer.statistics.active) == (100, 0)


async def test_a_generator_stuck_in_a_step_keeps_its_place_until_it_returns(blocked: Blocked) -> None:
    streamer = TokenStreamer(blocked.sync, pacing_s=0, max_clients=1)
    reader = asyncio.create_task(all_of(streamer, ""))
    await happened(blocked.entered)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert streamer.statistics.active == 0
    with pytest.raises(TooManyClients):
        await all_of(streamer, "")
    blocked.release()
    await asyncio.to_thread(blocked.threads[0].join, WAIT_S)
    assert await all_of(streamer, "") == ["first", "late"]


# Ends


async def test_closing_a_stream_closes_its_generator_once(numbers: Generate, counting: Counting) -> None:
    tokens = TokenStreamer(numbers).stream("3")
    await anext(tokens)
    assert counting.ended == 0
    await tokens.aclose()
    await tokens.aclose()
    assert (counting.made, counting.ended) == (1, 1)


async def test_a_cancelled_reader_ends_its_generator(blocking: Generate, blocked: Blocked) -> None:
    streamer = TokenStreamer(blocking, pacing_s=0)
    reader = asyncio.create_task(all_of(streamer, ""))
    await happened(blocked.entered)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert streamer.statistics.active == 0
    blocked.release()
    await happened(blocked.ended)


async def test_a_reader_cancelled_while_it_is_paced_ends_its_generator(numbers: Generate, counting: Counting) -> None:
    paced = asyncio.Event()

    async def forever(_: float) -> None:
        paced.set()
        await asyncio.Event().wait()

    reader = asyncio.create_task(all_of(TokenStreamer(numbers, sleep=forever), "3"))
    await asyncio.wait_for(paced.wait(), WAIT_S)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert (counting.made, counting.ended) == (2, 1)


async def test_a_stream_that_is_dropped_is_closed(blocked: Blocked) -> None:
    async def read_one(streamer: TokenStreamer) -> None:
        async for _ in streamer.stream(""):
            break

    await read_one(TokenStreamer(blocked.sync, pacing_s=0))
    gc.collect()  # what drops it where references are not counted
    await happened(blocked.ended)


@pytest.mark.parametrize("error", [ValueError("no"), InvalidRequest("no"), InternalError()])
async def test_what_the_generator_raises_midway_comes_after_its_tokens(error: Exception) -> None:
    def generate(_: str) -> Iterator[str]:
        yield "a"
        raise error

    streamer = TokenStreamer(generate, pacing_s=0)
    tokens = streamer.stream("")
    assert await anext(tokens) == "a"
    with pytest.raises(type(error)) as caught:
        await anext(tokens)
    assert caught.value is error
    assert streamer.statistics.active == 0


# Frames


async def test_a_frame_is_one_event_with_a_token() -> None:
    def generate(prompt: str) -> list[str]:
        return prompt.split()

    frames = [frame async for frame in TokenStreamer(generate, pacing_s=0).sse("so far", "client")]
    assert frames == [b'data: {"token": "so"}\n\n', b'data: {"token": "far"}\n\n', b"data: [DONE]\n\n"]


TEXTS = ["Xin chào, thế giới", "안녕하세요", "👩‍👩‍👧‍👦🇻🇳", "a\r\nb\u2028\x85", '"\\', "", " "]


async def test_text_of_every_kind_comes_through_whole() -> None:
    assert await events_of(TokenStreamer(lambda _: TEXTS, pacing_s=0), "") == [{"token": text} for text in TEXTS]


async def test_text_is_sent_as_it_is_written() -> None:
    frames = [frame async for frame in TokenStreamer(lambda _: ["chào 안녕 👋"], pacing_s=0).sse("", "client")]
    assert frames[0] == 'data: {"token": "chào 안녕 👋"}\n\n'.encode()


async def test_half_of_a_surrogate_pair_does_not_end_the_stream() -> None:
    assert await events_of(TokenStreamer(lambda _: ["a\ud83d", "b"], pacing_s=0), "") == [
        {"token": "a?"},
        {"token": "b"},
    ]


async def test_a_failure_is_an_event_that_gives_nothing_away_and_a_line_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def generate(_: str) -> Iterator[str]:
        yield "a"
        raise ValueError("a secret")

    streamer = TokenStreamer(generate, pacing_s=0)
    with caplog.at_level(logging.ERROR, "genkan.token_streamer"):
        token, failure = await events_of(streamer, "")
    assert token == {"token": "a"}
    assert failure["error"] == {
        "message": InternalError().message,
        "type": "server_error",
        "param": None,
        "code": "internal_error",
    }
    assert "a secret" in caplog.text
    assert streamer.statistics.active == 0


async def test_an_error_that_is_meant_for_the_client_is_told_to_it() -> None:
    def generate(_: str) -> list[str]:
        raise InvalidRequest("The prompt is empty.", param="prompt")

    assert await events_of(TokenStreamer(generate), "") == [
        {
            "error": {
                "message": "The prompt is empty.",
                "type": "invalid_request_error",
                "param": "prompt",
                "code": "invalid_value",
            }
        }
    ]


async def test_running_out_of_time_is_an_event(clock: ManualClock) -> None:
    streamer = TokenStreamer(Counting().sync, pacing_s=0.5, timeout_s=0.75, clock=clock, sleep=clock.sleep)
    *tokens, failure = await events_of(streamer, "9")
    assert tokens == [{"token": "0"}, {"token": "1"}]
    assert failure["error"]["code"] == "upstream_timeout"


async def test_having_no_place_is_an_event() -> None:
    streamer = TokenStreamer(Counting().asynchronous, max_clients=1)
    async with aclosing(streamer.stream("1")) as tokens:
        await anext(tokens)
        (failure,) = await events_of(streamer, "1")
    assert failure["error"]["code"] == "server_is_overloaded"


async def test_closing_the_frames_closes_the_generator(numbers: Generate, counting: Counting) -> None:
    frames = TokenStreamer(numbers).sse("3", "client")
    await anext(frames)
    await frames.aclose()
    assert (counting.made, counting.ended) == (1, 1)


# Callbacks


async def test_callbacks_sync_and_async_see_each_token_in_turn_before_the_client() -> None:
    streamer = TokenStreamer(Counting().asynchronous, pacing_s=0)
    seen: list[tuple[str, str, str]] = []

    def first(client_id: str, token: str) -> None:
        seen.append(("first", client_id, token))

    @streamer.on_token
    async def second(client_id: str, token: str) -> None:
        seen.append(("second", client_id, token))

    assert streamer.on_token(first) is first
    async for token in streamer.stream("2", "client-1"):
        assert seen[-2:] == [("second", "client-1", token), ("first", "client-1", token)]
    assert len(seen) == 4


async def test_a_callback_is_told_of_every_client_by_its_name() -> None:
    streamer = TokenStreamer(Counting().sync, pacing_s=0)
    seen: list[str] = []
    streamer.on_token(lambda client_id, token: seen.append(client_id))
    for client_id in ("client-1", "client-2", None, None):
        await all_of(streamer, "1", client_id)
    assert seen[:2] == ["client-1", "client-2"]
    assert len(set(seen)) == 4  # the nameless have names of their own
    assert all(seen)


async def test_a_callback_that_fails_is_logged_and_breaks_nothing(
    numbers: Generate, caplog: pytest.LogCaptureFixture
) -> None:
    streamer = TokenStreamer(numbers, pacing_s=0)
    seen: list[str] = []

    @streamer.on_token
    def fail(client_id: str, token: str) -> None:
        raise ValueError("no")

    @streamer.on_token
    async def fail_later(client_id: str, token: str) -> None:
        raise TimeoutError("no")

    streamer.on_token(lambda client_id, token: seen.append(token))
    with caplog.at_level(logging.ERROR, "genkan.token_streamer"):
        assert await all_of(streamer, "3") == ["0", "1", "2"] == seen
    assert [record.getMessage() for record in caplog.records] == ["a token callback failed"] * 6


async def test_a_callback_that_is_taken_off_is_told_no_more(numbers: Generate) -> None:
    streamer = TokenStreamer(numbers, pacing_s=0)
    seen: list[str] = []

    def once(client_id: str, token: str) -> None:
        seen.append(token)
        streamer.off_token(once)

    streamer.on_token(once)
    assert await all_of(streamer, "3") == ["0", "1", "2"]
    assert seen == ["0"]
    with pytest.raises(ValueError, match="not in tuple"):
        streamer.off_token(once)


async def test_a_method_can_be_taken_off() -> None:
    streamer = TokenStreamer(Counting().sync, pacing_s=0)
    seen: dict[str, str] = {}
    streamer.on_token(seen.setdefault)
    streamer.off_token(seen.setdefault)
    await all_of(streamer, "1")
    assert seen == {}


# Statistics


async def test_counts_streams_tokens_and_time(clock: ManualClock) -> None:
    streamer = TokenStreamer(Counting().asynchronous, pacing_s=0.5, clock=clock, sleep=clock.sleep)
    before = streamer.statistics
    assert (before.total, before.active, before.tokens, before.mean_duration_s) == (0, 0, 0, 0.0)
    await all_of(streamer, "2")  # 0.5 s
    await all_of(streamer, "4")  # 1.5 s
    async with aclosing(streamer.stream("9")) as tokens:
        await anext(tokens)
        clock.advance(100.0)
        during = streamer.statistics
    assert (during.total, during.active, during.tokens, during.mean_duration_s) == (3, 1, 7, 1.0)
    after = streamer.statistics
    assert (after.total, after.active, after.tokens, after.mean_duration_s) == (3, 0, 7, 34.0)
    assert (before.total, during.active) == (0, 1)  # snapshots


async def test_a_stream_counts_as_ended_however_it_ended(clock: ManualClock) -> None:
    async def generate(prompt: str) -> AsyncGenerator[str, None]:
        clock.advance(float(prompt))
        yield "a"
        raise ValueError("no")

    streamer = TokenStreamer(generate, pacing_s=0, timeout_s=4.0, clock=clock, sleep=clock.sleep)
    with pytest.raises(ValueError, match="no"):
        await all_of(streamer, "2")
    with pytest.raises(TimedOut):
        await all_of(streamer, "4")
    assert (streamer.statistics.total, streamer.statistics.active) == (2, 0)
    assert streamer.statistics.mean_duration_s == 3.0
