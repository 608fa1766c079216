"""Answers on their way: streams that end, break or are left, answers of a content filter, and cancellation."""

import asyncio

import pytest
from scripted_upstreams import ANSWERS, FILTERED, HANGS, Rig, Turn, broken, failed, refused, taken

from genkan.config import BreakerConfig
from genkan.errors import Phase, RequestError, TimedOut, UpstreamBroken, UpstreamFailed

pytestmark = pytest.mark.anyio

WAIT_S = 5.0
FILTER_TOO = {"fallback_on": ["error", "context_too_long", "content_filter"]}
BREAKS = Turn(breaks=broken)


# Streams


async def test_a_stream_succeeds_when_it_has_ended() -> None:
    rig = Rig()
    place = rig.add("a", Turn(takes_s=2.0))
    answer, _ = await rig.ask(stream=True)
    assert (place.in_flight, rig.told.first_tokens, rig.told.attempts) == (1, [("a@a.up", 2.0)], [])
    rig.clock.now_s += 3.0
    assert await taken(answer) == [b"a.up", b"end"]
    assert rig.told.attempts == [("a@a.up", "ok", 5.0)]
    assert rig.is_at_rest()


async def test_a_stream_that_breaks_after_its_beginning_is_a_failure_and_nobody_else_is_asked() -> None:
    rig = Rig()
    place = rig.add("a", BREAKS)
    rig.add("b")
    answer, _ = await rig.ask(stream=True)
    with pytest.raises(UpstreamBroken):
        await taken(answer)
    assert rig.asked == {"a": 1, "b": 0}
    assert place.circuits.load("a@a.up").consecutive == 1
    assert rig.told.outcomes == [("a", "upstream_invalid_response")]
    assert rig.is_at_rest()


@pytest.mark.parametrize(("phase", "failures"), [("total", 0), ("between_tokens", 1)])
async def test_an_answer_that_takes_all_of_the_time_says_nothing_of_its_upstream(phase: Phase, failures: int) -> None:
    rig = Rig()
    place = rig.add("a", Turn(breaks=lambda upstream: TimedOut(upstream=upstream, phase=phase, limit_s=600.0)))
    answer, _ = await rig.ask(stream=True)
    with pytest.raises(TimedOut):
        await taken(answer)
    assert place.circuits.load("a@a.up").consecutive == failures
    assert rig.told.outcomes == [("a", "upstream_timeout")]
    assert rig.is_at_rest()


async def test_streams_that_break_open_the_breaker() -> None:
    rig = Rig()
    place = rig.add("a", BREAKS)
    rig.add("b")
    for _ in range(2):
        answer, _ = await rig.ask(stream=True)
        with pytest.raises(UpstreamBroken):
            await taken(answer)
    assert place.state == "open"
    assert await rig.answered_by(stream=True) == "b"


@pytest.mark.parametrize("pieces", [0, 1])
async def test_a_stream_that_the_client_leaves_says_nothing_of_the_upstream(pieces: int) -> None:
    rig = Rig()
    place = rig.add("a")
    answer, _ = await rig.ask(stream=True)
    assert answer.batches is not None
    for _ in range(pieces):
        await anext(answer.batches)
    await answer.aclose()
    await answer.aclose()
    assert rig.told.outcomes == [("a", "client_gone")]
    assert place.circuits.load("a@a.up").attempts == 0.0
    assert rig.is_at_rest()


async def test_a_probe_by_a_stream_closes_the_breaker_at_its_first_token() -> None:
    rig = Rig()
    place = rig.add("a")
    place.open_breaker(rig.clock.now_s)
    rig.clock.now_s += 31.0
    answer, _ = await rig.ask(stream=True)
    assert place.state == "closed"
    await taken(answer)
    assert rig.told.outcomes == [("a", "ok")]
    assert rig.is_at_rest()


