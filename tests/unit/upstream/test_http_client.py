"""The HTTP client over real sockets: which connection a request gets, what breaks, and what is left behind."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from byte_servers import BOTH_LOOPS, MemoryDialer, Peer, always, answer, asking, turns
from http_talks import asked, numbered, rest_of, saying, stalling, talk
from upstream_calls import until

from genkan.upstream import http_client
from genkan.upstream.http_client import (
    MAX_HEAD_BYTES,
    MAX_UNREAD_BYTES,
    BadResponse,
    ConnectTimeout,
    Disconnected,
    HttpClient,
)

pytestmark = pytest.mark.anyio

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\n"


@pytest.fixture(params=BOTH_LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


# --- Which connection a request gets ---


async def test_a_connection_is_used_again() -> None:
    async with talk(numbered) as (client, server):
        assert [await asked(client) for _ in range(3)] == [b"1"] * 3
        assert (client.connections, client.idle, server.accepted) == (1, 1, 1)


async def test_as_many_connections_as_requests_at_once_and_each_gets_its_own_answer() -> None:
    async def echo(peer: Peer) -> None:
        while True:
            await peer.say(answer(await peer.request()))

    async with talk(echo) as (client, server):
        for _ in range(3):
            requests = [b"%d" % number for number in range(50)]
            assert await asyncio.gather(*(asked(client, request) for request in requests)) == requests
        assert (client.connections, client.idle, server.accepted) == (50, 50, 50)


async def test_headers_have_lower_case_names_and_those_given_twice_are_joined() -> None:
    head = b"HTTP/1.1 200 OK\r\nX-Note: caf\xe9 \r\nvia: a\r\nVia: b\t\r\ncontent-length: 0\r\n\r\n"
    async with talk(saying(head)) as (client, _):
        response = await client.request(asking())
        assert response.raw_headers == {b"x-note": b"caf\xe9", b"via": b"a, b", b"content-length": b"0"}
        assert response.headers == {"x-note": "caf\xe9", "via": "a, b", "content-length": "0"}


@pytest.mark.parametrize("body", [b"", b"all"])
async def test_once_a_response_has_ended_its_rest_can_be_had_at_once(body: bytes) -> None:
    async with talk(saying(answer(body))) as (client, _):
        response = await client.request(asking())
        await until(lambda: response.ended)
        assert response.read_now() == body
        assert (response.at_eof, response.read_now(), await response.read()) == (True, b"", b"")


async def test_the_one_used_last_is_used_first() -> None:
    async with talk(numbered) as (client, _):
        first, second = [await client.request(asking()) for _ in range(2)], await client.request(asking())
        assert client.idle == 1  # a response gives its connection back when it is whole, read or not
        assert {await rest_of(response) for response in [*first, second]} == {b"1"}
        numbers = await asyncio.gather(*(asked(client) for _ in range(3)))
        assert sorted(numbers) == [b"1", b"2", b"3"]
        last = await asked(client)
        assert [await asked(client) for _ in range(3)] == [last] * 3


async def test_a_connection_is_idle_when_its_response_is_whole_and_not_before() -> None:
    go_on = asyncio.Event()

    async def handle(peer: Peer) -> None:
        await peer.request()
        await peer.say(answer(b"hello")[:-1])
        await go_on.wait()
        await peer.say(b"o")
        await peer.reader.read()

    async with talk(handle) as (client, _):
        response = await client.request(asking())
        assert await response.read() == b"hell"
        assert (client.idle, response.ended, response.at_eof) == (0, False, False)
        go_on.set()
        await until(lambda: client.idle == 1)
        assert (response.ended, response.at_eof) == (True, False)
        response.close()  # does nothing to a connection that is not its own any more
        assert await response.read() == b"o"
        assert (client.idle, response.at_eof, await response.read()) == (1, True, b"")


@pytest.mark.parametrize(
    "response",
    [answer(b"1", "connection: close\r\n"), answer(b"1").replace(b"1.1", b"1.0"), answer(b"1") + answer(b"2")],
    ids=["close", "1.0", "glued"],
)
async def test_a_connection_that_may_not_be_used_again_is_closed(response: bytes) -> None:
    async with talk(always(response)) as (client, server):
        for number in (1, 2):
            assert await asked(client) == b"1"
            await until(lambda: client.connections == server.open == 0)
            assert server.accepted == number


async def test_a_body_until_the_end_of_the_connection_is_whole() -> None:
    async def handle(peer: Peer) -> None:
        await peer.request()
        await peer.say(UNTIL_CLOSE, b"hel", b"lo")

    async with talk(handle) as (client, _):
        assert await asked(client) == b"hello"
        await until(lambda: client.connections == 0)


async def test_what_nobody_asked_for_closes_an_idle_connection_and_answers_nobody() -> None:
    go_on = asyncio.Event()

    async def handle(peer: Peer) -> None:
        await peer.request()
        await peer.say(answer(b"mine"))
        await go_on.wait()
        await peer.say(answer(b"nobody's"))
        await peer.reader.read()

    async with talk(handle) as (client, server):
        assert await asked(client) == b"mine"
        go_on.set()
        await until(lambda: client.connections == client.idle == server.open == 0)
        assert await asked(client) == b"mine"
        assert server.accepted == 2


async def test_an_answer_before_the_request_was_written_is_whole_and_the_connection_closed() -> None:
    async def hasty(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.say(answer(b"too large"))
        await asyncio.get_running_loop().create_future()  # never reads the rest

    async with talk(hasty) as (client, _):
        response = await client.request(asking(bytes(64 << 20)))
        assert await rest_of(response) == b"too large"
        assert client.idle == 0
        await until(lambda: client.connections == 0)


# --- How many stay idle, and for how long ---


@pytest.mark.parametrize("keep_alive", [0, 1, 3])
async def test_at_most_so_many_connections_stay_idle_for_long(monkeypatch: pytest.MonkeyPatch, keep_alive: int) -> None:
    monkeypatch.setattr(http_client, "SWEEP_S", 0.05)
    async with talk(numbered, keep_alive=keep_alive) as (client, server):
        for _ in range(2):
            await asyncio.gather(*(asked(client) for _ in range(6)))
            assert client.idle == 6
            await until(lambda: client.connections == client.idle == server.open == keep_alive)
        assert server.accepted == 12 - keep_alive


async def test_connections_in_use_time_and_again_are_not_closed_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    async with talk(numbered, keep_alive=1) as (client, server):
        for _ in range(5):
            await asyncio.gather(*(asked(client) for _ in range(6)))
            client._close_old()  # as if it were time: none has been idle for a second
        assert server.accepted == 6
        monkeypatch.setattr(http_client, "SWEEP_S", 0.0)
        assert client._sweep is not None
        client._sweep.cancel()
        client._close_old()
        assert client.idle == 1


async def test_a_connection_that_was_idle_for_too_long_is_not_used() -> None:
    async with talk(numbered) as (client, server):
        await asyncio.gather(*(asked(client) for _ in range(3)))
        client._idle[-1].idle_since_s -= 14.9
        assert await asked(client) in (b"1", b"2", b"3")
        for connection in client._idle:
            connection.idle_since_s -= 15.0
        assert await asked(client) == b"4"
        assert client.idle == 1
        await until(lambda: server.open == 1)


async def test_a_connection_that_was_idle_for_too_long_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "SWEEP_S", 0.02)
    async with talk(numbered, keep_alive_s=0.05) as (client, server):
        await asked(client)
        await until(lambda: client.connections == server.open == 0)
        assert client._sweep is None
        assert await asked(client) == b"2"


# --- What is not taken ---


@pytest.mark.parametrize(
    "response",
    [
        b"-ERR unknown command 'POST'\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n...",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + answer(),
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        CHUNKED + b"x\r\n",
        CHUNKED + b"fffffffffffffffff\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"h" * MAX_HEAD_BYTES + b"\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: h\r\n" * MAX_HEAD_BYTES,
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * MAX_HEAD_BYTES,
        CHUNKED + b"1\r\na\r\n0\r\nx: " + b"h" * (1 << 20),
        CHUNKED + b"1\r\na\r\n1;x=" + b"h" * (1 << 20),
    ],
    ids=[
        "not HTTP", "upgraded", "switched", "two lengths", "length and chunks", "no chunk", "long chunk",
        "long header", "many headers", "many interim", "long trailer", "long extension",
    ],
)  # fmt: skip
async def test_what_is_no_response_or_too_much_of_one_is_not_taken(response: bytes) -> None:
    async with talk(stalling(response)) as (client, server):
        with pytest.raises(BadResponse):
            await asked(client)
        await until(lambda: client.connections == server.open == 0)


async def test_headers_beyond_the_limit_cost_no_time() -> None:
    dialer = MemoryDialer()
    client = HttpClient(dialer, connect_s=1, keep_alive=1, keep_alive_s=1)
    task = asyncio.create_task(client.request(asking()))
    await turns()
    began_s = time.perf_counter()
    dialer.made[0].send(b"HTTP/1.1 200 OK\r\n" + b"x: hh\r\n" * (1 << 17))  # all of it in one piece
    assert time.perf_counter() - began_s < 0.5
    with pytest.raises(BadResponse):
        await task
    client.close()


async def test_a_status_that_does_not_exist_is_handed_on() -> None:
    async with talk(always(answer(b"?", status="000 Nothing"))) as (client, _):
        response = await client.request(asking())
        assert (response.status, await rest_of(response)) == (0, b"?")


# --- Back-pressure ---


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
async def test_who_does_not_read_makes_the_server_wait_and_can_read_on(chunked: bool) -> None:
    piece, pieces = b"x" * (64 << 10), 256
    sent = 0

    async def handle(peer: Peer) -> None:
        nonlocal sent
        while True:
            await peer.request()
            await peer.say(CHUNKED if chunked else answer(piece * pieces).partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
            for _ in range(pieces):
                await peer.say(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                sent += 1
            await peer.say(b"0\r\n\r\n" if chunked else b"")

    async with talk(handle) as (client, server):
        for number in (1, 2):
            sent = 0
            response = await client.request(asking())
            before = -1
            while sent != before or response.unread_bytes <= MAX_UNREAD_BYTES:
                before = sent
                await turns(50)
            assert sent < pieces
            assert MAX_UNREAD_BYTES < response.unread_bytes <= 2 * MAX_UNREAD_BYTES
            assert await rest_of(response) == piece * pieces
            await until(lambda: client.idle == 1)
            assert (sent, server.accepted, number) == (pieces, 1, number)


async def test_a_large_response_that_nobody_reads_on_is_closed() -> None:
    async with talk(stalling(UNTIL_CLOSE, bytes(1 << 20))) as (client, server):
        response = await client.request(asking())
        await until(lambda: response.unread_bytes > MAX_UNREAD_BYTES)
        response.close()
        await until(lambda: client.connections == server.open == 0)


# --- When it is given up ---


@pytest.mark.parametrize("pieces", [(), (b"HTTP/1.1 2",), (UNTIL_CLOSE,), (CHUNKED, b"1\r\na\r\n")], ids=str)
async def test_cancelling_closes_the_connection(pieces: tuple[bytes, ...]) -> None:
    async with talk(stalling(*pieces)) as (client, server):
        task = asyncio.create_task(asked(client))
        await until(lambda: client._all and next(iter(client._all)).has_answered == bool(pieces) and server.open)
        await turns(9)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: client.connections == client.idle == server.open == 0)


async def test_cancelling_while_it_connects_leaves_nothing() -> None:
    async with talk(numbered) as (client, server):
        for rounds in range(12):
            task = asyncio.create_task(asked(client))
            await turns(rounds)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await until(lambda: client.connections == client.idle and server.open == client.idle)
            assert client._dialling == set()


async def test_closing_a_response_closes_its_connection_once() -> None:
    async with talk(stalling(CHUNKED)) as (client, server):
        response = await client.request(asking())
        response.close()
        response.close()
        await until(lambda: client.connections == server.open == 0)
        with pytest.raises(Disconnected):
            await response.read()


async def never(protocol: Callable[[], asyncio.Protocol]) -> object:
    """A Dial that is still at it when its time is over."""
    return await asyncio.get_running_loop().create_future()


async def test_connecting_has_a_limit() -> None:
    client = HttpClient(never, connect_s=0.01, keep_alive=1, keep_alive_s=1)
    with pytest.raises(ConnectTimeout, match=r"not connected after 0\.01 s"):
        await client.request(asking())
    assert client.connections == 0


async def test_closing_the_client_ends_requests_that_connect() -> None:
    tasks_before = asyncio.all_tasks()
    client = HttpClient(never, connect_s=60, keep_alive=1, keep_alive_s=1)
    tasks = [asyncio.create_task(client.request(asking())) for _ in range(3)]
    await turns()
    client.close()
    async with asyncio.timeout(1):
        for task in tasks:
            with pytest.raises(Disconnected):
                await task
    assert asyncio.all_tasks() == tasks_before


@pytest.mark.parametrize("pieces", [(), (UNTIL_CLOSE, b"hel"), (CHUNKED, b"1\r\na\r\n")], ids=str)
async def test_closing_the_client_ends_requests_under_way_and_takes_none_for_whole(pieces: tuple[bytes, ...]) -> None:
    async with talk(stalling(*pieces)) as (client, server):
        task = asyncio.create_task(asked(client))
        await until(lambda: client._all and next(iter(client._all)).has_answered == bool(pieces) and server.open)
        await turns(9)
        client.close()
        with pytest.raises(Disconnected):
            await task
        await until(lambda: client.connections == server.open == 0)
        with pytest.raises(Disconnected):
            await asked(client)
        assert server.accepted == 1


async def test_closing_the_client_closes_what_is_idle_and_sets_no_timer() -> None:
    async with talk(numbered) as (client, server):
        await asyncio.gather(*(asked(client) for _ in range(5)))
        response = await client.request(asking())
        client.close()
        client.close()
        assert await rest_of(response) in {b"%d" % number for number in range(1, 6)}  # it was whole before
        await until(lambda: client.connections == client.idle == server.open == 0)
        assert client._sweep is not None
        assert client._sweep.cancelled()


async def test_a_connection_that_ends_as_it_is_made_is_no_connection() -> None:
    class Stillborn(MemoryDialer):
        async def __call__(self, protocol: Callable[[], asyncio.Protocol]) -> object:
            await super().__call__(protocol)
            self.made[-1].eof()
            return None

    client = HttpClient(Stillborn(), connect_s=1, keep_alive=1, keep_alive_s=1)
    with pytest.raises(Disconnected, match="as soon as it was made"):
        await client.request(asking())
    await turns()
    assert client.connections == client.idle == 0
