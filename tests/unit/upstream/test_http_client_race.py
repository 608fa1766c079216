"""Requests on idle connections that were dead."""

import asyncio
import math
from typing import Any

import pytest
from byte_servers import BOTH_LOOPS, Peer, answer
from faults.canonical import TEXT
from faults.upstream import FaultUpstream
from http_talks import asked, numbered, saying, talk
from upstream_calls import chat, openai_upstream, outcome_of, until

from genkan.errors import ConnectFailed, UpstreamBroken
from genkan.upstream import http_client
from genkan.upstream.http_client import (
    Disconnected,
)

pytestmark = pytest.mark.anyio

both_ways = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@pytest.fixture(params=BOTH_LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.mark.parametrize("reset", [False, True], ids=["end", "reset"])
async def test_a_request_on_a_connection_that_dies_is_sent_once_more_on_a_new_one(reset: bool) -> None:
    async with talk(saying(answer(b"hello"), reset=reset)) as (client, server):
        for number in range(1, 5):
            assert await asked(client) == b"hello"
            assert server.accepted == number
            assert client.idle == 1


async def test_not_after_a_byte_came() -> None:
    async with talk(saying(answer(b"hello"), b"H")) as (client, server):
        await asked(client)
        task = asyncio.create_task(asked(client))
        await until(lambda: not client.idle and next(iter(client._all)).has_answered)
        await server.stop()
        with pytest.raises(Disconnected):
            await task
        assert server.accepted == 1


async def test_not_long_after_it_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "_RACE_S", -1.0)
    async with talk(saying(answer(b"hello"))) as (client, server):
        await asked(client)
        with pytest.raises(Disconnected):
            await asked(client)
        assert server.accepted == 1


async def test_not_on_a_new_connection() -> None:
    async with talk(saying()) as (client, server):
        with pytest.raises(Disconnected):
            await asked(client)
        assert server.accepted == 1


async def test_a_server_that_falls_over_a_request_gets_it_twice_and_the_next_once() -> None:
    deadly = b"deadly"

    async def handle(peer: Peer) -> None:
        while await peer.request() != deadly:
            await peer.say(answer(b"hello"))

    async with talk(handle) as (client, server):
        for accepted in (2, 3, 4):
            await asked(client)
            with pytest.raises(Disconnected):
                await asked(client, deadly)
            assert server.accepted == accepted
        client._no_race_until_s = -math.inf
        await asked(client)
        with pytest.raises(Disconnected):
            await asked(client, deadly)
        assert server.accepted == 6


async def test_a_server_that_falls_over_its_requests_gets_one_of_them_twice() -> None:
    async def handle(peer: Peer) -> None:
        while await peer.request() != b"deadly":
            await peer.say(answer())
        deaths.append(peer.number)
        if len(deaths) == 10:
            all_of_them.set()
        await all_of_them.wait()

    deaths: list[int] = []
    all_of_them = asyncio.Event()
    async with talk(handle) as (client, _):
        await asyncio.gather(*(asked(client) for _ in range(10)))
        assert client.idle == 10
        ends = await asyncio.gather(*(asked(client, b"deadly") for _ in range(10)), return_exceptions=True)
    assert [type(end) for end in ends] == [Disconnected] * 10
    assert deaths[10:] == [11]


async def test_a_restarted_server_is_asked_once_more_however_many_connections_are_dead() -> None:
    async with talk(numbered) as (client, server):
        await asyncio.gather(*(asked(client) for _ in range(20)))
        await server.stop()
        assert client.idle == 20
        await server.start("127.0.0.1", None)
        assert await asked(client) == b"21"
        await until(lambda: client.connections == 1)


@pytest.mark.parametrize("model", ["closes-on-reuse", "resets-on-reuse"])
@both_ways
async def test_a_dead_idle_connection_costs_one_more_and_nobody_notices(
    faults: FaultUpstream, model: str, stream: bool
) -> None:
    async with openai_upstream(faults.base_url) as upstream:
        for _ in range(4):
            outcome = await outcome_of(upstream, model, chat(stream=stream))
            assert (outcome.text, outcome.error) == (TEXT, None)
            assert upstream.bulkhead.in_use == 0
    # The first finds no idle connection; each of the others finds one, loses it, and opens another.
    assert [attempt.connection for attempt in faults.ledger.attempts] == [1, 1, 2, 2, 3, 3, 4]


@both_ways
async def test_of_many_dead_idle_connections_only_one_is_tried(faults: FaultUpstream, stream: bool) -> None:
    async with openai_upstream(faults.base_url) as upstream:
        await asyncio.gather(*(outcome_of(upstream, "closes-on-reuse", chat()) for _ in range(4)))
        outcome = await outcome_of(upstream, "closes-on-reuse", chat(stream=stream))
    assert (outcome.text, outcome.error) == (TEXT, None)
    assert [attempt.connection for attempt in faults.ledger.attempts[4:]][1:] == [5]


@pytest.mark.parametrize("model", ["reset-before-headers", "eof-before-headers"])
@both_ways
async def test_a_request_that_kills_the_server_is_sent_once_more_at_most(
    faults: FaultUpstream, model: str, stream: bool
) -> None:
    async with openai_upstream(faults.base_url) as upstream:
        await outcome_of(upstream, "ok", chat())
        outcome = await outcome_of(upstream, model, chat(stream=stream))
    assert isinstance(outcome.error, UpstreamBroken)
    assert [attempt.model for attempt in faults.ledger.attempts] == ["ok", model, model]


@both_ways
async def test_a_broken_answer_on_an_idle_connection_is_not_asked_for_again(
    faults: FaultUpstream, stream: bool
) -> None:
    async with openai_upstream(faults.base_url) as upstream:
        await outcome_of(upstream, "ok", chat())
        outcome = await outcome_of(upstream, "reset-after-headers", chat(stream=stream))
    assert isinstance(outcome.error, UpstreamBroken)
    assert [attempt.model for attempt in faults.ledger.attempts] == ["ok", "reset-after-headers"]


async def test_a_server_that_is_not_there_is_unreachable() -> None:
    async with openai_upstream("http://127.0.0.1:1/v1") as upstream:
        assert isinstance((await outcome_of(upstream, "ok", chat())).error, ConnectFailed)
