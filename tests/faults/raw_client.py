"""A client on raw sockets, which repairs nothing: what a fault really puts on the wire, and how it ends."""

import asyncio
import socket
import sys
from collections.abc import AsyncGenerator, Awaitable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson
from faults.canonical import TEXT

#: ``complete``: as its framing says. ``eof`` and ``reset``: the upstream cut it. ``silence``: nothing came for a while.
End = Literal["complete", "eof", "reset", "silence"]
#: So long may a healthy upstream be silent on a busy machine.
QUIET_S = 10.0
KEY = "sk-test-0123456789abcdefghij"


@dataclass(slots=True)
class Reply:
    """One response, as far as it came."""

    raw: bytes = b""
    end: End = "complete"
    status: int = 0
    #: Names in lower case.
    headers: dict[str, str] = field(default_factory=dict)
    #: Without the framing.
    body: bytes = b""

    @property
    def data(self) -> list[bytes]:
        """What the ``data:`` lines of a stream say."""
        return [line[6:] for line in self.body.splitlines() if line.startswith(b"data: ")]

    @property
    def chunks(self) -> list[dict[str, Any]]:
        """The chunks of a stream."""
        return [orjson.loads(line) for line in self.data if line != b"[DONE]"]

    @property
    def text(self) -> str:
        """The text that a careful reader finds in it."""
        if self.body.startswith(b"{"):
            choice = orjson.loads(self.body)["choices"][0]
            return str(choice["message"]["content"] if "message" in choice else choice["text"])
        choices = [choice for chunk in self.chunks for choice in chunk["choices"]]
        return "".join(
            choice["delta"].get("content") or "" if "delta" in choice else choice["text"] for choice in choices
        )

    @property
    def healthy(self) -> bool:
        """The whole canonical answer, properly ended."""
        ended = self.body.startswith(b"{") or self.data[-1:] == [b"[DONE]"]
        return (self.status, self.end, ended) == (200, "complete", True) and self.text == TEXT


class RawClient:
    """One connection. Its bytes are kept even if a reset follows them, which asyncio's streams do not do."""

    def __init__(self, connection: socket.socket, *, quiet_s: float = QUIET_S, enough_bytes: int = sys.maxsize) -> None:
        """A response is no longer read when ``quiet_s`` pass in silence, or after about so many bytes of body."""
        self._socket = connection
        self._quiet_s = quiet_s
        self._enough_bytes = enough_bytes
        self._received = bytearray()

    async def write(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._socket, data)

    async def ask(self, model: str, *, stream: bool, path: str = "/v1/chat/completions", **more: Any) -> Reply:
        """Ask ``model`` for a completion, with ``more`` in the body."""
        messages = [{"role": "user", "content": "Count."}]
        return await self.request("POST", path, {"model": model, "stream": stream, "messages": messages, **more})

    async def request(self, method: str, path: str, body: Any = None) -> Reply:
        await self.write(request_bytes(method, path, body))
        return await self.read()

    async def read(self) -> Reply:
        """The next response, to its end."""
        reply = Reply()
        reply.end = await self._end_of(self._read_response(reply))
        reply.raw += self._received if reply.end != "complete" else b""
        return reply

    async def read_raw(self) -> tuple[bytes, End]:
        """Everything to the end of the connection, read as no protocol at all."""
        end = await self._end_of(self._take(sys.maxsize))
        return bytes(self._received), end

    async def _end_of(self, reading: Awaitable[object]) -> End:
        try:
            await reading
        except EOFError:
            return "eof"
        except ConnectionResetError:
            return "reset"
        except TimeoutError:
            return "silence"
        return "complete"

    async def _read_response(self, reply: Reply) -> None:
        while reply.status < 200:  # those below announce another
            head = await self._through(b"\r\n\r\n")
            reply.raw += head
            line, *fields = head.decode("latin-1").split("\r\n")[:-2]
            reply.status = int(line.split(" ")[1])
            pairs = (entry.partition(":") for entry in fields)
            reply.headers = {name.lower(): value.strip() for name, _, value in pairs}
        await self._read_body(reply)

    async def _read_body(self, reply: Reply) -> None:
        if reply.headers.get("transfer-encoding") == "chunked":
            await self._read_chunks(reply)
        elif "content-length" in reply.headers:
            await self._read_piece(reply, int(reply.headers["content-length"]))
        else:
            with suppress(EOFError):
                await self._read_piece(reply, sys.maxsize)

    async def _read_chunks(self, reply: Reply) -> None:
        while len(reply.body) < self._enough_bytes:
            line = await self._through(b"\r\n")
            reply.raw += line
            size = int(line.partition(b";")[0], 16)
            await self._read_piece(reply, size)
            reply.raw += await self._through(b"\r\n")
            if not size:
                while not reply.raw.endswith(b"\r\n\r\n"):
                    reply.raw += await self._through(b"\r\n")  # trailers
                return

    async def _read_piece(self, reply: Reply, size: int) -> None:
        """As much of it as comes."""
        try:
            piece = await self._take(size)
        except (EOFError, ConnectionResetError, TimeoutError):
            piece = bytes(self._received)
            self._received.clear()
            raise
        finally:
            reply.body += piece
            reply.raw += piece

    async def _through(self, mark: bytes) -> bytes:
        while mark not in self._received:
            await self._receive()
        return await self._take(self._received.index(mark) + len(mark))

    async def _take(self, size: int) -> bytes:
        while len(self._received) < size:
            await self._receive()
        piece = bytes(self._received[:size])
        del self._received[:size]
        return piece

    async def _receive(self) -> None:
        receiving = asyncio.get_running_loop().sock_recv(self._socket, 1 << 18)
        piece = await asyncio.wait_for(receiving, self._quiet_s)
        if not piece:
            raise EOFError
        self._received += piece


def request_bytes(method: str, path: str, body: Any = None, *, key: str = KEY) -> bytes:
    """A request as it goes over the wire."""
    data = b"" if body is None else orjson.dumps(body)
    head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\n"
    return f"{head}content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data


@asynccontextmanager
async def raw_client(
    port: int, *, quiet_s: float = QUIET_S, enough_bytes: int = sys.maxsize
) -> AsyncGenerator[RawClient, None]:
    """A connection of its own, closed at the end."""
    with socket.socket() as connection:
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
        yield RawClient(connection, quiet_s=quiet_s, enough_bytes=enough_bytes)


async def ask(
    port: int, model: str, *, stream: bool, quiet_s: float = QUIET_S, enough_bytes: int = sys.maxsize, **more: Any
) -> Reply:
    """One request on a connection of its own."""
    async with raw_client(port, quiet_s=quiet_s, enough_bytes=enough_bytes) as client:
        return await client.ask(model, stream=stream, **more)
