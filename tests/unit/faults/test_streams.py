"""Streams stop, stall and lie as the fault's name says."""

import orjson
import pytest
from faults.canonical import TEXT
from faults.raw_client import KEY, End, ask
from faults.streams import HUGE_EVENT_BYTES
from faults.upstream import FaultUpstream

pytestmark = pytest.mark.anyio

AFTER_40 = TEXT[: 40 * 6]


@pytest.mark.parametrize(
    ("model", "end"),
    [
        ("cut-after-40", "reset"),
        ("eof-after-40", "complete"),
        ("incomplete-chunked-after-40", "eof"),
        ("done-no-finish", "complete"),
    ],
)
async def test_ends_after_40(upstream: FaultUpstream, model: str, end: End) -> None:
    reply = await ask(upstream.port, model, stream=True)
    tokens = b"".join(line + b"\n\n" for line in reply.body.splitlines() if b"tok" in line)
    assert tokens.count(b"data: ") == 40
    assert AFTER_40.encode().split()[-1] in tokens
    assert (reply.status, reply.end) == (200, end)
    assert b'"finish_reason":"' not in reply.body
    assert (reply.data[-1] == b"[DONE]") is (model == "done-no-finish")
    assert upstream.ledger.attempts[0].tokens == 40


@pytest.mark.parametrize(("model", "end"), [("cut-after-40", "reset"), ("stalled-after-40", "silence")])
async def test_whole_answers_stop_after_40(upstream: FaultUpstream, model: str, end: End) -> None:
    reply = await ask(upstream.port, model, stream=False, quiet_s=0.3)
    assert (reply.status, reply.end) == (200, end)
    assert reply.body.endswith(b"tok39 ")
    assert len(reply.body) < int(reply.headers["content-length"])


async def test_stalled(upstream: FaultUpstream) -> None:
    reply = await ask(upstream.port, "stalled-after-40", stream=True, quiet_s=0.3)
    assert (reply.text, reply.end) == (AFTER_40, "silence")


async def test_role_then_silence(upstream: FaultUpstream) -> None:
    reply = await ask(upstream.port, "role-then-silence", stream=True, quiet_s=0.3)
    assert [chunk["choices"][0]["delta"]["role"] for chunk in reply.chunks] == ["assistant"]
    assert reply.end == "silence"


@pytest.mark.parametrize(("model", "text"), [("pings-only", ""), ("pings-only-after-40", AFTER_40)])
async def test_pings_only(upstream: FaultUpstream, model: str, text: str) -> None:
    reply = await ask(upstream.port, model, stream=True, enough_bytes=30_000, x_ping_ms=0.01)
    assert reply.text == text
    assert reply.body.count(b": ping\n\n") > 50


@pytest.mark.parametrize(
    ("model", "tokens", "done"),
    [
        ("error-event-first", 0, False),
        ("error-event-after-40", 40, False),
        ("error-event-done-after-40", 40, True),
        ("named-error-event-after-40", 40, False),
        ("echo-key-event", 40, False),
    ],
)
async def test_error_events(upstream: FaultUpstream, model: str, tokens: int, done: bool) -> None:
    reply = await ask(upstream.port, model, stream=True)
    *before, error = reply.chunks
    assert (reply.status, reply.end) == (200, "complete")
    assert sum(chunk["choices"][0]["delta"]["content"] != "" for chunk in before) == tokens
    assert "message" in error["error"]
    assert (reply.data[-1] == b"[DONE]") is done
    assert (b"event: error\n" in reply.body) is model.startswith("named")
    assert (KEY in error["error"]["message"]) is model.startswith("echo")


@pytest.mark.parametrize(("model", "place"), [("invalid-json-first", 0), ("invalid-json-event", 10)])
async def test_invalid_json(upstream: FaultUpstream, model: str, place: int) -> None:
    reply = await ask(upstream.port, model, stream=True)
    bad = [number for number, line in enumerate(reply.data[:-1]) if not _is_json(line)]
    assert bad == [place]
    assert reply.data[-1] == b"[DONE]"


async def test_invalid_json_in_a_whole_answer(upstream: FaultUpstream) -> None:
    assert not _is_json((await ask(upstream.port, "invalid-json-first", stream=False)).body)


@pytest.mark.parametrize("stream", [False, True])
async def test_invalid_utf8(upstream: FaultUpstream, stream: bool) -> None:
    reply = await ask(upstream.port, "invalid-utf8-event", stream=stream)
    with pytest.raises(UnicodeDecodeError):
        reply.body.decode()


@pytest.mark.parametrize(("model", "reason"), [("no-done", "stop"), ("no-done-no-finish", None)])
async def test_no_done(upstream: FaultUpstream, model: str, reason: str | None) -> None:
    reply = await ask(upstream.port, model, stream=True)
    assert (reply.text, reply.end) == (TEXT, "complete")
    assert reply.chunks[-1]["choices"][0]["finish_reason"] == reason
    assert b"[DONE]" not in reply.body
    assert reply.headers["connection"] == "close"


async def test_done_only(upstream: FaultUpstream) -> None:
    assert (await ask(upstream.port, "done-only", stream=True)).data == [b"[DONE]"]


async def test_out_of_order(upstream: FaultUpstream) -> None:
    reply = await ask(upstream.port, "out-of-order", stream=True)
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in reply.chunks]
    assert reasons.index("stop") == len(reasons) - 11
    assert reply.text == TEXT


async def test_wrong_index(upstream: FaultUpstream) -> None:
    streamed = await ask(upstream.port, "wrong-index", stream=True)
    whole = await ask(upstream.port, "wrong-index", stream=False)
    assert [chunk["choices"][0]["index"] for chunk in streamed.chunks].count(7) == 1
    assert orjson.loads(whole.body)["choices"][0]["index"] == 7


async def test_huge_event(upstream: FaultUpstream) -> None:
    reply = await ask(upstream.port, "huge-event", stream=True)
    assert max(map(len, reply.data)) > HUGE_EVENT_BYTES
    assert reply.healthy


@pytest.mark.parametrize(
    ("model", "stream"), [("endless-event", False), ("endless-event", True), ("endless-tokens", True)]
)
async def test_endless(upstream: FaultUpstream, model: str, stream: bool) -> None:
    enough_bytes = 500_000 if model == "endless-tokens" else 3_000_000
    reply = await ask(upstream.port, model, stream=stream, enough_bytes=enough_bytes)
    assert len(reply.body) >= enough_bytes
    assert (len(reply.data) > 1000) is (model == "endless-tokens")


def _is_json(data: bytes) -> bool:
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError:
        return False
    return True
