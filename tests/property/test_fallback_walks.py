"""Chains of upstreams that do anything at all: every request ends, well if it can, and leaves nothing behind."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_upstreams import (
    ANSWERS,
    FILTERED,
    HANGS,
    Rig,
    Turn,
    broken,
    failed,
    forbidden,
    full,
    misconfigured,
    quota,
    refused,
    slow,
    taken,
    throttled,
    unauthorized,
    unreachable,
)

from genkan.config import RetryConfig
from genkan.errors import RequestError

MAX_RETRIES = 2
REASONS = ["error", "context_too_long", "content_filter"]
OWN_FAILURES = [
    unreachable, full, slow, broken, unauthorized, forbidden, quota, misconfigured, failed(500), failed(503),
    failed(503, 1.0), failed(504), throttled(), throttled(2.0), throttled(100.0), refused("engine_unavailable", 503),
]  # fmt: skip
FAILS = [Turn(error) for error in OWN_FAILURES] + [Turn(error, takes_s=40.0) for error in (slow, broken)]
FAULTS = [Turn(refused("x")), Turn(refused("context_length_exceeded")), Turn(refused("content_filter"))]
BREAKS = Turn(breaks=broken)
TURNS = st.sampled_from([ANSWERS, ANSWERS, FILTERED, BREAKS, HANGS, *FAILS, *FAULTS])
CHAINS = st.lists(st.lists(TURNS, min_size=1, max_size=6), min_size=1, max_size=4)
PAUSES_S = st.sampled_from([0.0, 0.1, 1.0, 20.0, 31.0, 400.0])
#: A stream or not, and how long the client waits before it asks.
REQUESTS = st.lists(st.tuples(st.booleans(), PAUSES_S), min_size=1, max_size=8)


def run(scenario: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner() as runner:
        runner.run(scenario)


@dataclass
class Ended:
    answered: bool
    attempts: int


def rig_of(chain: list[list[Turn]], reasons: list[str]) -> Rig:
    rig = Rig(fallback_on=reasons, total_s=100.0, retry=RetryConfig(max_retries=MAX_RETRIES))
    for name, turns in zip("abcd", chain, strict=False):
        rig.add(name, *turns)
    return rig


async def ended(rig: Rig, *, stream: bool) -> Ended | None:
    """How one request ended; None when an upstream never said anything and the client went."""
    before = sum(rig.asked.values())
    task = asyncio.create_task(rig.ask(stream=stream))
    # What does not hang is over after some rounds of the loop: nothing here waits for the time of day.
    for _ in range(100):
        if task.done():
            break
        await asyncio.sleep(0)
    else:
        task.cancel()
    try:
        answer, walk = await task
    except asyncio.CancelledError:
        assert any(place.upstream.entered.is_set() for place in rig.places.values())
        return None
    except RequestError:
        return Ended(False, sum(rig.asked.values()) - before)
    assert walk.attempts == sum(rig.asked.values()) - before
    try:
        assert await taken(answer)
    except RequestError:
        assert stream
    return Ended(True, walk.attempts)


@settings(deadline=None, max_examples=300)
@given(CHAINS, REQUESTS, st.lists(st.sampled_from(REASONS), unique=True))
def test_every_request_ends_once_within_its_attempts_and_leaves_nothing(
    chain: list[list[Turn]], requests: list[tuple[bool, float]], reasons: list[str]
) -> None:
    async def scenario() -> None:
        rig = rig_of(chain, reasons)
        for stream, pause_s in requests:
            rig.clock.now_s += pause_s
            end = await ended(rig, stream=stream)
            assert rig.is_at_rest()
            if end is not None:
                assert end.attempts <= len(chain) + MAX_RETRIES
        assert len(rig.told.attempts) == sum(rig.asked.values())

    run(scenario())


@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from(FAILS), max_size=3), st.booleans(), st.sets(st.integers(0, 3)), st.data())
def test_whoever_would_answer_at_its_turn_does_whatever_fails_before_it(
    failures: list[Turn], stream: bool, open_breakers: set[int], data: st.DataObject
) -> None:
    """Unless its turn comes after the deadline. A breaker that is open, wrongly, changes nothing."""

    async def scenario() -> None:
        place = data.draw(st.integers(0, len(failures)))
        turns = [*failures[:place], ANSWERS, *failures[place:]]
        rig = rig_of([[turn] for turn in turns], REASONS)
        for name, index in zip("abcd", range(len(turns)), strict=False):
            if index in open_breakers:
                rig.places[name].open_breaker(rig.clock.now_s)
        if sum(turn.takes_s for turn in turns) < 100.0:
            assert await rig.answered_by(stream=stream) == "abcd"[place]
        assert rig.is_at_rest()

    run(scenario())


@settings(deadline=None, max_examples=100)
@given(CHAINS, st.integers(1, 30))
def test_a_client_may_leave_at_any_moment(chain: list[list[Turn]], rounds: int) -> None:
    async def scenario() -> None:
        rig = rig_of(chain, REASONS)
        task = asyncio.create_task(rig.answered_by(stream=True))
        for _ in range(rounds):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert rig.is_at_rest()

    run(scenario())
