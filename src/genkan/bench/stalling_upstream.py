"""An upstream of which some requests stall: ``python -m genkan.bench.stalling_upstream PORT REPLICA``.

As `fake_upstream.py`, but for the time to the first token of a stream: log-normal around 20 ms for most, and a second
more for one in twenty. Which those are follows from the replica's name, the number in the prompt and how often it was
asked here: a second attempt at a request has the same chances as the first, here and at another replica.
"""

import asyncio
import random
import sys
from collections import Counter

import uvloop

from genkan.bench.chat_traffic import asked
from genkan.bench.fake_upstream import FakeUpstream

STALLED_SHARE = 0.05
STALL_S = 1.0
_MEDIAN_S = 0.02
_SIGMA = 0.4


def first_token_s(replica: str, number: bytes, attempt: int) -> float:
    """How long it takes at the ``attempt``-th time it is asked."""
    dice = random.Random(f"{replica}/{number.decode()}/{attempt}")  # noqa: S311 - nothing secret
    usual_s = dice.lognormvariate(0.0, _SIGMA) * _MEDIAN_S
    return usual_s + (STALL_S if dice.random() < STALLED_SHARE else 0.0)


class StallingUpstream(FakeUpstream):
    """One connection. ``attempts`` counts how often each number was asked of all of them."""

    __slots__ = ("_attempts", "_replica")

    def __init__(self, loop: asyncio.AbstractEventLoop, replica: str, attempts: Counter[bytes]) -> None:
        super().__init__(loop)
        self._replica = replica
        self._attempts = attempts

    def _answer(self, head: bytes, body: bytes) -> None:
        try:
            number, stream = asked(body)
        except ValueError:
            number, stream = b"", False
        if not stream:
            super()._answer(head, body)
            return
        self._attempts[number] += 1
        self._loop.call_later(
            first_token_s(self._replica, number, self._attempts[number]), self._answer_late, head, body
        )

    def _answer_late(self, head: bytes, body: bytes) -> None:
        if self._transport is not None:  # else whoever asked has left
            super()._answer(head, body)


async def serve(port: int, replica: str) -> None:
    """Listen on ``port`` of this machine until cancelled."""
    loop = asyncio.get_running_loop()
    attempts: Counter[bytes] = Counter()
    server = await loop.create_server(
        lambda: StallingUpstream(loop, replica, attempts), "127.0.0.1", port, backlog=1024
    )
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), sys.argv[2]))
