"""Idle connections: how many, how long, and what a dead one costs."""

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from faults.canonical import TEXT
from faults.upstream import FaultUpstream
from upstream_calls import chat, open_connections, openai_upstream, outcome_of, until

from genkan.errors import ConnectFailed, TimedOut, UpstreamBroken
from genkan.upstream import connections, http_upstream
from genkan.upstream.connections import TcpConnections, fresh_connection, was_reused

pytestmark = pytest.mark.anyio

both_ways = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@asynccontextmanager
async def session(*, keep_alive: int = 20, keep_alive_s: float = 15) -> AsyncGenerator[aiohttp.ClientSession, None]:
    connector = TcpConnections(keep_alive=keep_alive, keep_alive_s=keep_alive_s)
    async with aiohttp.ClientSession(connector=connector) as opened:
        yield opened


async def get(client: aiohttp.ClientSession, faults: FaultUpstream) -> bool:
    """Whether the request went over a connection that had been idle."""
    async with client.get(f"{faults.base_url}/models") as response:
        await response.read()
        return was_reused()


async def test_an_idle_connection_is_used_again_and_says_so(faults: FaultUpstream) -> None:
    async with session() as client:
        assert [await get(client, faults) for _ in range(3)] == [False, True, True]
    assert {probe.connection for probe in faults.ledger.probes} == {1}


async def test_a_fresh_connection_is_fresh_and_only_within_its_block(faults: FaultUpstream) -> None:
    async with session() as client:
        await get(client, faults)
        with fresh_connection():
            assert not await get(client, faults)
        assert await get(client, faults)


async def test_what_one_task_asks_for_does_not_concern_another(faults: FaultUpstream) -> None:
    async with session() as client:
        await get(client, faults)
        with fresh_connection():
            fresh = asyncio.create_task(get(client, faults))
        other = asyncio.create_task(get(client, faults))
        assert [await fresh, await other] == [False, True]
        with fresh_connection():
            await get(client, faults)
            assert not was_reused()


async def test_the_one_used_last_is_used_first(faults: FaultUpstream) -> None:
    async with session() as client:
        await asyncio.gather(*(get(client, faults) for _ in range(3)))
        with fresh_connection():
            await get(client, faults)
        for _ in range(3):
            await get(client, faults)
    *burst, fresh = [probe.connection for probe in faults.ledger.probes[:4]]
    assert fresh not in burst
    assert [probe.connection for probe in faults.ledger.probes[4:]] == [fresh] * 3


@pytest.mark.parametrize("keep_alive", [0, 1, 3])
async def test_at_most_so_many_connections_stay_idle_for_long(
    faults: FaultUpstream, monkeypatch: pytest.MonkeyPatch, keep_alive: int
) -> None:
    monkeypatch.setattr(connections, "TRIM_S", 0.05)
    async with openai_upstream(faults.base_url, connections={"keep_alive": keep_alive}) as upstream:
        for _ in range(2):
            outcomes = await asyncio.gather(*(outcome_of(upstream, "ok", chat()) for _ in range(6)))
            assert [outcome.text for outcome in outcomes] == [TEXT] * 6
            await until(lambda: open_connections(faults) == keep_alive)
    await until(lambda: open_connections(faults) == 0)
    assert len({attempt.connection for attempt in faults.ledger.attempts}) == 12 - keep_alive


