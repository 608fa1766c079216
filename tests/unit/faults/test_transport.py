"""Connections are cut, silent or framed as the fault's name says."""

import asyncio

import pytest
from faults.canonical import TEXT
from faults.raw_client import End, ask, raw_client, request_bytes
from faults.upstream import FaultUpstream

pytestmark = pytest.mark.anyio

both_ways = pytest.mark.parametrize("stream", [False, True])


@pytest.mark.parametrize(
    ("model", "status", "end"),
    [
        ("reset-before-headers", 0, "reset"),
        ("eof-before-headers", 0, "eof"),
        ("reset-inside-headers", 0, "reset"),
        ("reset-after-headers", 200, "reset"),
        ("truncated-content-length", 200, "eof"),
        ("not-http", 0, "eof"),
    ],
)
@both_ways
async def test_cut(upstream: FaultUpstream, model: str, status: int, end: End, stream: bool) -> None:
    reply = await ask(upstream.port, model, stream=stream)
    assert (reply.status, reply.end) == (status, end)
    assert upstream.ledger.attempts[0].outcome == "broken off"


@both_ways
async def test_reset_after_headers_sends_no_body(upstream: FaultUpstream, stream: bool) -> None:
    assert (await ask(upstream.port, "reset-after-headers", stream=stream)).body == b""


@both_ways
async def test_truncated_content_length_sends_some_of_it(upstream: FaultUpstream, stream: bool) -> None:
    reply = await ask(upstream.port, "truncated-content-length", stream=stream)
    assert 0 < len(reply.body) < int(reply.headers["content-length"])
    assert reply.body.startswith(b"data: {" if stream else b"{")


@pytest.mark.parametrize("cut_at", [0, 1, 17, 300, 1000, 2000])
@pytest.mark.parametrize(("model", "end"), [("cut-at-byte", "reset"), ("eof-at-byte", "eof")])
async def test_cut_at_a_byte(upstream: FaultUpstream, model: str, end: End, cut_at: int) -> None:
    body = {"model": model, "stream": True, "x_cut_at_byte": cut_at}
    async with raw_client(upstream.port) as client:
        await client.write(request_bytes("POST", "/v1/chat/completions", body))
        received, ended = await client.read_raw()
    assert (len(received), ended) == (cut_at, end)


@both_ways
async def test_never_answers(upstream: FaultUpstream, stream: bool) -> None:
    reply = await ask(upstream.port, "never-answers", stream=stream, quiet_s=0.2)
    assert (reply.raw, reply.end) == (b"", "silence")


@both_ways
async def test_headers_then_silence(upstream: FaultUpstream, stream: bool) -> None:
    reply = await ask(upstream.port, "headers-then-silence", stream=stream, quiet_s=0.3)
    assert (reply.status, reply.body, reply.end) == (200, b"", "silence")
    assert (await ask(upstream.port, "headers-then-silence", stream=stream, x_silence_s=0.01)).healthy


@pytest.mark.parametrize(("model", "end"), [("closes-on-reuse", "eof"), ("resets-on-reuse", "reset")])
async def test_reuse(upstream: FaultUpstream, model: str, end: End) -> None:
    async with raw_client(upstream.port) as client:
        first = await client.ask(model, stream=False)
        second = await client.ask(model, stream=False)
    assert first.healthy
    assert first.headers["connection"] == "keep-alive"
    assert (second.raw, second.end) == (b"", end)
    assert (await ask(upstream.port, model, stream=True)).healthy


@both_ways
async def test_early_response_comes_before_the_request_is_whole(upstream: FaultUpstream, stream: bool) -> None:
    body = {"model": "early-response", "stream": stream, "messages": [{"role": "user", "content": "x" * 3_000_000}]}
    request = request_bytes("POST", "/v1/chat/completions", body)
    async with raw_client(upstream.port) as client:
        await client.write(request[:2000])
        assert (await client.read()).healthy
        await client.write(request[2000:])
        assert (await client.ask("ok", stream=stream)).healthy
    assert [attempt.connection for attempt in upstream.ledger.attempts] == [1, 1]


@pytest.mark.parametrize("model", ["huge-header", "many-headers"])
@both_ways
async def test_large_heads(upstream: FaultUpstream, model: str, stream: bool) -> None:
    reply = await ask(upstream.port, model, stream=stream)
    assert len(reply.raw) > 100_000
    assert reply.healthy


@both_ways
async def test_informational_flood(upstream: FaultUpstream, stream: bool) -> None:
    reply = await ask(upstream.port, "informational-flood", stream=stream)
    assert reply.raw.count(b"HTTP/1.1 103") == 1000
    assert reply.healthy


async def test_chunk_extensions_are_garbage(upstream: FaultUpstream) -> None:
    reply = await ask(upstream.port, "chunk-ext-garbage", stream=True)
    assert b';;=;"' in reply.raw
    assert reply.healthy


async def test_one_byte_reads(upstream: FaultUpstream) -> None:
    """TCP may join them again, so count what arrives: far more pieces than any other answer needs."""
    reader, writer = await asyncio.open_connection("127.0.0.1", upstream.port)
    writer.write(request_bytes("POST", "/v1/chat/completions", {"model": "one-byte-reads"}))
    received, pieces = b"", 0
    while not received.endswith(b"}}"):
        received += await reader.read(65536)
        pieces += 1
    writer.close()
    await writer.wait_closed()
    assert TEXT.encode() in received
    assert pieces > 50


async def test_an_answer_without_length_may_be_cut_unseen(upstream: FaultUpstream) -> None:
    whole = await ask(upstream.port, "no-length", stream=True)
    cut = await ask(upstream.port, "no-length-cut", stream=True)
    assert whole.healthy
    assert (cut.end, cut.text) == ("complete", TEXT[: 40 * 6])
