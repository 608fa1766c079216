"""Tool calls of the default model, whose template knows none, through OpenAI's own client."""

import json
from collections.abc import Generator
from typing import Any

import httpx
import openai
import pytest
from e2e.fresh_answers import FreshAnswers
from e2e.live_server import LiveServer
from openai.types.chat import (
    ChatCompletionMessageFunctionToolCall,
    ChatCompletionMessageParam,
    ChatCompletionToolUnionParam,
)
from pydantic import BaseModel, Field

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What is the weather in Hà Nội?"}]
UNITS = ["celsius", "fahrenheit"]
WEATHER: ChatCompletionToolUnionParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Thời tiết hiện tại của một thành phố",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 12}, "unit": {"enum": UNITS}},
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
}
TIME: ChatCompletionToolUnionParam = {
    "type": "function",
    "function": {
        "name": "get_time",
        "parameters": {
            "type": "object",
            "properties": {"zone": {"enum": ["UTC", "KST"]}},
            "required": ["zone"],
            "additionalProperties": False,
        },
    },
}


class Booking(BaseModel):
    """Book a table."""

    name: str = Field(max_length=12)
    guests: int = Field(ge=1, le=9)


@pytest.fixture
def sdk(server: LiveServer) -> Generator[openai.OpenAI, None, None]:
    """OpenAI's client, for answers that the engine has just given."""
    with openai.OpenAI(
        base_url=f"{server.base_url}/v1",
        api_key="unused",
        max_retries=0,
        timeout=60,
        http_client=httpx.Client(transport=FreshAnswers()),  # type: ignore[arg-type]  # it takes ours as well as its own
    ) as client:
        yield client


def asked(**options: Any) -> dict[str, Any]:
    return {
        "model": "default",
        "messages": MESSAGES,
        "tools": [WEATHER, TIME],
        "max_tokens": 90,
        "temperature": 1,
        "seed": 11,
        **options,
    }


def calls_of(message: Any) -> list[ChatCompletionMessageFunctionToolCall]:
    calls = message.tool_calls or []
    assert all(isinstance(call, ChatCompletionMessageFunctionToolCall) for call in calls)
    return list(calls)


def check(call: ChatCompletionMessageFunctionToolCall) -> None:
    """It is of a tool that was offered, by that tool's schema."""
    arguments = json.loads(call.function.arguments)
    assert call.id.startswith("call_")
    assert call.type == "function"
    if call.function.name == "get_time":
        assert arguments["zone"] in ("UTC", "KST")
        assert len(arguments) == 1
    else:
        assert call.function.name == "get_weather"
        assert arguments.keys() == {"city", "unit"}
        assert len(arguments["city"]) <= 12
        assert arguments["unit"] in UNITS


NAMED = {"type": "function", "function": {"name": "get_time"}}


@pytest.mark.parametrize("choice", ["required", NAMED], ids=["required", "named"])
def test_a_call_that_must_be_made_is_made_by_its_schema(sdk: openai.OpenAI, choice: Any) -> None:
    (answer,) = sdk.chat.completions.create(**asked(tool_choice=choice, parallel_tool_calls=False)).choices
    (call,) = calls_of(answer.message)
    check(call)
    assert answer.finish_reason == "tool_calls"
    assert answer.message.content is None
    if choice == NAMED:
        assert call.function.name == "get_time"


@pytest.mark.parametrize("choice", ["none", "auto"])
def test_without_a_call_an_answer_is_text(sdk: openai.OpenAI, choice: str) -> None:
    (answer,) = sdk.chat.completions.create(**asked(tool_choice=choice, max_tokens=12)).choices
    assert answer.message.tool_calls is None  # 12 tokens are too few for one
    assert answer.message.content
    assert answer.finish_reason in ("stop", "length")


