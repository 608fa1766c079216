"""The balancer of the rolling restarts, before small servers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from genkan.bench.balancer import Balancer, NoReplica, Replica
from genkan.bench.http_answer import WrongAnswer

pytestmark = pytest.mark.anyio
ASK = b"GET /name HTTP/1.1\r\nhost: localhost\r\n\r\n"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answering(name: str, *, ready: bool = True, closes: bool = False) -> Serve:
    """A server that says its name, and whether it is ready."""
    close = b"connection: close\r\n" if closes else b""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                status = b"503 Busy" if b"/readyz" in head and not ready else b"200 OK"
                writer.write(
                    b"HTTP/1.1 %b\r\n%bcontent-length: %d\r\n\r\n%b" % (status, close, len(name), name.encode())
                )
                if closes or b"connection: close" in head:
                    return
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    return serve


async def breaking(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """It is ready, and ends every other connection without a word."""
    if b"/readyz" in await reader.readuntil(b"\r\n\r\n"):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    writer.close()


@asynccontextmanager
async def replicas(*serves: Serve) -> AsyncIterator[list[Replica]]:
    """One for each, probed once."""
    servers = [await asyncio.start_server(serve, "127.0.0.1", 0) for serve in serves]
    found = []
    for server in servers:
        replica = Replica("some")
        replica.port = server.sockets[0].getsockname()[1]
        await replica.probe()
        found.append(replica)
    try:
        yield found
    finally:
        for replica in found:
            replica.forget()
        for server in servers:
            server.close()
            await server.wait_closed()


async def names(balancer: Balancer, number: int) -> list[bytes]:
    return [(await balancer.send(ASK))[0].body for _ in range(number)]


async def test_those_that_are_ready_take_turns() -> None:
    async with replicas(answering("a"), answering("b"), answering("c", ready=False)) as found:
        assert sorted(await names(Balancer(found), 6)) == [b"a"] * 3 + [b"b"] * 3


async def test_a_refused_connection_goes_to_the_next_and_is_counted() -> None:
    async with replicas(answering("a"), answering("b")) as found:
        found[0].port = await _closed_port()
        balancer = Balancer(found)
        assert set(await names(balancer, 4)) == {b"b"}
        assert balancer.refused == 2


async def test_a_connection_that_breaks_after_the_request_is_a_failure() -> None:
    async with replicas(breaking) as found:
        with pytest.raises(WrongAnswer):
            await Balancer(found).send(ASK)


async def test_without_a_replica_there_is_no_answer() -> None:
    async with replicas(answering("a", ready=False)) as found:
        with pytest.raises(NoReplica):
            await Balancer(found).send(ASK)


async def test_connections_are_kept_unless_the_answer_ends_them() -> None:
    async with replicas(answering("a"), answering("b", closes=True)) as found:
        await names(Balancer(found), 2)
        now_s = asyncio.get_running_loop().time()
        kept = found[0].take(now_s)
        assert kept is not None
        kept.close()
        assert found[1].take(now_s) is None


async def test_a_connection_that_was_kept_too_long_is_not_used() -> None:
    async with replicas(answering("a")) as found:
        await names(Balancer(found), 1)
        assert found[0].take(asyncio.get_running_loop().time() + 60) is None


async def _closed_port() -> int:
    server = await asyncio.start_server(breaking, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port
