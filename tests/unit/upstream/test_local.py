"""The engine's socket, spoken to by a server that answers bytes of our choosing."""

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from responders import HELLO, HELLO_BODY, USAGE

from genkan.config import EngineUpstreamConfig, Timeouts
from genkan.errors import ConnectFailed, StreamInterrupted, TimedOut, UpstreamBroken, UpstreamRefused
from genkan.upstream.base import Answer, Call, Continuation
from genkan.upstream.local import LocalEngine
from genkan.wire.chat import ChatRequest, CompletionRequest, GenerationRequest
from genkan.wire.said import Said

pytestmark = pytest.mark.anyio

WHOLE = ChatRequest.from_object({"model": "m", "messages": [{"role": "user", "content": "Hi"}], "new": [1.5, "é"]})
STREAM = ChatRequest.from_object({**WHOLE.raw, "stream": True})
STREAM_WITH_USAGE = ChatRequest.from_object({**STREAM.raw, "stream_options": {"include_usage": True}})
SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
EVENTS = b"".join(b"data: %b\n\n" % event for event in HELLO)
UNFINISHED = b"".join(b"data: %b\n\n" % event for event in HELLO[:2])
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
        upstream = LocalEngine(EngineUpstreamConfig(name="engine", kind="engine", timeouts=timeouts), path)
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


