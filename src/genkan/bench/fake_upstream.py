"""An upstream that answers at once, as fast as Python can: ``python -m genkan.bench.fake_upstream PORT``.

It reads of a request what it must, and writes bytes made beforehand. A stream is written event by event, each in a turn
of its own of the event loop, as a server does that waits for its tokens.
"""

import asyncio
import sys
from typing import cast

import uvloop

from genkan.bench.chat_traffic import MODEL, asked, json_answer, stream_writes, whole_answer

_MODELS = json_answer({"object": "list", "data": [{"id": MODEL, "object": "model", "created": 1, "owned_by": "fake"}]})
_BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
_CONTENT_LENGTH = b"\r\ncontent-length:"


class FakeUpstream(asyncio.Protocol):
    """One connection. A GET gets the list of models; a POST gets the answer to a chat completion.

    A chat request without the number that the benchmarks' requests carry gets 400. Requests come one after the other
    and have a content-length, as those of every HTTP client do that has the whole body.
    """

    __slots__ = ("_held", "_loop", "_transport", "_writes")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._held = bytearray()
        self._transport: asyncio.Transport | None = None
        self._writes: list[bytes] = []  # of a stream, the next one last

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are, but do not say so

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        held = self._held
        held += data
        head_end = held.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = bytes(held[: head_end + 2]).lower()
        at = head.find(_CONTENT_LENGTH)
        length = 0 if at < 0 else int(head[at + len(_CONTENT_LENGTH) : head.index(b"\r\n", at + 2)])
        end = head_end + 4 + length
        if len(held) >= end:
            body = bytes(held[head_end + 4 : end])
            del held[:end]
            self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        assert self._transport is not None
        if head.startswith(b"get "):
            self._transport.write(_MODELS)
            return
        try:
            number, stream = asked(body)
        except ValueError:
            self._transport.write(_BAD_REQUEST)
            return
        if stream:
            self._writes = stream_writes(number)[::-1]
            self._write_next()
        else:
            self._transport.write(whole_answer(number))

    def _write_next(self) -> None:
        if self._transport is None:
            return  # whoever asked has left
        self._transport.write(self._writes.pop())
        if self._writes:
            self._loop.call_soon(self._write_next)


async def serve(port: int) -> None:
    """Listen on ``port`` of this machine until cancelled."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: FakeUpstream(loop), "127.0.0.1", port, backlog=1024)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
