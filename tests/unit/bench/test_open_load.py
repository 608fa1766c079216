"""Load at a fixed rate: a server that stalls is asked all the same, and the wait shows."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

import pytest

from genkan.bench.http_answer import Answer, WrongAnswer
from genkan.bench.http_load import Call
from genkan.bench.open_load import Outcomes, open_load

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
BUSY = b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nretry-after: 1\r\n\r\n"
STALL_S = 0.3


class Stalling(asyncio.Protocol):
    """Every ``refuses``-th request is refused. The first of all that come waits ``STALL_S``, and all others with it."""

    began_s = 0.0
    number = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        kind = type(self)
        kind.began_s = kind.began_s or loop.time()
        kind.number += 1
        answer = BUSY if kind.number % 4 == 0 else OK
        wait_s = max(0.0, kind.began_s + STALL_S - loop.time())
        loop.call_later(wait_s, self.transport.write, answer)  # type: ignore[attr-defined]


@asynccontextmanager
async def stalling() -> AsyncIterator[int]:
    class Fresh(Stalling):
        """Its counts are its own."""

    server = await asyncio.get_running_loop().create_server(Fresh, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def is_refusal(answer: Answer, head: bytes) -> bool:
    if answer.status == 503:
        assert b"retry-after: 1" in head
    return answer.status == 503


def check(answer: Answer, number: int) -> None:
    if answer.body != b"ok" or number == 7:
        raise WrongAnswer("not as it should be")


async def run(rate: float, seconds: float, *, first: int = 100) -> Outcomes:
    async with stalling() as port, open_load(port, is_refusal) as load:
        return await load.run((Call(b"GET", number, check) for number in count(first)), rate, seconds)


@pytest.mark.anyio
async def test_all_are_sent_and_told_apart() -> None:
    outcomes = await run(200, 0.5)
    assert outcomes.sent == 100
    assert (len(outcomes.answered_s), len(outcomes.refused_s)) == (75, 25)
    assert not outcomes.errors


@pytest.mark.anyio
async def test_a_stall_shows_in_all_that_should_have_been_answered_meanwhile() -> None:
    outcomes = await run(200, 0.5)
    waited = [seconds for seconds in (*outcomes.answered_s, *outcomes.refused_s) if seconds > STALL_S / 3]
    assert len(waited) >= 200 * STALL_S / 2  # a client that waits for its answer would have seen it once
    assert outcomes.connections >= 200 * STALL_S / 2


@pytest.mark.anyio
async def test_a_wrong_answer_is_an_error() -> None:
    outcomes = await run(100, 0.2, first=1)
    assert dict(outcomes.errors) == {"not as it should be": 1}


@pytest.mark.anyio
async def test_who_cannot_connect_is_an_error() -> None:
    async with stalling() as port:
        pass
    async with open_load(port, is_refusal) as load:
        await load._open()
        assert sum(load._into.errors.values()) == 1