async def test_a_probe_that_breaks_after_its_first_token_leaves_the_breaker_closed() -> None:
    rig = Rig()
    place = rig.add("a", BREAKS)
    place.open_breaker(rig.clock.now_s)
    rig.clock.now_s += 31.0
    answer, _ = await rig.ask(stream=True)
    with pytest.raises(UpstreamBroken):
        await taken(answer)
    assert place.state == "closed"
    assert rig.is_at_rest()


# Content filters


@pytest.mark.parametrize("stream", [False, True])
async def test_a_filtered_answer_is_an_answer_unless_the_route_says_otherwise(stream: bool) -> None:
    rig = Rig()
    rig.add("a", FILTERED)
    rig.add("b")
    assert await rig.answered_by(stream=stream) == "a"
    assert rig.asked == {"a": 1, "b": 0}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_filtered_answer_is_closed_when_another_answers(stream: bool) -> None:
    rig = Rig(**FILTER_TOO)
    rig.add("a", FILTERED)
    rig.add("b")
    answer, walk = await rig.ask(stream=stream)
    assert rig.places["a"].upstream.open == 0
    assert (walk.attempts, walk.fell_back_because) == (2, "content_filter")
    assert (await taken(answer))[0] == b"b.up"
    assert rig.told.fallbacks == [("r", "content_filter")]
    assert rig.told.outcomes == [("a", "ok"), ("b", "ok")]
    assert rig.is_at_rest()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("others", [(), (failed(),), (refused("content_filter"),), (refused("x"),)])
async def test_a_filtered_answer_is_better_than_an_error(stream: bool, others: tuple[Turn, ...]) -> None:
    rig = Rig(**FILTER_TOO)
    rig.add("a", FILTERED)
    for name, turn in zip("bc", others, strict=False):
        rig.add(name, turn)
    answer, walk = await rig.ask(stream=stream)
    assert (await taken(answer))[0] == b"a.up"
    assert (walk.fell_back_because, rig.clock.slept_s) == (None, [])
    assert rig.is_at_rest()


@pytest.mark.parametrize("stream", [False, True])
async def test_when_the_time_is_over_a_filtered_answer_in_hand_is_given(stream: bool) -> None:
    rig = Rig(total_s=10.0, **FILTER_TOO)
    rig.add("a", Turn(filtered=True, takes_s=10.0))
    rig.add("b")
    answer, walk = await rig.ask(stream=stream)
    assert (await taken(answer))[0] == b"a.up"
    assert (rig.asked, walk.attempts, walk.fell_back_because) == ({"a": 1, "b": 0}, 1, None)
    assert rig.is_at_rest()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_filtered_answer_that_is_kept_is_whole_and_holds_nothing(stream: bool) -> None:
    rig = Rig(**FILTER_TOO)
    kept = rig.add("a", FILTERED)
    rig.add("b", HANGS)
    task = asyncio.create_task(rig.ask(stream=stream))
    async with asyncio.timeout(WAIT_S):
        await rig.places["b"].upstream.entered.wait()
    assert kept.upstream.open == 0
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    rig.add("b", failed())
    answer, _ = await rig.ask(stream=stream)
    assert kept.upstream.open == 0
    assert await taken(answer) == ([b"a.up", b"end"] if stream else [b"a.up"])


async def test_a_filtered_answer_that_breaks_is_a_failure_like_any() -> None:
    rig = Rig(retry={"max_retries": 0}, **FILTER_TOO)
    place = rig.add("a", Turn(filtered=True, breaks=broken))
    with pytest.raises(UpstreamBroken):
        await rig.ask(stream=True)
    assert rig.told.outcomes == [("a", "upstream_invalid_response")]
    assert place.circuits.load("a@a.up").consecutive == 1
    assert rig.is_at_rest()


