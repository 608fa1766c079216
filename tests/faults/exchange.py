"""One request and its answer: the words in which a fault says what it does to the socket."""

import asyncio
import fcntl
import re
import socket
import struct
import termios
from collections.abc import Iterable, Mapping
from email.utils import formatdate
from http.client import responses
from typing import Any

import orjson
from faults.canonical import DONE, Canonical, event
from faults.ledger import Attempt
from faults.outages import Mode, Outages
from faults.request import Request

JSON = "application/json"
EVENTS = "text/event-stream; charset=utf-8"
_TOKEN = re.compile(rb"tok\d\d")
_USAGE = re.compile(rb'"usage":\{"prompt_tokens":(\d+),"completion_tokens":(\d+)')
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_ASK_AGAIN_S = 0.001


class Exchange:
    """Everything is written at once and waited for, so what was sent is with the kernel when a fault goes on."""

    def __init__(
        self, request: Request, attempt: Attempt, writer: asyncio.StreamWriter, outages: Outages, nth_on_connection: int
    ) -> None:
        self.request = request
        self.attempt = attempt
        self.outages = outages
        #: Counts the requests on this connection, from 1.
        self.nth_on_connection = nth_on_connection
        self.keep_alive = request.headers.get("connection", "").lower() != "close"
        self._writer = writer
        self._last_bytes = b""

    @property
    def stream(self) -> bool:
        return self.request.stream

    @property
    def canonical(self) -> Canonical:
        return self.request.canonical

    async def send(self, data: bytes) -> None:
        """Bytes as they are."""
        await self._write(data)
        self._take_note(data)

    def head(self, status: int = 200, headers: Mapping[str, str] | None = None) -> bytes:
        """The status line and the headers, with those that every real upstream sends."""
        self.attempt.status = status
        every = {
            "date": formatdate(usegmt=True),
            "server": "fault-upstream",
            "x-request-id": f"req_{self.attempt.connection}_{self.attempt.number}",
            "connection": "keep-alive" if self.keep_alive else "close",
            **(headers or {}),
        }
        lines = [f"HTTP/1.1 {status} {responses.get(status, 'Unknown')}", *(f"{k}: {v}" for k, v in every.items())]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    async def answer(
        self, body: bytes, status: int = 200, *, content_type: str = JSON, headers: Mapping[str, str] | None = None
    ) -> None:
        """A whole answer, its length told beforehand."""
        about = {"content-type": content_type, "content-length": str(len(body)), **(headers or {})}
        await self.send(self.head(status, about) + body)

    async def begin_chunks(self, content_type: str = EVENTS, headers: Mapping[str, str] | None = None) -> None:
        """The head of an answer in chunks."""
        about = {"content-type": content_type, "transfer-encoding": "chunked", **(headers or {})}
        await self.send(self.head(200, about))

    async def chunk(self, data: bytes) -> None:
        await self._write(b"%x\r\n%b\r\n" % (len(data), data))
        self._take_note(data)

    async def end_chunks(self) -> None:
        await self.send(b"0\r\n\r\n")

    async def payloads(self, payloads: Iterable[bytes]) -> None:
        """Each as one event in one chunk."""
        for payload in payloads:
            await self.chunk(event(payload))

    async def events(self, events: Iterable[dict[str, Any]], *, delay_s: float = 0) -> None:
        """Each as one event in one chunk, ``delay_s`` before each."""
        for one in events:
            if delay_s:
                await asyncio.sleep(delay_s)
            await self.chunk(event(orjson.dumps(one)))

    async def done(self) -> None:
        """The last event, and the end of the answer."""
        await self.payloads([DONE])
        await self.end_chunks()

    async def streamed(self, events: Iterable[dict[str, Any]]) -> None:
        """A stream of these events, properly begun and ended."""
        await self.begin_chunks()
        await self.events(events)
        await self.done()

    async def healthy(self) -> None:
        """The canonical answer, in the way that was asked for."""
        if self.stream:
            await self.streamed(self.canonical.chunks())
        else:
            await self.answer(orjson.dumps(self.canonical.whole()))

    def healthy_body(self) -> tuple[bytes, str]:
        """The canonical answer in one piece and its content type, for faults that frame it in another way."""
        if self.stream:
            return b"".join(map(event, self.canonical.payloads())), EVENTS
        return orjson.dumps(self.canonical.whole()), JSON

    async def up_to_token(self, count: int) -> None:
        """The healthy answer up to its first ``count`` tokens, and no more."""
        if self.stream:
            await self.begin_chunks()
            await self.events([*self.canonical.opening(), *self.canonical.tokens(0, count)])
            return
        body = orjson.dumps(self.canonical.whole())
        await self.send(self.head(200, {"content-type": JSON, "content-length": str(len(body))}))
        await self.send(body[: body.index(b"tok%02d " % count)])

    async def silence(self) -> None:
        """Open and silent until the client goes, which cancels this."""
        await asyncio.Event().wait()

    async def reset(self) -> None:
        """Break the connection off with RST, once the client's kernel has what was sent: a reset drops the rest."""
        connection = self._writer.get_extra_info("socket")
        while _unacknowledged_bytes(connection):  # noqa: ASYNC110 (nothing tells of acknowledgements)
            await asyncio.sleep(_ASK_AGAIN_S)
        self._break_off()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._writer.transport.abort()

    def close(self) -> None:
        """Break the connection off with FIN, as if that were the end."""
        self._break_off()
        self._writer.close()

    async def refuse(self, mode: Mode) -> None:
        """As one who is down."""
        self.attempt.end("down")
        if mode == "reset":
            await self.reset()
        else:
            await self.answer(b"down", 503, content_type="text/plain")

    async def _write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    def _take_note(self, data: bytes) -> None:
        """Also of tokens that come in pieces. What is kept of the last piece is shorter than a token."""
        if (used := _USAGE.search(data)) is not None:
            self.attempt.usage = int(used[1]), int(used[2])
        text = self._last_bytes + data
        self.attempt.tokens += len(_TOKEN.findall(text))
        self._last_bytes = text[-4:]

    def _break_off(self) -> None:
        self.keep_alive = False
        self.attempt.end("broken off")


def _unacknowledged_bytes(connection: socket.socket) -> int:
    """What the client's kernel has not taken yet."""
    return int(struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)))[0])
