"""An upstream that takes its time: ``python -m genkan.bench.slow_upstream PORT ANSWER_S EVENT_S``.

As `fake_upstream.py`, but a whole answer comes after ``ANSWER_S``, and the events of a stream ``EVENT_S`` apart; those
behind the last token all at once, as every server sends them.
"""

import asyncio
import sys

import uvloop

from genkan.bench.chat_traffic import asked
from genkan.bench.fake_upstream import FakeUpstream

AT_THE_END = 3  # the finish reason, the usage, [DONE]


class SlowUpstream(FakeUpstream):
    """One connection."""

    __slots__ = ("_answer_s", "_event_s")

    def __init__(self, loop: asyncio.AbstractEventLoop, answer_s: float, event_s: float) -> None:
        super().__init__(loop)
        self._answer_s = answer_s
        self._event_s = event_s

    def _answer(self, head: bytes, body: bytes) -> None:
        try:
            _, stream = asked(body)
        except ValueError:
            stream = True  # refused at once, as a stream begins at once
        if stream:
            super()._answer(head, body)
        else:
            self._loop.call_later(self._answer_s, self._answer_late, head, body)

    def _answer_late(self, head: bytes, body: bytes) -> None:
        if self._transport is not None:  # else whoever asked has left
            super()._answer(head, body)

    def _write_next(self) -> None:
        if self._transport is None:
            return
        self._transport.write(self._writes.pop())
        if len(self._writes) == AT_THE_END:
            self._transport.writelines(self._writes[::-1])
            self._writes.clear()
        if self._writes:
            self._loop.call_later(self._event_s, self._write_next)


async def serve(port: int, answer_s: float, event_s: float) -> None:
    """Listen on ``port`` of this machine until cancelled."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SlowUpstream(loop, answer_s, event_s), "127.0.0.1", port, backlog=4096)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])))
