"""Servers for a client's tests: one that speaks over sockets, one that has none and hands every piece over at once."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

Handler = Callable[["Peer"], Awaitable[None]]

#: For the fixture ``anyio_backend``: sockets, and TLS above all, are not the same on the two.
BOTH_LOOPS = [
    pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
    pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
]


def answer(body: bytes = b"", headers: str = "", status: str = "200 OK") -> bytes:
    """A response with a length."""
    return f"HTTP/1.1 {status}\r\n{headers}content-length: {len(body)}\r\n\r\n".encode() + body


def asking(body: bytes = b"") -> bytes:
    """A request."""
    return b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


class Peer:
    """One connection, as its server sees it. ``number`` counts from 1."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.reader = reader
        self._writer = writer

    async def request(self) -> bytes:
        """The body of the next request. Raises IncompleteReadError when the client is gone."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        return await self.reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))

    async def say(self, *pieces: bytes) -> None:
        for piece in pieces:
            self._writer.write(piece)
            await self._writer.drain()

    def reset(self) -> None:
        self._writer.transport.abort()


class ByteServer:
    """A running server. ``requests`` are the bodies asked with, ``open`` the connections that are."""

    def __init__(self, handler: Handler) -> None:
        self.port = 0
        self.accepted = 0
        self.open = 0
        self._handler = handler
        self._tasks: set[asyncio.Task[Any]] = set()
        self._server: asyncio.AbstractServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self, host: str, tls: ssl.SSLContext | None) -> None:
        server = await asyncio.start_server(self._connected, host, self.port, ssl=tls)
        self._server, self.port = server, server.sockets[0].getsockname()[1]

    async def start_unix(self, path: str) -> None:
        self._server = await asyncio.start_unix_server(self._connected, path)

    async def stop(self) -> None:
        """Close everything, idle connections too."""
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.accepted += 1
        self.open += 1
        try:
            await self._handler(Peer(self.accepted, reader, writer))
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError, asyncio.CancelledError):
            pass  # the client went first, or the test is over
        finally:
            self.open -= 1
            self._tasks.discard(task)
            writer.close()


@asynccontextmanager
async def byte_server(
    handler: Handler, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None, path: str | None = None
) -> AsyncGenerator[ByteServer, None]:
    """A server whose connections are each given to ``handler``, and closed when it returns."""
    server = ByteServer(handler)
    await (server.start(host, tls) if path is None else server.start_unix(path))
    try:
        yield server
    finally:
        await server.stop()


def always(response: bytes) -> Handler:
    """Gives every request the same response."""

    async def handle(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.say(response)

    return handle


class MemoryTransport(asyncio.Transport):
    """A connection without a socket: what the other end does reaches the protocol at once."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.written = b""
        self._protocol = protocol
        self._is_closing = False
        protocol.connection_made(self)

    # the client's side

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self._is_closing

    def abort(self) -> None:
        self._lose(None)

    # the server's side

    def send(self, piece: bytes) -> None:
        if piece and not self._is_closing:
            self._protocol.data_received(piece)

    def eof(self) -> None:
        if not self._is_closing:
            self._protocol.eof_received()
            self._lose(None)

    def reset(self) -> None:
        self._lose(ConnectionResetError())

    def _lose(self, error: Exception | None) -> None:
        if not self._is_closing:
            self._is_closing = True
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, error)


class MemoryDialer:
    """Makes MemoryTransports, and keeps them in ``made``."""

    def __init__(self) -> None:
        self.made: list[MemoryTransport] = []

    async def __call__(self, protocol: Callable[[], asyncio.Protocol]) -> object:
        self.made.append(MemoryTransport(protocol()))
        return self.made[-1]


async def turns(number: int = 5) -> None:
    """Let the loop run what is ready, and what that makes ready."""
    for _ in range(number):
        await asyncio.sleep(0)
