"""Harmless upstreams give the whole answer, each in its own unusual way."""

from typing import Any

import orjson
import pytest
from faults.canonical import TEXT, USAGE
from faults.catalogue import HARMLESS, STREAM_ONLY, WHOLE_ONLY
from faults.raw_client import KEY, ask
from faults.upstream import FaultUpstream

pytestmark = pytest.mark.anyio

#: Their events are looked at below, since the raw client reads only what is written as OpenAI writes it.
WRITTEN_OTHERWISE = {"crlf-events", "bom-first", "multi-line-data", "event-and-id-lines"}
#: These never end, say no [DONE], say more after it, or call a tool.
ENDING_OTHERWISE = {"no-done", "open-after-done", "data-after-done", "tool-calls", "json-for-stream"}
USAGE_ASKED: dict[str, Any] = {"stream_options": {"include_usage": True}}


@pytest.mark.parametrize("model", sorted(HARMLESS - WRITTEN_OTHERWISE - ENDING_OTHERWISE))
async def test_harmless_streams(upstream: FaultUpstream, model: str) -> None:
    assert (await ask(upstream.port, model, stream=True, x_delay_ms=0.1)).healthy
    assert upstream.ledger.attempts[0].tokens == 60


@pytest.mark.parametrize("model", sorted((HARMLESS | STREAM_ONLY) - WHOLE_ONLY - {"tool-calls"}))
async def test_harmless_whole_answers(upstream: FaultUpstream, model: str) -> None:
    """A fault of streams is none for those who do not stream."""
    assert (await ask(upstream.port, model, stream=False, x_delay_ms=0.1)).healthy


@pytest.mark.parametrize("model", sorted(WHOLE_ONLY))
async def test_faults_of_whole_answers_stream_well(upstream: FaultUpstream, model: str) -> None:
    assert (await ask(upstream.port, model, stream=True)).healthy


async def test_tool_calls(upstream: FaultUpstream) -> None:
    streamed = await ask(upstream.port, "tool-calls", stream=True)
    whole = orjson.loads((await ask(upstream.port, "tool-calls", stream=False)).body)["choices"][0]
    calls = [call for chunk in streamed.chunks for call in chunk["choices"][0]["delta"].get("tool_calls", [])]
    arguments = "".join(call["function"]["arguments"] for call in calls)
    assert arguments == whole["message"]["tool_calls"][0]["function"]["arguments"] == '{"city": "Paris"}'
    assert streamed.chunks[-1]["choices"][0]["finish_reason"] == whole["finish_reason"] == "tool_calls"


async def test_reasoning_comes_first(upstream: FaultUpstream) -> None:
    reply = await ask(upstream.port, "reasoning", stream=True)
    thoughts = [chunk["choices"][0]["delta"].get("reasoning_content") for chunk in reply.chunks]
    assert thoughts[:4] == [None, "hm, ", "yes", None]


async def test_first_events(upstream: FaultUpstream) -> None:
    comments = await ask(upstream.port, "comments-first", stream=True)
    choiceless = await ask(upstream.port, "choiceless-first", stream=True)
    assert comments.body.startswith(b": OPENROUTER PROCESSING\n\n")
    assert choiceless.chunks[0]["choices"] == []


@pytest.mark.parametrize("model", ["usage-missing", "usage-null", "usage-absurd", "usage-in-finish"])
async def test_usage_in_streams(upstream: FaultUpstream, model: str) -> None:
    reply = await ask(upstream.port, model, stream=True, **USAGE_ASKED)
    reported = [chunk["usage"] for chunk in reply.chunks if chunk["usage"]]
    alone = [chunk for chunk in reply.chunks if not chunk["choices"]]
    assert len(alone) == (model in ("usage-null", "usage-absurd"))
    if model == "usage-absurd":
        assert reported[0]["prompt_tokens"] < 0
    else:
        assert reported == ([USAGE] if model == "usage-in-finish" else [])


async def test_usage_in_whole_answers(upstream: FaultUpstream) -> None:
    missing = await ask(upstream.port, "usage-missing", stream=False)
    null = await ask(upstream.port, "usage-null", stream=False)
    absurd = await ask(upstream.port, "usage-absurd", stream=False)
    assert "usage" not in orjson.loads(missing.body)
    assert orjson.loads(null.body)["usage"] is None
    assert orjson.loads(absurd.body)["usage"]["completion_tokens"] == 10**15


@pytest.mark.parametrize("stream", [False, True])
async def test_wrong_content_type(upstream: FaultUpstream, stream: bool) -> None:
    reply = await ask(upstream.port, "wrong-content-type", stream=stream)
    assert reply.headers["content-type"] == "text/plain"


async def test_duplicate_chunks(upstream: FaultUpstream) -> None:
    reply = await ask(upstream.port, "duplicate-chunks", stream=True, **USAGE_ASKED)
    *_, finish, again, usage, usage_again = reply.chunks
    assert (finish, usage) == (again, usage_again)
    assert finish["choices"][0]["finish_reason"] == "stop"
    assert usage["usage"] == USAGE


async def test_after_done(upstream: FaultUpstream) -> None:
    more = await ask(upstream.port, "data-after-done", stream=True)
    still_open = await ask(upstream.port, "open-after-done", stream=True, quiet_s=0.3)
    assert more.text == TEXT + TEXT[: 3 * 6]
    assert more.data[-4] == b"[DONE]"
    assert (still_open.text, still_open.data[-1], still_open.end) == (TEXT, b"[DONE]", "silence")


async def test_events_written_otherwise(upstream: FaultUpstream) -> None:
    bodies = {model: (await ask(upstream.port, model, stream=True)).body for model in WRITTEN_OTHERWISE}
    assert all(body.count(b'tok59 "') == 1 and b"data: [DONE]" in body for body in bodies.values())
    assert bodies["crlf-events"].count(b"\n") == bodies["crlf-events"].count(b"\r\n") > 60
    assert bodies["bom-first"].startswith(b"\xef\xbb\xbfdata: ")
    assert b'data: {\ndata:   "id": "chatcmpl-fault",\n' in bodies["multi-line-data"]
    assert bodies["event-and-id-lines"].startswith(b"retry: 3000\n\nevent: ping\n\n")
    assert b"\nevent: message\nid: 59\ndata: {" in bodies["event-and-id-lines"]


async def test_split_events(upstream: FaultUpstream) -> None:
    reply = await ask(upstream.port, "split-events", stream=True)
    assert reply.raw.count(b"\r\n7\r\n") > 1000


@pytest.mark.parametrize("stream", [False, True])
async def test_the_key_in_a_header(upstream: FaultUpstream, stream: bool) -> None:
    reply = await ask(upstream.port, "echo-key-header", stream=stream)
    assert reply.headers["x-debug-authorization"] == f"Bearer {KEY}"


async def test_slow_answers_take_their_time(upstream: FaultUpstream) -> None:
    for stream in (True, False):
        assert (await ask(upstream.port, "slow-drip", stream=stream, x_delay_ms=2)).healthy
    for attempt in upstream.ledger.attempts:
        assert attempt.ended_at_s is not None
        assert attempt.ended_at_s - attempt.began_at_s >= 60 * 0.002
