"""Clients that do not read, on real sockets behind uvicorn's protocol."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, closing

import pytest
import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from genkan.api.exchange import Exchange
from genkan.api.routes import Api, Endpoint
from genkan.api.slow_readers import LOOK_EVERY_S, SlowReaders

pytestmark = pytest.mark.anyio
LIMIT_S = 0.3
PIECE = b"x" * (64 << 10)
LARGE = b"x" * (32 << 20)
REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
WITHIN_S = 20 * (LIMIT_S + LOOK_EVERY_S)


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": uvloop.new_event_loop if request.param == "uvloop" else None}


class Seen:
    """What became of the one exchange."""

    def __init__(self) -> None:
        self.over = asyncio.Event()
        self.exchange: Exchange | None = None


def endless(seen: Seen) -> Endpoint:
    async def endpoint(exchange: Exchange) -> None:
        seen.exchange = exchange
        exchange.send_timeout_s = LIMIT_S
        try:
            await exchange.start_stream([])
            while await asyncio.sleep(0, result=not exchange.fields):
                await exchange.send(PIECE)
        finally:
            seen.over.set()

    return endpoint


def large(seen: Seen) -> Endpoint:
    async def endpoint(exchange: Exchange) -> None:
        seen.exchange = exchange
        exchange.send_timeout_s = LIMIT_S
        await exchange.reply(LARGE)
        seen.over.set()

    return endpoint


@asynccontextmanager
async def served(endpoint: Endpoint) -> AsyncGenerator[tuple[int, ServerState], None]:
    """A server's port and its state."""
    config = uvicorn.Config(Api({"/": {"GET": endpoint}}, lambda _: None), log_config=None, lifespan="off")
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(lambda: HttpToolsProtocol(config, state, {}), "127.0.0.1")
    try:
        yield server.sockets[0].getsockname()[1], state
    finally:
        server.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not condition():  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)


def asked(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(REQUEST)
    return connection


@pytest.mark.parametrize("endpoint", [endless, large])
async def test_a_client_that_reads_nothing_loses_its_connection(endpoint: Callable[[Seen], Endpoint]) -> None:
    seen = Seen()
    async with served(endpoint(seen)) as (port, state):
        with closing(asked(port)):
            await asyncio.wait_for(seen.over.wait(), WITHIN_S)
            await until(lambda: not state.connections)
            assert seen.exchange is not None
            assert seen.exchange.fields == {"client_gone": True}


async def test_a_server_that_stops_does_not_wait_for_a_client_that_reads_nothing() -> None:
    seen = Seen()
    async with served(large(seen)) as (port, state):
        with closing(asked(port)):
            await asyncio.wait_for(seen.over.wait(), WITHIN_S)
            [connection] = state.connections
            connection.shutdown()  # uvicorn's, which closes what is answered, and closing waits for unread bytes
            assert state.connections
            await until(lambda: not state.connections)


async def test_a_client_that_reads_slowly_gets_all_of_it() -> None:
    seen = Seen()
    async with served(large(seen)) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        began_s = asyncio.get_running_loop().time()
        writer.write(REQUEST)
        left = len(LARGE)
        while left > 0:
            piece = await asyncio.wait_for(reader.read(1 << 20), WITHIN_S)
            assert piece, f"ended with {left} bytes left"
            left -= len(piece)
            await asyncio.sleep(0.02)
        assert asyncio.get_running_loop().time() - began_s > LIMIT_S + LOOK_EVERY_S
        writer.close()
        assert seen.exchange is not None
        assert seen.exchange.fields == {}


class Connection(asyncio.WriteTransport):
    """A connection that only counts."""

    def __init__(self, unread_bytes: int = 0) -> None:
        super().__init__()
        self.unread_bytes = unread_bytes
        self.aborted = self.closing = False

    def get_write_buffer_size(self) -> int:
        return self.unread_bytes

    def is_closing(self) -> bool:
        return self.closing

    def abort(self) -> None:
        self.aborted = True


class Response:
    def __init__(self, *, complete: bool) -> None:
        self.complete = complete
        self.fields: dict[str, object] = {}
        self.send_timeout_s = 10.0


async def test_only_a_rest_that_does_not_move_counts_and_for_so_long() -> None:
    readers, connection, response = SlowReaders(), Connection(), Response(complete=False)
    readers.watch(response, connection)
    readers.look(0.0)
    readers.look(100.0)  # nothing to read
    connection.unread_bytes = 500
    readers.look(101.0)
    readers.look(110.9)
    connection.unread_bytes = 499
    readers.look(111.1)
    readers.look(121.0)
    before = connection.aborted
    readers.look(121.2)
    assert (before, connection.aborted) == (False, True)
    assert response.fields == {"client_gone": True}


async def test_the_next_answer_on_a_connection_does_not_begin_the_time_anew() -> None:
    readers, connection = SlowReaders(), Connection(7)
    readers.watch(Response(complete=True), connection)
    readers.look(0.0)
    readers.watch(Response(complete=False), connection)
    readers.look(10.0)
    assert connection.aborted


@pytest.mark.parametrize("end", ["complete", "closing"])
async def test_a_connection_with_nothing_left_is_forgotten(end: str) -> None:
    readers, connection, response = SlowReaders(), Connection(), Response(complete=end == "complete")
    connection.closing = end == "closing"
    readers.watch(response, connection)
    readers.look(0.0)
    connection.unread_bytes = 7
    readers.look(1.0)
    readers.look(100.0)
    assert not connection.aborted
