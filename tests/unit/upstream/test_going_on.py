"""Whether a server with OpenAI's API can go on with an answer, and what it is sent then."""

from typing import Any

import orjson
import pytest
from faults.upstream import FaultUpstream
from upstream_calls import chat, openai_upstream

from genkan.upstream.base import Call, Continuation
from genkan.upstream.going_on import Prefill, beginning, continued, tokens_of, way_on
from genkan.wire.answers import AnswerStream
from genkan.wire.chat import ChatRequest, CompletionRequest
from genkan.wire.said import Said

pytestmark = pytest.mark.anyio

PREFILLS: list[Prefill] = ["message", "vllm", "prefix", "prefix-echoed"]
TOOL = {"type": "function", "function": {"name": "f"}}
ON = Continuation("prefill", "Hel", 3)


def said(*deltas: dict[str, Any]) -> Said:
    follower = AnswerStream(choices=1, show_usage=False)
    follower.take([orjson.dumps({"choices": [{"index": 0, "delta": delta}]}) for delta in deltas])
    assert follower.said is not None
    return follower.said


def text(*pieces: str) -> Said:
    return said(*({"content": piece} for piece in pieces))


def completion(**options: Any) -> CompletionRequest:
    return CompletionRequest.from_object({"model": "m", "prompt": "Once", "stream": True, **options})


HELLO = text("Hel", "lo")


@pytest.mark.parametrize("prefill", PREFILLS)
def test_a_chat_is_gone_on_with_by_prefill_where_the_server_is_declared_to_know_that(prefill: Prefill) -> None:
    assert way_on(chat(stream=True), HELLO, prefill) == "prefill"
    assert way_on(chat(stream=True), HELLO, "none") == "replay"


@pytest.mark.parametrize(
    "options",
    [
        {"tools": [TOOL]},
        {"tools": [TOOL], "tool_choice": "auto"},
        {"functions": [{"name": "f"}]},
        {"response_format": {"type": "json_object"}},
        {"structured_outputs": {"regex": "a+"}},
        {"guided_json": {}, "guided_regex": "a"},
        {"max_tokens": 2},
        {"max_completion_tokens": 2},
        {"stop": ["loud"]},
        {"stop": ["o!"]},
        {"echo": True},
        {"continue_final_message": False},
        {"add_generation_prompt": True},
        {"modalities": ["text", "audio"]},
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "He"}]},
    ],
)
def test_it_is_asked_for_anew_where_the_beginning_would_not_count(options: dict[str, Any]) -> None:
    assert way_on(chat(stream=True, **options), HELLO, "vllm") == "replay"


@pytest.mark.parametrize(
    "options",
    [
        {"tools": [TOOL], "tool_choice": "none"},
        {"tools": []},
        {"functions": [{"name": "f"}], "function_call": "none"},
        {"response_format": None},
        {"max_tokens": 3},
        {"stop": ["x", "ll"]},
    ],
)
def test_nor_does_what_changes_nothing_hinder_it(options: dict[str, Any]) -> None:
    assert way_on(chat(stream=True, **options), HELLO, "vllm") == "prefill"


