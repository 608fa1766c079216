"""Servers that are asked for their models, and what they say."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import orjson

#: Gets the head of the one request that a connection is for.
Handler = Callable[[str, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """A server on a port of this machine, whose ``handler`` is called once a connection, when its request has come."""

    def __init__(self, handler: Handler) -> None:
        self.requests: list[str] = []
        self.asked = asyncio.Event()
        self.port = 0
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await asyncio.sleep(0)  # let the transports notice

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            request = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.requests.append(request)
            self.asked.set()
            await self._handler(request, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client went first, or the test is over
        finally:
            self._connections.discard(task)
            writer.close()


@asynccontextmanager
async def model_server(handler: Handler) -> AsyncGenerator[Server, None]:
    """A running Server."""
    server = Server(handler)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def hanging_up(text: bytes) -> Handler:
    """Says ``text``, whatever that is, and closes."""

    async def handle(_: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(text)
        await writer.drain()

    return handle


def answering(body: bytes, status: str = "200 OK", headers: str = "") -> Handler:
    """Answers, and closes."""
    head = f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n{headers}\r\n"
    return hanging_up(head.encode() + body)


def silent(beginning: bytes = b"") -> Handler:
    """Says ``beginning`` and no more until the client goes."""

    async def handle(_: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(beginning)
        await writer.drain()
        await reader.read()

    return handle


def having(*models: str, key: str | None = None) -> Handler:
    """Has these models, and tells anyone; with a key, only those who send it."""

    async def handle(request: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        known = key is None or f"authorization: bearer {key}\r\n".lower() in request.lower()
        answer = answering(listed(*models)) if known else answering(b"", "401 Unauthorized")
        await answer(request, reader, writer)

    return handle


def listed(*models: str) -> bytes:
    return orjson.dumps({"object": "list", "data": [{"id": model, "object": "model"} for model in models]})
