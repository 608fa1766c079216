"""The upstream behind k6's scenarios: ``python -m genkan.bench.k6_upstream PORT ANSWER_MS``.

As `fake_upstream.py`, but answers take a set time, and ``POST /die`` kills it in the middle of whatever else it does.
"""

import asyncio
import os
import signal
import sys

import uvloop

from genkan.bench.chat_traffic import json_answer
from genkan.bench.fake_upstream import FakeUpstream

DIE_PATH = "/die"
_DIE = f"post {DIE_PATH} ".encode()
_LAST_WORDS_S = 0.01


class K6Upstream(FakeUpstream):
    """One connection. ``answer_s``: from a POST to the first byte of its answer."""

    __slots__ = ("_answer_s",)

    def __init__(self, loop: asyncio.AbstractEventLoop, answer_s: float) -> None:
        super().__init__(loop)
        self._answer_s = answer_s

    def _answer(self, head: bytes, body: bytes) -> None:
        if head.startswith(_DIE):
            assert self._transport is not None
            self._transport.write(json_answer({}))
            self._loop.call_later(_LAST_WORDS_S, os.kill, os.getpid(), signal.SIGKILL)
        elif head.startswith(b"get "):
            super()._answer(head, body)
        else:
            self._loop.call_later(self._answer_s, self._answer_late, head, body)

    def _answer_late(self, head: bytes, body: bytes) -> None:
        if self._transport is not None:  # else whoever asked has left
            super()._answer(head, body)


async def serve(port: int, answer_s: float) -> None:
    """Listen on ``port`` of this machine until cancelled or killed."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: K6Upstream(loop, answer_s), "127.0.0.1", port, backlog=1024)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2]) / 1000))
