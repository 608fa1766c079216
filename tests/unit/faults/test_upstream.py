"""The canonical answer, the ledger, the control routes, and what becomes of clients that leave."""

import socket
import struct
import time
from typing import Any

import anyio.lowlevel
import orjson
import pytest
from anyio import fail_after
from faults.canonical import TEXT, TOKENS, USAGE, VENDOR
from faults.catalogue import FAULTS
from faults.ledger import Attempt
from faults.process import running_upstream
from faults.raw_client import KEY, Reply, ask, raw_client, request_bytes
from faults.upstream import FaultUpstream

CHAT = "/v1/chat/completions"

on_asyncio = pytest.mark.anyio


@on_asyncio
async def test_the_whole_answer(upstream: FaultUpstream) -> None:
    reply = await ask(upstream.port, "ok", stream=False)
    body = orjson.loads(reply.body)
    assert reply.healthy
    assert (body["id"], body["model"], body["usage"], body["x_vendor"]) == ("chatcmpl-fault", "ok", USAGE, VENDOR)
    assert body["choices"][0]["finish_reason"] == "stop"


@on_asyncio
@pytest.mark.parametrize("include_usage", [False, True])
async def test_the_stream(upstream: FaultUpstream, include_usage: bool) -> None:
    reply = await ask(upstream.port, "ok", stream=True, stream_options={"include_usage": include_usage})
    first, *rest = reply.chunks
    assert reply.healthy
    assert first["choices"][0]["delta"]["role"] == "assistant"
    assert tuple(chunk["choices"][0]["delta"]["content"] for chunk in rest[:60]) == TOKENS
    assert rest[60]["choices"][0]["finish_reason"] == "stop"
    assert [chunk["usage"] for chunk in rest[61:]] == ([USAGE] if include_usage else [])
    assert all(chunk["x_vendor"] == VENDOR for chunk in reply.chunks)


@on_asyncio
@pytest.mark.parametrize("stream", [False, True])
async def test_text_completions(upstream: FaultUpstream, stream: bool) -> None:
    async with raw_client(upstream.port) as client:
        reply = await client.ask("ok", stream=stream, path="/v1/completions")
    assert reply.healthy
    assert (reply.chunks[0] if stream else orjson.loads(reply.body))["object"] == "text_completion"


@on_asyncio
async def test_every_model_is_listed(upstream: FaultUpstream) -> None:
    listed = orjson.loads((await _get(upstream, "/v1/models")).body)
    assert [model["id"] for model in listed["data"]] == list(FAULTS)
    assert [probe.path for probe in upstream.ledger.probes] == ["/v1/models"]
    assert upstream.ledger.attempts == []


@on_asyncio
@pytest.mark.parametrize(("key", "status"), [("sk-wrong-1", 401), ("sk-forbidden-1", 403), (KEY, 200)])
async def test_keys(upstream: FaultUpstream, key: str, status: int) -> None:
    async with raw_client(upstream.port) as client:
        await client.write(request_bytes("GET", "/v1/models", key=key))
        assert (await client.read()).status == status


@on_asyncio
async def test_the_ledger(upstream: FaultUpstream) -> None:
    async with raw_client(upstream.port) as client:
        await client.ask("ok", stream=True, x_more=1)
        await client.ask("500-once", stream=False)
        await client.ask("ok", stream=False)
        attempts = orjson.loads((await client.request("GET", "/_/attempts")).body)
    await ask(upstream.port, "ok", stream=False)

    assert [(a["model"], a["stream"], a["number"], a["status"], a["tokens"]) for a in attempts] == [
        ("ok", True, 1, 200, 60),
        ("500-once", False, 1, 500, 0),
        ("ok", False, 2, 200, 60),
    ]
    assert {a["outcome"] for a in attempts} == {"answered"}
    assert attempts[0]["headers"]["authorization"] == f"Bearer {KEY}"
    assert attempts[0]["body"]["x_more"] == 1
    assert [attempt.connection for attempt in upstream.ledger.attempts] == [1, 1, 1, 2]


@on_asyncio
async def test_connections_are_counted_without_the_tests_own(upstream: FaultUpstream) -> None:
    async with raw_client(upstream.port) as client:
        await client.ask("ok", stream=False)
        await ask(upstream.port, "ok", stream=False)
        with fail_after(5):
            while (counts := orjson.loads((await _get(upstream, "/_/connections")).body))["open"] == 2:
                await anyio.lowlevel.checkpoint()
        assert counts == {"open": 1, "accepted": 2}


@on_asyncio
async def test_canary_hits_are_kept(upstream: FaultUpstream) -> None:
    assert (await _get(upstream, "/_/canary")).status == 200
    hits = orjson.loads((await _get(upstream, "/_/canary-hits")).body)
    assert [hit["headers"]["authorization"] for hit in hits] == [f"Bearer {KEY}"]


@on_asyncio
async def test_reset_forgets(upstream: FaultUpstream) -> None:
    assert (await ask(upstream.port, "500-once", stream=False)).status == 500
    await _post(upstream, "/_/down", {"until_told": True})
    await _post(upstream, "/_/reset", {})
    assert orjson.loads((await _get(upstream, "/_/attempts")).body) == []
    assert (await ask(upstream.port, "500-once", stream=False)).status == 500


