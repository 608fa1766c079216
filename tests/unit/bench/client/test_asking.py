"""The client against servers on this machine, well-behaved and not: every failure has a name."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from genkan.bench.chat_traffic import json_answer
from genkan.bench.client.asking import Asker
from genkan.bench.client.outcome import Seen
from genkan.bench.client.preflight import CannotMeasure, check, chosen_model
from genkan.bench.client.prompts import Prompts
from genkan.bench.client.target import parse_target
from genkan.bench.fake_upstream import FakeUpstream
from genkan.clock import SystemClock

pytestmark = pytest.mark.anyio

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"


class Says(asyncio.Protocol):
    """Answers whatever comes with the same bytes, and then closes the connection if told to."""

    def __init__(self, answer: bytes, *, close: bool) -> None:
        self._answer = answer
        self._close = close

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(self._answer)
        if self._close:
            self._transport.close()


@asynccontextmanager
async def asker_of(make: Callable[[], asyncio.Protocol], timeout_s: float = 10.0) -> AsyncIterator[tuple[Asker, str]]:
    """A client of a server of that protocol, and the server's URL."""
    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        asker = Asker(parse_target(url), SystemClock(), timeout_s=timeout_s)
        try:
            yield asker, url
        finally:
            asker.close()


async def seen_of(answer: bytes, *, close: bool = True, timeout_s: float = 10.0) -> tuple[Seen, str]:
    async with asker_of(lambda: Says(answer, close=close), timeout_s) as (asker, url):
        return await asker.ask_for_message(parse_target(url).post(b"{}"))


async def test_streams_and_whole_answers_over_kept_connections() -> None:
    loop = asyncio.get_running_loop()
    async with asker_of(lambda: FakeUpstream(loop)) as (asker, url):
        for stream, pieces in ((True, 16), (False, 0)):
            orders = Prompts(stream=stream).orders(parse_target(url))
            for _ in range(3):
                seen = await asker.ask(next(orders).request)
                assert (seen.error, seen.status, len(seen.token_s)) == (None, 200, pieces)
                assert (seen.prompt_tokens, seen.completion_tokens) == (61, 16)
                assert seen.token_s == sorted(seen.token_s)
                assert seen.ended_s >= max(seen.token_s, default=0.0)


async def test_the_first_model_is_taken_where_there_is_no_default() -> None:
    loop = asyncio.get_running_loop()
    async with asker_of(lambda: FakeUpstream(loop)) as (asker, url):
        assert await chosen_model(asker, parse_target(url)) == "fake-model"


@pytest.mark.parametrize("listed", [{"data": [{"id": "a"}, {"id": "default"}]}, {"data": []}, {}, {"data": [7]}])
async def test_default_is_taken_where_it_is_listed_or_nothing_is(listed: dict[str, object]) -> None:
    async with asker_of(lambda: Says(json_answer(listed), close=False)) as (asker, url):
        assert await chosen_model(asker, parse_target(url)) == "default"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", "the server closed the connection"),
        (b"220 mail.example ESMTP\r\n", "no HTTP answer"),
        (HEAD + b"content-length: 999\r\n\r\ndata: {}\n\n", "the server closed the connection"),
        (
            HEAD + b'content-length: 999\r\n\r\ndata: {"choices": [{"delta": {"content": "a"}}]}\n\n',
            "the stream was cut off",
        ),
        (HEAD + b"\r\ndata: {}\n\n", "a stream without its end"),
        (HEAD + b"\r\ndata: nothing\n\n", "an answer that is no JSON object"),
        (b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n", "status 503"),
    ],
)
async def test_what_goes_wrong_is_told_apart(answer: bytes, error: str) -> None:
    assert (await seen_of(answer))[0].error == error


async def test_a_server_that_says_nothing_is_given_up() -> None:
    seen, _ = await seen_of(b"", close=False, timeout_s=0.05)
    assert seen.error == "no end of the answer within 0.05 s"
    assert seen.ended_s > 0


async def checked(answer: bytes, key: str | None = None) -> str:
    async with asker_of(lambda: Says(answer, close=True)) as (asker, url):
        target = parse_target(url, key=key)
        with pytest.raises(CannotMeasure) as caught:
            await check(asker, target, target.post(b"{}"), "MY_KEY")
    return str(caught.value)


def refusal(status: str, message: str) -> bytes:
    return json_answer({"error": {"message": message, "code": "no"}}).replace(b"200 OK", status.encode())


@pytest.mark.parametrize(
    ("status", "key", "words"),
    [
        ("401 Unauthorized", None, "MY_KEY is not set"),
        ("401 Unauthorized", "sk-wrong", "MY_KEY is set, and not accepted"),
        ("404 Not Found", None, "Is the path right?"),
        ("429 Too Many", None, "a key with higher limits"),
    ],
)
async def test_the_check_says_what_the_server_said_and_what_to_look_at(
    status: str, key: str | None, words: str
) -> None:
    told = await checked(refusal(status, "Who are you?"), key)
    assert f"status {status[:3]} no: Who are you?" in told
    assert words in told
    assert "sk-wrong" not in told


async def test_the_check_of_a_port_where_nobody_listens() -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Says(b"", close=True), "127.0.0.1", 0)
    target = parse_target(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    server.close()
    await server.wait_closed()
    asker = Asker(target, SystemClock(), timeout_s=10.0)
    with pytest.raises(CannotMeasure, match=r"connection refused\nDoes a server listen there\?"):
        await check(asker, target, target.post(b"{}"), "MY_KEY")
    asker.close()