async def test_only_what_was_not_needed_for_a_while_is_closed(
    faults: FaultUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with session(keep_alive=1) as client:
        await asyncio.gather(*(get(client, faults) for _ in range(3)))
        assert isinstance(client.connector, TcpConnections)
        ((key, idle),) = client.connector._conns.items()
        client.connector._trim(key)
        assert len(idle) == 3
        monkeypatch.setattr(connections, "TRIM_S", -60.0)  # as if they had been idle for so long
        client.connector._trim(key)
        assert len(idle) == 1


async def test_connections_in_use_time_and_again_are_not_closed_in_between(faults: FaultUpstream) -> None:
    async with openai_upstream(faults.base_url, connections={"keep_alive": 1}) as upstream:
        for _ in range(5):
            await asyncio.gather(*(outcome_of(upstream, "ok", chat()) for _ in range(6)))
    assert len({attempt.connection for attempt in faults.ledger.attempts}) == 6


async def test_twenty_stay_idle_by_default_and_a_hundred_run_at_once(
    faults: FaultUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "TRIM_S", 0.05)
    async with openai_upstream(faults.base_url) as upstream:
        request = chat(stream=True, x_delay_ms=2)
        calls = [asyncio.create_task(outcome_of(upstream, "slow-ok", request)) for _ in range(110)]
        await until(lambda: open_connections(faults) == 100)
        assert (upstream.bulkhead.in_use, upstream.bulkhead.waiting) == (100, 10)
        assert all(outcome.text == TEXT for outcome in await asyncio.gather(*calls))
        await until(lambda: open_connections(faults) == 20)


async def test_a_connection_that_was_idle_for_too_long_is_not_used(
    faults: FaultUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 1000.0
    monkeypatch.setattr("aiohttp.connector.monotonic", lambda: now_s)
    async with session(keep_alive_s=15) as client:
        await get(client, faults)
        now_s += 14.9
        assert await get(client, faults)
        now_s += 15.1
        assert not await get(client, faults)


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
    assert [attempt.connection for attempt in faults.ledger.attempts[4:]] == [4, 5]


@both_ways
async def test_a_restarted_server_is_asked_on_a_fresh_connection_though_many_idle_ones_are_dead(stream: bool) -> None:
    async with FaultUpstream() as first:
        port = first.port
        async with openai_upstream(first.base_url) as upstream:
            await asyncio.gather(*(outcome_of(upstream, "ok", chat()) for _ in range(5)))
            await first.__aexit__()
            async with FaultUpstream(port) as second:
                outcome = await outcome_of(upstream, "ok", chat(stream=stream))
                assert (outcome.text, outcome.error) == (TEXT, None)
                assert len(second.ledger.attempts) == 1


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
async def test_what_breaks_long_after_it_was_sent_is_not_sent_again(
    faults: FaultUpstream, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    monkeypatch.setattr(http_upstream, "_RACE_S", -1.0)
    async with openai_upstream(faults.base_url) as upstream:
        await outcome_of(upstream, "closes-on-reuse", chat())
        outcome = await outcome_of(upstream, "closes-on-reuse", chat(stream=stream))
    assert isinstance(outcome.error, UpstreamBroken)
    assert len(faults.ledger.attempts) == 2


@both_ways
async def test_a_broken_answer_on_an_idle_connection_is_not_asked_for_again(
    faults: FaultUpstream, stream: bool
) -> None:
    async with openai_upstream(faults.base_url) as upstream:
        await outcome_of(upstream, "ok", chat())
        outcome = await outcome_of(upstream, "reset-after-headers", chat(stream=stream))
    assert isinstance(outcome.error, UpstreamBroken)
    assert [attempt.model for attempt in faults.ledger.attempts] == ["ok", "reset-after-headers"]


@pytest.mark.parametrize("host", ["127.0.0.1:1", "x.invalid", f"{'a' * 64}.invalid"], ids=["port", "name", "no name"])
async def test_a_server_that_is_not_there_is_unreachable(host: str) -> None:
    async with openai_upstream(f"http://{host}/v1") as upstream:
        outcome = await outcome_of(upstream, "ok", chat())
        assert isinstance(outcome.error, ConnectFailed)


async def test_a_server_that_takes_no_connections_costs_the_connect_limit() -> None:
    listening = _full_backlog()
    try:
        port = listening[0].getsockname()[1]
        timeouts: dict[str, Any] = {"connect_s": 0.1}
        async with openai_upstream(f"http://127.0.0.1:{port}/v1", timeouts=timeouts) as upstream:
            outcome = await outcome_of(upstream, "ok", chat())
            assert isinstance(outcome.error, TimedOut)
            assert (outcome.error.phase, outcome.error.limit_s) == ("connect", 0.1)
    finally:
        for one in listening:
            one.close()


def _full_backlog() -> list[socket.socket]:
    """A listening socket that accepts nobody, and as many clients as the kernel queues for it."""
    server = socket.create_server(("127.0.0.1", 0), backlog=0)
    sockets = [server]
    for _ in range(8):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(server.getsockname())
        sockets.append(client)
    return sockets