def pausing(beginning: bytes, go_on: asyncio.Event, ending: bytes) -> Handler:
    """Reads one request, writes ``beginning``, waits to be told, writes ``ending``, closes."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(beginning)
        await writer.drain()
        await go_on.wait()
        writer.write(ending)

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


async def ask(upstream: LocalEngine, request: GenerationRequest, model: str = "m") -> Answer:
    return await upstream.respond(request, model, total_s=60)


async def events_of(answer: Answer) -> list[bytes]:
    assert answer.batches is not None
    try:
        return [event async for batch in answer.batches for event in batch]
    finally:
        await answer.aclose()


async def test_sends_the_raw_request_and_returns_the_body_untouched() -> None:
    seen: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_request(reader))
        writer.write(response(HELLO_BODY))

    async with engine(handle) as upstream:
        answer = await ask(upstream, WHOLE)
    assert answer.body == HELLO_BODY
    head, _, body = seen[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
    assert ChatRequest.parse(body).raw == WHOLE.raw


async def test_the_engine_is_told_whose_request_it_is_and_bounds_the_answer_itself() -> None:
    seen: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_request(reader))
        writer.write(response(HELLO_BODY))

    async with engine(handle) as upstream:
        await upstream.respond(WHOLE, "m", total_s=60, call=Call("req_7.2", "acme:eu/1", 5))
    head, _, body = seen[0].partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert b"x-client-request-id: req_7.2" in lines
    assert b"x-genkan-tenant: acme:eu/1" in lines
    assert "max_tokens" not in ChatRequest.parse(body).raw


async def test_the_model_is_asked_for_by_the_name_it_has_there_and_a_stream_for_its_usage() -> None:
    seen: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append((await read_request(reader)).partition(b"\r\n\r\n")[2])
        writer.write(SSE + EVENTS + DONE)

    async with engine(handle) as upstream:
        await (await ask(upstream, STREAM, "smollm2")).aclose()
    sent = ChatRequest.parse(seen[0])
    assert sent.raw == {**STREAM.raw, "model": "smollm2", "stream_options": {"include_usage": True}}


async def test_streams_events_however_the_bytes_are_cut() -> None:
    stream = SSE + EVENTS + DONE
    async with engine(saying(*(stream[i : i + 7] for i in range(0, len(stream), 7)))) as upstream:
        assert await events_of(await ask(upstream, STREAM_WITH_USAGE)) == HELLO


async def test_usage_reaches_only_those_who_asked_for_it() -> None:
    async with engine(saying(SSE + EVENTS + DONE)) as upstream:
        answer = await ask(upstream, STREAM)
        events = await events_of(answer)
    assert events == [event.replace(b',"usage":null', b"") for event in HELLO[:-1]]
    assert answer.usage == USAGE


async def test_a_refusal_keeps_its_status_names_and_retry_after() -> None:
    body = b'{"error":{"message":"busy","type":"service_unavailable_error","param":null,"code":"server_is_overloaded"}}'
    async with engine(saying(response(body, "503 Busy", "retry-after: 7\r\n"))) as upstream:
        with pytest.raises(UpstreamRefused, match="busy") as caught:
            await ask(upstream, STREAM)
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
            await ask(upstream, WHOLE)


@pytest.mark.parametrize("ending", [b"", DONE], ids=["nothing", "done"])
async def test_a_stream_without_a_finish_reason_is_never_taken_for_complete(ending: bytes) -> None:
    go_on = asyncio.Event()
    async with engine(pausing(SSE + UNFINISHED, go_on, ending)) as upstream:
        answer = await ask(upstream, STREAM)
        go_on.set()
        with pytest.raises(StreamInterrupted, match="ended before it was complete"):
            await events_of(answer)


async def test_an_answer_that_has_ended_needs_no_done() -> None:
    async with engine(saying(SSE, EVENTS)) as upstream:
        assert await events_of(await ask(upstream, STREAM_WITH_USAGE)) == HELLO


async def test_an_error_event_in_mid_stream_is_raised_with_its_names() -> None:
    event = b'data: {"error":{"message":"m","type":"server_error","param":null,"code":"engine_error"}}\n\n'
    go_on = asyncio.Event()
    async with engine(pausing(SSE + UNFINISHED, go_on, event + DONE)) as upstream:
        answer = await ask(upstream, STREAM)
        go_on.set()
        with pytest.raises(UpstreamRefused) as caught:
            await events_of(answer)
    assert caught.value.code == "engine_error"


async def test_an_empty_stream_is_refused_before_anything_is_sent_to_the_client() -> None:
    async with engine(saying(SSE, DONE)) as upstream:
        with pytest.raises(UpstreamBroken, match="empty"):
            await ask(upstream, STREAM)


async def test_an_endless_event_is_cut_off() -> None:
    async with engine(
        saying(SSE, *(b"data: " + b"x" * 100_000 if i == 0 else b"x" * 100_000 for i in range(12)))
    ) as up:
        with pytest.raises(UpstreamBroken, match="malformed"):
            await ask(up, STREAM)


async def test_silence_before_the_first_token_times_out() -> None:
    async with engine(stalling(SSE), QUICK) as upstream:
        with pytest.raises(TimedOut, match=r"first_token took more than 0\.05 s") as caught:
            await ask(upstream, STREAM)
    assert caught.value.phase == "first_token"


async def test_the_word_who_speaks_is_not_the_first_token() -> None:
    role = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n'
    async with engine(stalling(SSE, role), QUICK) as upstream:
        with pytest.raises(TimedOut) as caught:
            await ask(upstream, STREAM)
    assert caught.value.phase == "first_token"


async def test_silence_between_tokens_times_out() -> None:
    async with engine(stalling(SSE, UNFINISHED), QUICK) as upstream:
        answer = await ask(upstream, STREAM)
        with pytest.raises(TimedOut) as caught:
            await events_of(answer)
    assert caught.value.phase == "between_tokens"


async def test_the_whole_answer_has_a_limit_too() -> None:
    timeouts = Timeouts(connect_s=1, first_token_s=5, between_tokens_s=5, total_s=0.05)
    async with engine(stalling(SSE, UNFINISHED), timeouts) as upstream:
        answer = await ask(upstream, STREAM)
        with pytest.raises(TimedOut) as caught:
            await events_of(answer)
    assert caught.value.phase == "total"


async def test_a_request_may_have_less_time_than_the_upstream_allows() -> None:
    async with engine(stalling(SSE, UNFINISHED)) as upstream:
        answer = await upstream.respond(STREAM, "m", total_s=0.05)
        with pytest.raises(TimedOut) as caught:
            await events_of(answer)
    assert (caught.value.phase, caught.value.limit_s) == ("total", 0.05)


async def test_an_engine_that_is_not_there_is_unreachable() -> None:
    upstream = LocalEngine(EngineUpstreamConfig(name="engine", kind="engine"), "/nonexistent/e.sock")
    with pytest.raises(ConnectFailed) as caught:
        await ask(upstream, WHOLE)
    assert caught.value.retry_after_s == 5
    await upstream.aclose()


@pytest.mark.parametrize(("race_s", "connected"), [(60.0, 2), (-1.0, 1)], ids=["within a race's time", "later"])
async def test_a_kept_connection_that_the_engine_has_closed_costs_one_more_try(
    monkeypatch: pytest.MonkeyPatch, race_s: float, connected: int
) -> None:
    monkeypatch.setattr("genkan.upstream.http_client._RACE_S", race_s)
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
        assert (await ask(upstream, WHOLE)).body == HELLO_BODY
        if connected == 2:
            assert (await ask(upstream, WHOLE)).body == HELLO_BODY
        else:
            with pytest.raises(UpstreamBroken):
                await ask(upstream, WHOLE)
    assert connections == connected


async def test_an_engine_that_goes_away_over_a_request_does_not_get_it_again() -> None:
    connections = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await read_request(reader)

    async with engine(handle) as upstream:
        with pytest.raises(UpstreamBroken):
            await ask(upstream, WHOLE)
    assert connections == 1


async def test_closing_the_answer_closes_the_connection_so_that_the_engine_stops() -> None:
    gone = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(SSE + EVENTS)
        await writer.drain()
        await reader.read()
        gone.set()

    async with engine(handle) as upstream:
        answer = await ask(upstream, STREAM)
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
            assert await events_of(await ask(upstream, STREAM_WITH_USAGE)) == HELLO
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
    upstream = LocalEngine(EngineUpstreamConfig(name="engine", kind="engine"), "/nonexistent/e.sock")
    with pytest.raises(ConnectFailed):
        await upstream.purge_prefix_cache("a")
    await upstream.aclose()


# Going on, and counting


def text_said(*chunks: dict[str, Any]) -> Said:
    said = Said()
    for delta in chunks:
        said.hear({"id": "x", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
    return said


HALF = text_said({"role": "assistant", "content": "Hel"}, {"content": "lo"})


async def test_an_answer_is_gone_on_with_from_its_text() -> None:
    seen: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append((await read_request(reader)).partition(b"\r\n\r\n")[2])
        writer.write(response(HELLO_BODY))

    async with engine(handle) as upstream:
        assert upstream.way_on(WHOLE, HALF) == "prompt"
        await upstream.respond(WHOLE, "m", total_s=60, call=Call(continuation=Continuation("prompt", HALF.text, 2)))
    assert ChatRequest.parse(seen[0]).raw == {**WHOLE.raw, "continue_text": "Hello"}


@pytest.mark.parametrize(
    ("more", "said", "way"),
    [
        ({}, HALF, "prompt"),
        (
            {"tools": [{"type": "function", "function": {"name": "f"}}], "response_format": {"type": "text"}},
            HALF,
            "prompt",
        ),
        ({}, text_said({"role": "assistant", "content": ""}), "replay"),
        ({}, text_said({"content": "Hi"}, {"reasoning_content": "hm"}), "replay"),
        ({}, text_said({"content": "x" * ((4 << 20) + 1)}), "replay"),
        ({"n": 2}, HALF, "replay"),
        ({"continue_text": "Oh. "}, HALF, "replay"),
    ],
)
async def test_it_is_asked_anew_where_its_text_is_not_all(more: dict[str, Any], said: Said, way: str) -> None:
    request = ChatRequest.from_object({**STREAM.raw, **more})
    async with engine(saying()) as upstream:
        assert upstream.way_on(request, said) == way


@pytest.mark.parametrize(
    ("body", "way"),
    [
        ({"prompt": "a"}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": ["a", "b"]}, "replay"),
        ({"prompt": "a", "echo": True}, "replay"),
    ],
)
async def test_so_are_completions_with_more_than_one_text(body: dict[str, Any], way: str) -> None:
    async with engine(saying()) as upstream:
        assert upstream.way_on(CompletionRequest.from_object({"model": "m", **body}), HALF) == way


async def test_the_engine_counts_a_prompts_tokens() -> None:
    seen: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_request(reader))
        writer.write(response(b'{"count":31,"max_model_len":2048}'))

    async with engine(handle) as upstream:
        assert await upstream.count_tokens(WHOLE, "m", limit_s=5) == 31
    assert seen[0].startswith(b"POST /tokenize HTTP/1.1\r\n")


async def test_an_engine_that_is_slow_to_count_is_not_waited_for() -> None:
    async with engine(stalling()) as upstream:
        assert await upstream.count_tokens(WHOLE, "m", limit_s=0.05) is None