async def test_the_first_of_several_filtered_answers_is_kept_and_all_are_asked() -> None:
    rig = Rig(**FILTER_TOO)
    rig.add("a", FILTERED)
    rig.add("b", FILTERED, ANSWERS)
    rig.add("c", FILTERED)
    assert await rig.answered_by(stream=True) == "a"
    assert rig.asked == {"a": 1, "b": 1, "c": 1}
    assert rig.is_at_rest()
    assert await rig.answered_by(stream=True) == "b"
    assert rig.is_at_rest()


async def test_an_error_of_a_content_filter_leads_on_where_the_route_says_so() -> None:
    rig = Rig(**FILTER_TOO)
    rig.add("a", refused("content_filter"))
    rig.add("b")
    assert await rig.answered_by() == "b"
    assert rig.told.fallbacks == [("r", "content_filter")]


# Cancellation


async def cancelled_at(rig: Rig, name: str, *, stream: bool) -> None:
    """Ask, and go away while ``name`` makes us wait."""
    task = asyncio.create_task(rig.ask(stream=stream))
    async with asyncio.timeout(WAIT_S):
        await rig.places[name].upstream.entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("stream", [False, True])
async def test_who_leaves_while_an_upstream_thinks_leaves_nothing_behind(stream: bool) -> None:
    rig = Rig(**FILTER_TOO)
    rig.add("a", FILTERED)
    rig.add("b", failed())
    place = rig.add("c", HANGS)
    await cancelled_at(rig, "c", stream=stream)
    assert rig.is_at_rest()
    assert rig.told.outcomes == [("a", "ok"), ("b", "upstream_error"), ("c", "client_gone")]
    assert place.circuits.load("c@c.up").attempts == 0.0


async def test_a_probe_that_is_cancelled_makes_room_for_another() -> None:
    rig = Rig()
    place = rig.add("a", HANGS, ANSWERS)
    place.open_breaker(rig.clock.now_s)
    rig.clock.now_s += 31.0
    await cancelled_at(rig, "a", stream=False)
    assert (await rig.answered_by(), place.state) == ("a", "closed")


@pytest.mark.parametrize("stream", [False, True])
async def test_who_leaves_while_a_filtered_answer_is_closed_leaves_no_answer_open(stream: bool) -> None:
    rig = Rig(**FILTER_TOO)
    rig.add("a", Turn(filtered=True, hangs_at_close=True))
    rig.add("b")
    await cancelled_at(rig, "a", stream=stream)
    assert rig.is_at_rest()


async def test_who_leaves_while_a_filtered_answer_is_read_leaves_no_answer_open() -> None:
    rig = Rig(**FILTER_TOO)
    rig.add("a", Turn(filtered=True, hangs_within=True))
    rig.add("b")
    await cancelled_at(rig, "a", stream=True)
    assert rig.is_at_rest()
    assert rig.told.outcomes == [("a", "client_gone")]


async def test_who_leaves_while_it_waits_for_a_retry_leaves_nothing_behind() -> None:
    rig = Rig()
    rig.add("a", failed(), ANSWERS)
    asleep = asyncio.Event()

    async def for_ever(seconds: float) -> None:
        asleep.set()
        await asyncio.Event().wait()

    rig.clock.sleep = for_ever  # type: ignore[method-assign]
    task = asyncio.create_task(rig.ask())
    async with asyncio.timeout(WAIT_S):
        await asleep.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert (rig.asked, rig.told.retries) == ({"a": 1}, [])
    assert rig.is_at_rest()


async def test_requests_at_the_same_time_open_the_breaker_only_after_more_failures() -> None:
    rig = Rig(retry={"max_retries": 0})
    place = rig.add("a", failed(), breaker=BreakerConfig(consecutive_failures=5))
    caught = await asyncio.gather(*(rig.ask() for _ in range(8)), return_exceptions=True)
    assert all(isinstance(each, RequestError) for each in caught)
    assert sum(isinstance(each, UpstreamFailed) for each in caught) == 8
    assert place.state == "open"
    assert rig.is_at_rest()
