"""Status 200 with the wrong thing in it."""

import zlib

import orjson
import pytest
from faults.bodies import BOMB_BYTES
from faults.canonical import TEXT
from faults.raw_client import ask
from faults.upstream import FaultUpstream

pytestmark = pytest.mark.anyio

both_ways = pytest.mark.parametrize("stream", [False, True])


@both_ways
async def test_pages(upstream: FaultUpstream, stream: bool) -> None:
    plain = await ask(upstream.port, "html-200", stream=stream)
    labelled = await ask(upstream.port, "html-200-stream", stream=stream)
    assert plain.body == labelled.body
    assert plain.body.startswith(b"<html>")
    assert (plain.status, labelled.status) == (200, 200)
    assert plain.headers["content-type"].startswith("text/html")
    assert labelled.headers["content-type"].startswith("text/event-stream" if stream else "application/json")


@both_ways
async def test_empty(upstream: FaultUpstream, stream: bool) -> None:
    reply = await ask(upstream.port, "empty-body-200", stream=stream)
    assert (reply.status, reply.end, reply.body) == (200, "complete", b"")


@both_ways
async def test_wrong_shape(upstream: FaultUpstream, stream: bool) -> None:
    reply = await ask(upstream.port, "wrong-shape", stream=stream)
    assert "choices" not in (reply.chunks[0] if stream else orjson.loads(reply.body))


@both_ways
async def test_error_with_status_200(upstream: FaultUpstream, stream: bool) -> None:
    reply = await ask(upstream.port, "error-200", stream=stream)
    assert reply.status == 200
    assert "error" in orjson.loads(reply.body)


async def test_the_other_way_than_asked(upstream: FaultUpstream) -> None:
    json = await ask(upstream.port, "json-for-stream", stream=True)
    sse = await ask(upstream.port, "sse-for-whole", stream=False)
    assert (json.headers["content-type"], json.body[:1]) == ("application/json", b"{")
    assert sse.headers["content-type"].startswith("text/event-stream")
    assert (json.text, sse.text) == (TEXT, TEXT)


@both_ways
async def test_filtered_answers(upstream: FaultUpstream, stream: bool) -> None:
    reply = await ask(upstream.port, "content-filter-finish", stream=stream)
    last = reply.chunks[-1] if stream else orjson.loads(reply.body)
    assert last["choices"][0]["finish_reason"] == "content_filter"
    assert reply.text == ""


@both_ways
async def test_gzip_bomb(upstream: FaultUpstream, stream: bool) -> None:
    reply = await ask(upstream.port, "gzip-bomb", stream=stream)
    assert reply.headers["content-encoding"] == "gzip"
    assert len(reply.body) < 100_000
    unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    size_bytes, packed = 0, reply.body
    while packed:
        size_bytes += len(unpacker.decompress(packed, 1 << 20))
        packed = unpacker.unconsumed_tail
    assert size_bytes >= BOMB_BYTES


@both_ways
async def test_gzip_unasked(upstream: FaultUpstream, stream: bool) -> None:
    reply = await ask(upstream.port, "gzip-unasked", stream=stream)
    assert reply.headers["content-encoding"] == "gzip"
    reply.body = zlib.decompress(reply.body, wbits=16 + zlib.MAX_WBITS)
    assert reply.healthy
