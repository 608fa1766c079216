"""Upstreams go on from where they are asked to, in their own way and in no other."""

from typing import Any

import orjson
import pytest
from faults.canonical import TEXT, USAGE
from faults.going_on import TOOL_ARGUMENTS
from faults.raw_client import Reply, raw_client
from faults.upstream import FaultUpstream

pytestmark = pytest.mark.anyio

VLLM = {"continue_final_message": True, "add_generation_prompt": False}


async def ask(upstream: FaultUpstream, model: str, begun: str = "", *, prefix: bool = False, **more: Any) -> Reply:
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Count."}]
    if begun:
        messages.append({"role": "assistant", "content": begun} | ({"prefix": True} if prefix else {}))
    body = {"model": model, "messages": messages, "stream": True, **more}
    async with raw_client(upstream.port) as client:
        return await client.request("POST", "/v1/chat/completions", body)


@pytest.mark.parametrize("begun", ["", TEXT[:6], TEXT[:100], TEXT[:-1], TEXT])
@pytest.mark.parametrize("model", ["ok-message", "ok-vllm", "ok-prefix", "ok-prefix-echoed"])
@pytest.mark.parametrize("stream", [True, False])
async def test_the_answer_goes_on_from_any_beginning(
    upstream: FaultUpstream, model: str, begun: str, stream: bool
) -> None:
    told: dict[str, Any] = {"prefix": model.startswith("ok-prefix")} | (VLLM if model == "ok-vllm" else {})
    reply = await ask(upstream, model, begun, stream=stream, stream_options={"include_usage": True}, **told)
    assert (reply.status, reply.end) == (200, "complete")
    assert reply.text == (TEXT if model.endswith("echoed") else TEXT.removeprefix(begun))
    usage = (reply.chunks[-1] if stream else orjson.loads(reply.body))["usage"]
    assert usage["prompt_tokens"] == USAGE["prompt_tokens"] + len(begun) // 6
    assert usage["completion_tokens"] == (len(TEXT) - len(begun) + 5) // 6
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


@pytest.mark.parametrize("begun", ["", TEXT[:6], TEXT[:100]])
async def test_a_prompt_goes_on_from_the_beginning_that_it_ends_with(upstream: FaultUpstream, begun: str) -> None:
    body = {"model": "ok-prompt", "prompt": f"Count. {begun}", "stream": True}
    async with raw_client(upstream.port) as client:
        reply = await client.request("POST", "/v1/completions", body)
    assert reply.text == TEXT.removeprefix(begun)


@pytest.mark.parametrize(
    ("model", "more"),
    [
        ("ok-message", {"begun": "Another beginning"}),
        ("ok-vllm", {"begun": TEXT[:6], "continue_final_message": True}),
        ("ok-prefix", {"begun": TEXT[:6]}),
        ("ok-prefix-echoed", {"begun": TEXT[:6]}),
        ("rejects-prefill", {"begun": TEXT[:6], "prefix": True, **VLLM}),
    ],
)
async def test_what_is_asked_in_another_way_is_refused(
    upstream: FaultUpstream, model: str, more: dict[str, Any]
) -> None:
    assert (await ask(upstream, model, **more)).status == 400


async def test_without_the_flag_vllm_begins_anew(upstream: FaultUpstream) -> None:
    assert (await ask(upstream, "ok-vllm", TEXT[:6])).text == TEXT


async def test_another_answer(upstream: FaultUpstream) -> None:
    text = (await ask(upstream, "diverges")).text
    assert text[: 20 * 6] == TEXT[: 20 * 6]
    assert text[20 * 6 :].startswith("alt20 ")
    assert len(text) == len(TEXT)


def called(reply: Reply) -> tuple[str, str, str]:
    calls = [call for chunk in reply.chunks for call in chunk["choices"][0]["delta"].get("tool_calls", [])]
    return calls[0]["id"], calls[0]["function"]["name"], "".join(call["function"]["arguments"] for call in calls)


async def test_calls(upstream: FaultUpstream) -> None:
    cut, whole, other = [await ask(upstream, model) for model in ("tools-cut", "tools-ok", "tools-diverge")]
    assert (cut.end, whole.end, other.end) == ("reset", "complete", "complete")
    identity, name, arguments = called(whole)
    assert (name, arguments) == ("weather", TOOL_ARGUMENTS)
    assert identity != called(cut)[0]
    assert TOOL_ARGUMENTS.startswith(called(cut)[2])
    assert not called(other)[2].startswith(called(cut)[2])
    assert orjson.loads(called(other)[2])


async def test_thoughts(upstream: FaultUpstream) -> None:
    cut, whole = [await ask(upstream, model) for model in ("reasoning-cut", "reasoning-ok")]
    thought = "".join(chunk["choices"][0]["delta"].get("reasoning_content") or "" for chunk in cut.chunks)
    again = "".join(chunk["choices"][0]["delta"].get("reasoning") or "" for chunk in whole.chunks)
    assert (cut.end, thought, again, whole.healthy) == ("reset", "hm, y", "hm, yes", True)


@pytest.mark.parametrize("end", [0, 1, 777])
async def test_a_body_is_cut_where_its_name_or_the_request_says(upstream: FaultUpstream, end: int) -> None:
    for reply in (await ask(upstream, f"cut-at-byte-{end}"), await ask(upstream, "cut-at-byte-", x_bytes=end)):
        assert (reply.end, len(reply.raw.partition(b"\r\n\r\n")[2])) == ("reset", end)