def test_streamed_calls_are_those_of_a_whole_answer(sdk: openai.OpenAI) -> None:
    options = asked(tool_choice="required", n=2, logprobs=True, parallel_tool_calls=False)
    whole = sdk.chat.completions.create(**options)
    names: dict[int, str] = {}
    arguments = {0: "", 1: ""}
    reasons: dict[int, str] = {}
    scored = {0: 0, 1: 0}
    usage = None
    for chunk in sdk.chat.completions.create(**options, stream=True, stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            for call in choice.delta.tool_calls or []:
                assert call.index == 0
                assert call.function is not None
                if call.id is not None:  # the call's first delta, and no other
                    assert choice.index not in names
                    assert (call.type, call.function.arguments) == ("function", "")
                    names[choice.index] = call.function.name or ""
                arguments[choice.index] += call.function.arguments or ""
            if choice.logprobs is not None:
                scored[choice.index] += len(choice.logprobs.content or [])
            if choice.finish_reason is not None:
                assert choice.index not in reasons
                reasons[choice.index] = choice.finish_reason
    assert usage is not None
    assert whole.usage is not None
    assert usage.completion_tokens == whole.usage.completion_tokens
    for answer in whole.choices:
        (call,) = calls_of(answer.message)
        check(call)
        assert (names[answer.index], arguments[answer.index]) == (call.function.name, call.function.arguments)
        assert reasons[answer.index] == answer.finish_reason == "tool_calls"
        assert answer.logprobs is not None
        assert scored[answer.index] == len(answer.logprobs.content or [])


def test_the_sdks_own_helpers_read_calls(sdk: openai.OpenAI) -> None:
    tools = [openai.pydantic_function_tool(Booking)]
    options = asked(tools=tools, tool_choice="required", parallel_tool_calls=False)
    parsed = sdk.chat.completions.parse(**options)
    with sdk.chat.completions.stream(**options) as events:
        told = [event for event in events if event.type == "tool_calls.function.arguments.done"]
        final = events.get_final_completion()
    (event,) = told
    assert isinstance(event.parsed_arguments, Booking)
    for completion in (parsed, final):
        (call,) = completion.choices[0].message.tool_calls or []
        assert call.function.parsed_arguments == event.parsed_arguments


def test_a_conversation_goes_on_with_what_a_tool_returned(sdk: openai.OpenAI) -> None:
    first = sdk.chat.completions.create(**asked(tool_choice="required", parallel_tool_calls=False))
    said = first.choices[0].message
    (call,) = calls_of(said)
    result: ChatCompletionMessageParam = {"role": "tool", "tool_call_id": call.id, "content": "맑음, 25 °C"}
    history = [*MESSAGES, said.to_dict(), result]
    answer = sdk.chat.completions.create(**asked(messages=history, tool_choice="none", max_tokens=8))
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert first.usage is not None
    assert answer.usage.prompt_tokens > first.usage.prompt_tokens
    # The tools come first in the prompt, so the turn before is found again.
    assert answer.usage.prompt_tokens_details is not None
    assert (answer.usage.prompt_tokens_details.cached_tokens or 0) >= first.usage.prompt_tokens // 2


def test_calls_and_a_form_of_the_answer_stand_side_by_side(sdk: openai.OpenAI) -> None:
    options = asked(response_format={"type": "json_object"}, tool_choice="auto", n=4, max_tokens=120)
    for choice in sdk.chat.completions.create(**options).choices:
        for call in calls_of(choice.message):
            if choice.finish_reason == "tool_calls":
                check(call)
        if choice.finish_reason == "stop":
            assert isinstance(json.loads(choice.message.content or ""), dict)


@pytest.mark.parametrize("limit", [1, 4, 14, 24])
def test_a_call_that_is_cut_off_says_so(sdk: openai.OpenAI, limit: int) -> None:
    (answer,) = sdk.chat.completions.create(
        **asked(tool_choice="required", max_tokens=limit, parallel_tool_calls=False)
    ).choices
    if answer.finish_reason == "tool_calls":
        check(calls_of(answer.message)[0])
    else:
        assert answer.finish_reason == "length"
        assert answer.message.content or answer.message.tool_calls


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_calls_are_never_stored(server: LiveServer, stream: bool) -> None:
    body = asked(tool_choice="required", parallel_tool_calls=False, temperature=0, stream=stream)
    with httpx.Client(base_url=server.base_url, timeout=60) as http:
        responses = [http.post("/v1/chat/completions", json=body).raise_for_status() for _ in range(2)]
    assert [response.headers["x-genkan-cache"] for response in responses] == ["miss", "miss"]
    assert all('"tool_calls"' in response.text for response in responses)


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"tools": [], "tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "no"}}}, "tool_choice.function.name"),
        ({"tools": [WEATHER, WEATHER]}, "tools[1].function.name"),
        ({"tools": [WEATHER] * 129}, "tools"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"messages": [*MESSAGES, {"role": "tool", "tool_call_id": "x", "content": "y"}]}, "messages[1].tool_call_id"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_cannot_be_is_refused_by_name(sdk: openai.OpenAI, options: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.chat.completions.create(**asked(), extra_body=options)
    assert caught.value.param == param
