"""Load on a server: every call is made once and checked, whatever becomes of its connection."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest

from genkan.bench import http_load
from genkan.bench.chat_traffic import Requests, check_refused, check_stream, check_whole, malformed
from genkan.bench.fake_upstream import FakeUpstream
from genkan.bench.http_answer import WrongAnswer
from genkan.bench.http_load import Call, connected

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def listening(make: Callable[[], asyncio.Protocol]) -> AsyncIterator[int]:
    """A server of that protocol on a port of this machine."""
    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture
async def port() -> AsyncIterator[int]:
    loop = asyncio.get_running_loop()
    async with listening(lambda: FakeUpstream(loop)) as port:
        yield port


class Says(asyncio.Protocol):
    """Answers whatever comes with the same bytes, and closes the connection if told to."""

    def __init__(self, answer: bytes, *, close: bool = False) -> None:
        self._answer = answer
        self._close = close

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(self._answer)
        if self._close:
            self._transport.close()


def wholes(port: int, number: int) -> Iterator[Call]:
    request = Requests(port, stream=False)
    return iter([Call(request(each), each, check_whole) for each in range(number)])


async def test_every_call_is_answered_and_timed(port: int) -> None:
    async with connected(port, 4) as load:
        measured = await load.run(wholes(port, 100))
    assert (measured.ended, len(measured.latency_s), len(measured.first_byte_s)) == (100, 100, 100)
    assert all(0 < first <= last for first, last in zip(measured.first_byte_s, measured.latency_s, strict=True))
    assert measured.figures()["rps"] == pytest.approx(100 / measured.elapsed_s)


async def test_streams_are_timed_to_the_first_byte_and_to_the_last(port: int) -> None:
    request = Requests(port, stream=True)
    async with connected(port, 2) as load:
        measured = await load.run(iter([Call(request(each), each, check_stream) for each in range(10)]))
    assert all(first < last for first, last in zip(measured.first_byte_s, measured.latency_s, strict=True))


async def test_connections_serve_run_after_run(port: int) -> None:
    async with connected(port, 3) as load:
        assert [(await load.run(wholes(port, number))).ended for number in (5, 1, 7)] == [5, 1, 7]


async def test_a_client_that_leaves_comes_back(port: int) -> None:
    whole, stream = Requests(port, stream=False), Requests(port, stream=True)
    calls = [
        Call(stream(1), 1, check_stream, "first_bytes"),
        Call(whole(2), 2, check_whole),
        Call(whole(3), 3, check_whole, "sent"),
        Call(stream(4), 4, check_stream),
        Call(malformed(port), 5, check_refused),
    ]
    async with connected(port, 1) as load:
        measured = await load.run(iter(calls))
    assert (measured.ended, len(measured.latency_s)) == (5, 3)  # who left has no latency


async def test_wrong_answers_are_counted_and_the_other_calls_made(port: int) -> None:
    calls = [Call(malformed(port), number, check_whole) for number in range(3)]
    async with connected(port, 1) as load:
        with pytest.raises(WrongAnswer, match=r"^3 of 13 requests failed: 3 × status 400"):
            await load.run(iter([*calls, *wholes(port, 10)]))


async def test_a_server_that_is_gone_is_an_error() -> None:
    half = b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{"
    async with listening(lambda: Says(half, close=True)) as port, connected(port, 2) as load:
        with pytest.raises(WrongAnswer, match="2 × the server closed the connection"):
            await load.run(wholes(port, 100))


async def test_bytes_that_are_no_answer_are_an_error() -> None:
    async with listening(lambda: Says(b"hello\r\n\r\n")) as port, connected(port, 1) as load:
        with pytest.raises(WrongAnswer, match="2 × no HTTP answer"):
            await load.run(wholes(port, 2))


async def test_after_connection_close_it_connects_anew() -> None:
    answer = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    async with listening(lambda: Says(answer, close=True)) as port, connected(port, 1) as load:
        measured = await load.run(iter([Call(malformed(port), each, check_refused) for each in range(5)]))
    assert len(measured.latency_s) == 5


async def test_a_server_that_does_not_answer_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_load, "STALL_S", 0.05)
    async with listening(lambda: Says(b"")) as port, connected(port, 1) as load:
        with pytest.raises(WrongAnswer, match=r"no answer for 0\.05 s, 0 requests in"):
            await load.run(wholes(port, 1))


async def test_no_server_at_all() -> None:
    async with listening(lambda: Says(b"")) as port:
        pass
    with pytest.raises(OSError):  # noqa: PT011 - the number differs by system
        async with connected(port, 1):
            pass