@on_asyncio
async def test_an_outage_until_told(upstream: FaultUpstream) -> None:
    async with raw_client(upstream.port) as client:
        assert (await client.ask("ok", stream=False)).healthy
        await _post(upstream, "/_/down", {"until_told": True})
        assert (await client.ask("ok", stream=False)).end == "reset"
    assert (await _get(upstream, "/v1/models")).end == "reset"
    assert upstream.ledger.attempts[-1].outcome == "down"
    await _post(upstream, "/_/down", {"up": True})
    assert (await ask(upstream.port, "ok", stream=False)).healthy


@on_asyncio
async def test_an_outage_of_one_model_that_answers_503(upstream: FaultUpstream) -> None:
    await _post(upstream, "/_/down", {"until_told": True, "model": "ok@a", "mode": "503"})
    assert (await ask(upstream.port, "ok@a", stream=False)).status == 503
    assert (await ask(upstream.port, "ok@b", stream=False)).healthy


@on_asyncio
async def test_an_outage_ends_by_the_clock() -> None:
    now_s = 0.0
    async with FaultUpstream(clock=lambda: now_s) as upstream:
        await _post(upstream, "/_/down", {"seconds": 60})
        assert (await ask(upstream.port, "ok", stream=False)).end == "reset"
        now_s = 60.0
        assert (await ask(upstream.port, "ok", stream=False)).healthy


@on_asyncio
async def test_down_for_60() -> None:
    now_s = 0.0
    async with FaultUpstream(clock=lambda: now_s) as upstream:
        assert [(await ask(upstream.port, "down-for-60", stream=True)).end for _ in range(2)] == ["reset"] * 2
        assert (await ask(upstream.port, "down-for-60@503", stream=True, x_down_mode="503")).status == 503
        assert (await ask(upstream.port, "down-for-60@1", stream=True, x_down_s=1)).end == "reset"
        now_s = 1.0
        assert (await ask(upstream.port, "down-for-60@1", stream=True)).healthy
        assert (await ask(upstream.port, "down-for-60", stream=True)).end == "reset"
        now_s = 60.0
        assert (await ask(upstream.port, "down-for-60", stream=True)).healthy
        assert [attempt.outcome for attempt in upstream.ledger.attempts].count("down") == 5


@on_asyncio
async def test_down_for_60_ends_when_told(upstream: FaultUpstream) -> None:
    assert (await ask(upstream.port, "down-for-60", stream=False)).end == "reset"
    await _post(upstream, "/_/down", {"model": "down-for-60", "up": True})
    assert (await ask(upstream.port, "down-for-60", stream=False)).healthy


@on_asyncio
@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize(
    ("model", "stream"),
    [
        ("never-answers", False),
        ("headers-then-silence", True),
        ("role-then-silence", True),
        ("stalled-after-40", True),
        ("pings-only", True),
        ("slow-drip", True),
        ("slow-drip", False),
        ("endless-event", True),
    ],
)
async def test_a_client_that_leaves_is_seen_at_once(
    upstream: FaultUpstream, model: str, stream: bool, how: str
) -> None:
    connection = socket.create_connection(("127.0.0.1", upstream.port))
    connection.sendall(request_bytes("POST", CHAT, {"model": model, "stream": stream}))
    with fail_after(5):
        while not upstream.ledger.attempts:
            await anyio.lowlevel.checkpoint()
    if how == "rst":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    left_at_s = time.monotonic()
    connection.close()
    attempt = upstream.ledger.attempts[0]
    await _ended(attempt)
    assert attempt.outcome == "client gone"
    assert attempt.ended_at_s is not None
    assert 0 <= attempt.ended_at_s - left_at_s < 1


@on_asyncio
async def test_nonsense_is_hung_up_on_and_nothing_else_breaks(upstream: FaultUpstream) -> None:
    async with raw_client(upstream.port) as client:
        await client.write(b"what?\r\n\r\n")
        assert (await client.read()).end == "eof"
    assert (await ask(upstream.port, "ok", stream=False)).healthy


@on_asyncio
async def test_a_request_in_chunks(upstream: FaultUpstream) -> None:
    async with raw_client(upstream.port) as client:
        await client.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        await client.write(b'5\r\n{"mod\r\n9;x=y\r\nel":"ok"}\r\n0\r\n\r\n')
        assert (await client.read()).text == TEXT


def test_in_a_process_of_its_own() -> None:
    with running_upstream() as upstream:
        with socket.create_connection(("127.0.0.1", upstream.port)) as connection:
            connection.sendall(request_bytes("POST", CHAT, {"model": "reset-before-headers"}))
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
        assert [attempt["outcome"] for attempt in upstream.attempts("reset-before-headers")] == ["broken off"]
        assert (upstream.attempts("ok"), upstream.probes(), upstream.canary_hits()) == ([], [], [])
        assert upstream.connections()["accepted"] == 1
        upstream.down("ok", seconds=60)
        upstream.up("ok")
        upstream.reset()
        assert upstream.attempts() == []


async def _get(upstream: FaultUpstream, path: str) -> Reply:
    async with raw_client(upstream.port) as client:
        return await client.request("GET", path)


async def _post(upstream: FaultUpstream, path: str, body: dict[str, Any]) -> None:
    async with raw_client(upstream.port) as client:
        assert (await client.request("POST", path, body)).status == 200


async def _ended(attempt: Attempt) -> None:
    with fail_after(5):
        while attempt.outcome == "running":
            await anyio.lowlevel.checkpoint()
