"""The engine's socket, spoken to by a server that answers bytes of our choosing."""

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from responders import HELLO, HELLO_BODY

from genkan.config import Timeouts, UpstreamConfig
from genkan.errors import ConnectFailed, TimedOut, UpstreamBroken, UpstreamRefused
from genkan.upstream.base import Answer
from genkan.upstream.local import LocalEngine
from genkan.wire.chat import ChatRequest

pytestmark = pytest.mark.anyio

WHOLE = ChatRequest.from_object({"model": "m", "messages": [{"role": "user", "content": "Hi"}], "new": [1.5, "é"]})
STREAM = ChatRequest.from_object({**WHOLE.raw, "stream": True})
SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
EVENTS = b"".join(b"data: %b\n\n" % event for event in HELLO)
DONE = b"data: [DONE]\n\n"
QUICK = Timeouts(connect_s=1, first_token_s=0.05, between_tokens_s=0.05, total_s=5)

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def response(body: bytes, status: str = "200 OK", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n{headers}\r\n".encode() + body


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    declared = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]  # absent without a body
    return head + await reader.readexactly(int(declared or 0))


@asynccontextmanager
async def engine(handler: Handler, timeouts: Timeouts = Timeouts()) -> AsyncGenerator[LocalEngine, None]:  # noqa: B008
    """A LocalEngine whose peer is ``handler``, called once a connection."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "e.sock")
        connections: list[asyncio.Task[None]] = []

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connections.append(asyncio.current_task())  # type: ignore[arg-type]
            try:
                await handler(reader, writer)
            except (asyncio.IncompleteReadError, ConnectionError):
                pass  # the client went first
            finally:
                writer.close()

        server = await asyncio.start_unix_server(connected, path)
        upstream = LocalEngine(UpstreamConfig(name="engine", kind="engine", timeouts=timeouts), path)
        await upstream.start()
        try:
            yield upstream
        finally:
            await upstream.aclose()
            server.close()
            await asyncio.gather(*connections)
            await asyncio.sleep(0)  # let the transports notice


def saying(*pieces: bytes) -> Handler:
    """Reads one request, writes ``pieces`` one by one, closes."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()

    return handle