@pytest.mark.parametrize(
    "deltas",
    [
        [{"role": "assistant"}],
        [{"content": "a"}, {"reasoning_content": "b"}],
        [{"content": "a"}, {"refusal": "b"}],
        [{"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}}]}],
        [{"content": "a"}, {"nobody_knows": "b"}],
    ],
)
def test_what_is_not_text_alone_is_asked_for_anew(deltas: list[dict[str, Any]]) -> None:
    assert way_on(chat(stream=True), said(*deltas), "vllm") == "replay"
    assert way_on(completion(), said(*deltas), "vllm") == "replay"


@pytest.mark.parametrize("pieces", [["\n\n"], ["<think>hm", "\n"], ["hm</think>", "So"]])
def test_nor_is_what_chat_templates_take_out_of_messages(pieces: list[str]) -> None:
    assert way_on(chat(stream=True), text(*pieces), "vllm") == "replay"
    assert way_on(completion(), text(*pieces), "vllm") == "prompt"


@pytest.mark.parametrize("space", [" ", "\n\n", " \u3000", "\xa0"])
def test_a_prefill_ends_with_no_space(space: str) -> None:
    assert beginning(text("Hel", "lo", space), "prefill") == Continuation("prefill", "Hello", 2)
    assert beginning(text("Hel", "lo", space), "prompt") == Continuation("prompt", f"Hello{space}", 3)
    assert beginning(text("Hello" + space), "prefill").tokens == 1


def test_a_text_completion_is_gone_on_with_by_its_prompt_anywhere() -> None:
    assert way_on(completion(), HELLO, "none") == "prompt"
    assert way_on(completion(prompt=["Once"]), HELLO, "none") == "prompt"
    assert way_on(completion(), HELLO, "none", takes_raw=False) == "replay"


@pytest.mark.parametrize(
    "options",
    [
        {"prompt": [1, 2, 3]},
        {"prompt": ["a", "b"]},
        {"echo": True},
        {"suffix": "end"},
        {"logprobs": 0},
        {"max_tokens": 2},
        {"stop": "low"},
        {"grammar": "root ::= 'a'"},
        {"truncate_prompt_tokens": 10},
    ],
)
def test_but_not_where_more_than_the_text_is_at_stake(options: dict[str, Any]) -> None:
    assert way_on(completion(**options), HELLO, "none") == "replay"


def sent(request: ChatRequest | CompletionRequest, prefill: Prefill, on: Continuation = ON) -> dict[str, Any]:
    return continued(dict(request.raw), request, on, prefill)


@pytest.mark.parametrize(
    ("prefill", "message", "flags"),
    [
        ("message", {}, {}),
        ("vllm", {}, {"continue_final_message": True, "add_generation_prompt": False}),
        ("prefix", {"prefix": True}, {}),
        ("prefix-echoed", {"prefix": True}, {}),
    ],
)
def test_the_beginning_is_the_last_message(prefill: Prefill, message: dict[str, Any], flags: dict[str, Any]) -> None:
    request = chat(stream=True)
    body = sent(request, prefill)
    assert body["messages"] == [*request.messages, {"role": "assistant", "content": "Hel", **message}]
    assert {name: body[name] for name in body if name not in request.raw} == flags
    assert len(request.raw["messages"]) == 1  # it is not changed


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_bounds_are_lessened_under_their_own_names(name: str) -> None:
    body = sent(chat(stream=True, **{name: 10}, min_tokens=2), "vllm")
    assert (body[name], body["min_tokens"]) == (7, 0)
    assert sent(chat(stream=True, **{name: 3}), "vllm")[name] == 1


@pytest.mark.parametrize("prompt", ["Once", ["Once"]])
def test_the_text_comes_after_the_prompt(prompt: Any) -> None:
    body = sent(completion(prompt=prompt, max_tokens=10), "none", Continuation("prompt", " upon", 1))
    assert (body["prompt"], body["max_tokens"]) == ("Once upon", 9)


@pytest.mark.parametrize(
    ("pieces", "tokens"), [(["Hel", "lo"], 2), (["Hello, my friends"], 4), (["a"], 1), (["ab"] * 9 + ["x" * 40], 10)]
)
def test_tokens_are_pieces_where_those_are_as_short(pieces: list[str], tokens: int) -> None:
    assert tokens_of(text(*pieces)) == tokens


async def test_it_reaches_the_server_with_a_bound_of_ours() -> None:
    async with FaultUpstream() as faults, openai_upstream(faults.base_url, prefill="vllm") as upstream:
        assert upstream.way_on(chat(stream=True), HELLO) == "prefill"
        call = Call(max_tokens=10, continuation=Continuation("prefill", "tok00 ", 1))
        answer = await upstream.respond(chat(stream=True), "ok-vllm", total_s=10, call=call)
        await answer.aclose()
        (attempt,) = faults.ledger.attempts
    assert attempt.body["messages"][-1] == {"role": "assistant", "content": "tok00 "}
    assert attempt.body["max_tokens" if "max_tokens" in attempt.body else "max_completion_tokens"] == 9
    assert not answer.repeats


@pytest.mark.parametrize(("prefill", "repeats"), [("prefix", False), ("prefix-echoed", True)])
async def test_an_answer_tells_whether_it_repeats_the_beginning(prefill: str, *, repeats: bool) -> None:
    async with FaultUpstream() as faults, openai_upstream(faults.base_url, prefill=prefill) as upstream:
        call = Call(continuation=Continuation("prefill", "tok00 ", 1))
        answer = await upstream.respond(chat(stream=True), f"ok-{prefill}", total_s=10, call=call)
        assert answer.repeats is repeats
        await answer.aclose()
        whole = await upstream.respond(chat(stream=True), f"ok-{prefill}", total_s=10)
        assert not whole.repeats
        await whole.aclose()