def stalling(*pieces: bytes) -> Handler:
    """Like ``saying``, but then stays silent until the client goes."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        for piece in pieces:
            writer.write(piece)
        await writer.drain()
        await reader.read()

    return handle


async def events_of(answer: Answer) -> list[bytes]:
    assert answer.events is not None
    try:
        return [event async for event in answer.events]
    finally:
        await answer.aclose()


async def test_sends_the_raw_request_and_returns_the_body_untouched() -> None:
    seen: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_request(reader))
        writer.write(response(HELLO_BODY))

    async with engine(handle) as upstream:
        answer = await upstream.respond(WHOLE)
    assert answer.body == HELLO_BODY
    head, _, body = seen[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
    assert ChatRequest.parse(body).raw == WHOLE.raw


async def test_streams_events_however_the_bytes_are_cut() -> None:
    stream = SSE + EVENTS + DONE
    async with engine(saying(*(stream[i : i + 7] for i in range(0, len(stream), 7)))) as upstream:
        assert await events_of(await upstream.respond(STREAM)) == HELLO


async def test_a_refusal_keeps_its_status_names_and_retry_after() -> None:
    body = b'{"error":{"message":"busy","type":"service_unavailable_error","param":null,"code":"server_is_overloaded"}}'
    async with engine(saying(response(body, "503 Busy", "retry-after: 7\r\n"))) as upstream:
        with pytest.raises(UpstreamRefused, match="busy") as caught:
            await upstream.respond(STREAM)
    error = caught.value
    assert (error.status, error.type, error.code, error.retry_after_s) == (
        503,
        "service_unavailable_error",
        "server_is_overloaded",
        7.0,
    )


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"error": "x"}', b"[]", b'{"error":{"message":1}}'])
async def test_a_refusal_that_is_not_openais_is_a_broken_upstream(body: bytes) -> None:
    async with engine(saying(response(body, "500 Oops"))) as upstream:
        with pytest.raises(UpstreamBroken):
            await upstream.respond(WHOLE)


async def test_a_stream_without_done_is_never_taken_for_complete() -> None:
    async with engine(saying(SSE, EVENTS)) as upstream:
        answer = await upstream.respond(STREAM)
        with pytest.raises(UpstreamBroken, match="ended before it was complete"):
            await events_of(answer)


async def test_an_error_event_in_mid_stream_is_raised_with_its_names() -> None:
    event = b'data: {"error":{"message":"m","type":"server_error","param":null,"code":"engine_error"}}\n\n'
    async with engine(saying(SSE, EVENTS[:60], EVENTS[60:], event, DONE)) as upstream:
        answer = await upstream.respond(STREAM)
        with pytest.raises(UpstreamRefused) as caught:
            await events_of(answer)
    assert caught.value.code == "engine_error"


async def test_an_empty_stream_is_refused_before_anything_is_sent_to_the_client() -> None:
    async with engine(saying(SSE, DONE)) as upstream:
        with pytest.raises(UpstreamBroken, match="empty"):
            await upstream.respond(STREAM)


async def test_an_endless_event_is_cut_off() -> None:
    async with engine(
        saying(SSE, *(b"data: " + b"x" * 100_000 if i == 0 else b"x" * 100_000 for i in range(12)))
    ) as up:
        with pytest.raises(UpstreamBroken, match="malformed"):
            await up.respond(STREAM)


async def test_silence_before_the_first_token_times_out() -> None:
    async with engine(stalling(SSE), QUICK) as upstream:
        with pytest.raises(TimedOut, match=r"first_token took more than 0\.05 s") as caught:
            await upstream.respond(STREAM)
    assert caught.value.phase == "first_token"


async def test_silence_between_tokens_times_out() -> None:
    async with engine(stalling(SSE, EVENTS), QUICK) as upstream:
        answer = await upstream.respond(STREAM)
        with pytest.raises(TimedOut) as caught:
            await events_of(answer)
    assert caught.value.phase == "between_tokens"


async def test_the_whole_answer_has_a_limit_too() -> None:
    timeouts = Timeouts(connect_s=1, first_token_s=5, between_tokens_s=5, total_s=0.05)
    async with engine(stalling(SSE, EVENTS), timeouts) as upstream:
        answer = await upstream.respond(STREAM)
        with pytest.raises(TimedOut) as caught:
            await events_of(answer)
    assert caught.value.phase == "total"


async def test_an_engine_that_is_not_there_is_unreachable() -> None:
    upstream = LocalEngine(UpstreamConfig(name="engine", kind="engine"), "/nonexistent/e.sock")
    await upstream.start()
    with pytest.raises(ConnectFailed) as caught:
        await upstream.respond(WHOLE)
    assert caught.value.retry_after_s == 5
    await upstream.aclose()


async def test_a_kept_connection_that_the_engine_has_closed_costs_one_more_try(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("genkan.upstream.local._RACE_S", 60.0)
    connections = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await read_request(reader)
        writer.write(response(HELLO_BODY))
        if connections > 1:
            return
        await read_request(reader)  # the second request on this connection is read and never answered

    async with engine(handle) as upstream:
        assert (await upstream.respond(WHOLE)).body == HELLO_BODY
        assert (await upstream.respond(WHOLE)).body == HELLO_BODY
    assert connections == 2


@pytest.mark.parametrize(("race_s", "tries"), [(60.0, 2), (-1.0, 1)], ids=["within a race's time", "later"])
async def test_an_engine_that_goes_away_gets_the_request_once_more_at_most(
    monkeypatch: pytest.MonkeyPatch, race_s: float, tries: int
) -> None:
    monkeypatch.setattr("genkan.upstream.local._RACE_S", race_s)
    connections = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await read_request(reader)

    async with engine(handle) as upstream:
        with pytest.raises(UpstreamBroken):
            await upstream.respond(WHOLE)
    assert connections == tries


async def test_closing_the_answer_closes_the_connection_so_that_the_engine_stops() -> None:
    gone = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(SSE + EVENTS)
        await writer.drain()
        await reader.read()
        gone.set()

    async with engine(handle) as upstream:
        answer = await upstream.respond(STREAM)
        await answer.aclose()
        await asyncio.wait_for(gone.wait(), timeout=1)


async def test_a_finished_stream_gives_its_connection_back() -> None:
    connections = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            await read_request(reader)
            body = EVENTS + DONE
            writer.write(response(body, headers="content-type: text/event-stream\r\n"))

    async with engine(handle) as upstream:
        for _ in range(3):
            assert await events_of(await upstream.respond(STREAM)) == HELLO
    assert connections == 1


@pytest.mark.parametrize(
    ("purge", "line"),
    [
        (False, b"GET /admin/prefix-cache HTTP/1.1"),
        (True, b"DELETE /admin/prefix-cache?tenant=Zo%C3%AB+%26+Co%2B HTTP/1.1"),
    ],
)
async def test_shows_and_purges_the_prefix_cache_and_passes_the_body_on(purge: bool, line: bytes) -> None:
    seen: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_request(reader))
        writer.write(response(b'{"pages":1}'))

    async with engine(handle) as upstream:
        body = await (upstream.purge_prefix_cache("Zoë & Co+") if purge else upstream.prefix_cache())
    assert body == b'{"pages":1}'
    assert seen[0].partition(b"\r\n")[0] == line


async def test_a_prefix_cache_that_the_engine_refuses_to_show_keeps_the_reason() -> None:
    body = (
        b'{"error":{"message":"loading","type":"service_unavailable_error","param":null,"code":"engine_unavailable"}}'
    )
    async with engine(saying(response(body, "503 Busy"))) as upstream:
        with pytest.raises(UpstreamRefused, match="loading") as caught:
            await upstream.prefix_cache()
    assert (caught.value.status, caught.value.code) == (503, "engine_unavailable")


async def test_an_engine_that_does_not_answer_for_its_prefix_cache_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genkan.upstream.local._ADMIN_S", 0.05)
    async with engine(stalling(), QUICK) as upstream:
        with pytest.raises(TimedOut) as caught:
            await upstream.prefix_cache()
    assert (caught.value.phase, caught.value.limit_s) == ("total", 0.05)


async def test_a_cut_off_prefix_cache_is_a_broken_upstream() -> None:
    async with engine(saying(response(b"x" * 50)[:-10])) as upstream:
        with pytest.raises(UpstreamBroken):
            await upstream.prefix_cache()


async def test_a_prefix_cache_of_an_engine_that_is_not_there_is_unreachable() -> None:
    upstream = LocalEngine(UpstreamConfig(name="engine", kind="engine"), "/nonexistent/e.sock")
    await upstream.start()
    with pytest.raises(ConnectFailed):
        await upstream.purge_prefix_cache("a")
    await upstream.aclose()
