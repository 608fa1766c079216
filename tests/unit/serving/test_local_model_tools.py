"""Tool calls of a LocalModel, as OpenAI's clients see them."""

import json
from typing import Any

import pytest
from local_answers import IM_END, USER_HI, body_of, chat, chunks_of, text_of
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from running import ManualClock
from scripted_engine import ScriptedEngine, said

from genkan.config import ModelDefaults
from genkan.engine.client import Capability
from genkan.errors import InvalidRequest, UnsupportedOption
from genkan.serving.local_model import LocalModel
from genkan.upstream.tokenizer import TextTokenizer

pytestmark = pytest.mark.anyio

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
NAMED = {"type": "function", "function": {"name": "weather"}}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Huế"}}\n</tool_call>'
TWO_CALLS = f"{CALL}\n{CALL.replace('Huế', '서울')}"
GRAMMARS = {Capability.JSON, Capability.REGEX, Capability.CHOICE, Capability.GRAMMAR}


def model_of(
    tokenizer: TextTokenizer, text: str, *, reason: Any = "stop", capabilities: Any = Capability
) -> tuple[ScriptedEngine, LocalModel]:
    """A model that says ``text``."""
    ids = tokenizer.encode(text)
    engine = ScriptedEngine(
        *[said([*ids, IM_END] if reason == "stop" else ids, reason)] * 2, capabilities=capabilities, max_model_len=4096
    )
    model = LocalModel(engine, tokenizer, name="m", fingerprint="fp", defaults=ModelDefaults(), clock=ManualClock())
    return engine, model


def calls_in(chunks: list[Any]) -> list[dict[str, str]]:
    """Put together as OpenAI's clients do it."""
    calls: list[dict[str, str]] = []
    for chunk in chunks:
        for choice in chunk["choices"]:
            for call in choice["delta"].get("tool_calls", ()):
                if "id" in call:
                    assert call["index"] == len(calls)
                    calls.append({"name": call["function"]["name"], "arguments": ""})
                calls[call["index"]]["arguments"] += call["function"]["arguments"]
    return calls


@pytest.mark.parametrize(
    ("text", "content", "cities"),
    [(CALL, None, ["Huế"]), (TWO_CALLS, None, ["Huế", "서울"]), ("I look.\n" + CALL, "I look.", ["Huế"])],
)
async def test_calls_are_given_whole_and_in_pieces_alike(
    tokenizer: TextTokenizer, text: str, content: str | None, cities: list[str]
) -> None:
    _, model = model_of(tokenizer, text)
    body = await body_of(model, chat(tools=[TOOL]))
    (choice,) = ChatCompletion.model_validate_json(json.dumps(body), strict=True).choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", content)
    assert choice.message.tool_calls is not None
    made = [(call.function.name, json.loads(call.function.arguments)) for call in choice.message.tool_calls]  # type: ignore[union-attr]  # they are of functions
    assert made == [("weather", {"city": city}) for city in cities]
    chunks = await chunks_of(model, chat(tools=[TOOL], stream=True))
    for chunk in chunks:
        ChatCompletionChunk.model_validate_json(json.dumps(chunk), strict=True)
    assert [(call["name"], json.loads(call["arguments"])) for call in calls_in(chunks)] == made
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks) == (content or "")
    assert chunks[-1]["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "tool_calls"}


async def test_an_answer_that_calls_nothing_ends_as_any_other(tokenizer: TextTokenizer) -> None:
    _, model = model_of(tokenizer, "It is warm.")
    (choice,) = (await body_of(model, chat(tools=[TOOL])))["choices"]
    assert choice["message"] == {"role": "assistant", "content": "It is warm.", "refusal": None}
    assert choice["finish_reason"] == "stop"
    assert text_of(await chunks_of(model, chat(tools=[TOOL], stream=True))) == "It is warm."


@pytest.mark.parametrize("choice", ["required", NAMED])
async def test_a_call_that_must_be_is_a_grammar_and_ends_for_the_call(tokenizer: TextTokenizer, choice: Any) -> None:
    engine, model = model_of(tokenizer, CALL)
    (found,) = (await body_of(model, chat(tools=[TOOL], tool_choice=choice)))["choices"]
    assert engine.asked[0].params.grammar is not None
    assert found["finish_reason"] == "tool_calls"
    assert found["message"]["tool_calls"][0]["function"]["name"] == "weather"


async def test_calls_one_at_a_time_are_one(tokenizer: TextTokenizer) -> None:
    _, model = model_of(tokenizer, TWO_CALLS)
    (choice,) = (await body_of(model, chat(tools=[TOOL], parallel_tool_calls=False)))["choices"]
    assert len(choice["message"]["tool_calls"]) == 1
    assert choice["finish_reason"] == "tool_calls"
    chunks = await chunks_of(model, chat(tools=[TOOL], parallel_tool_calls=False, stream=True))
    assert len(calls_in(chunks)) == 1


async def test_a_call_that_is_cut_off_ends_by_its_length(tokenizer: TextTokenizer) -> None:
    _, model = model_of(tokenizer, CALL[: CALL.index("Hu")], reason="length")
    (choice,) = (await body_of(model, chat(tools=[TOOL])))["choices"]
    assert choice["finish_reason"] == "length"
    assert choice["message"]["tool_calls"][0]["function"]["arguments"].startswith('{"city"')


async def test_what_was_called_and_what_came_of_it_reaches_the_model(tokenizer: TextTokenizer) -> None:
    engine, model = model_of(tokenizer, "Warm.")
    call = {"id": "call_1", **NAMED, "function": {"name": "weather", "arguments": '{"city":"Huế"}'}}
    messages = [
        USER_HI,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "31 degrees"},
    ]
    await body_of(model, chat(messages=messages, tools=[TOOL]))
    prompt = tokenizer.decode(engine.asked[0].prompt_ids)
    for part in ("weather", "Huế", "31 degrees"):
        assert part in prompt


async def test_without_grammars_tools_may_be_called_and_need_not(tokenizer: TextTokenizer) -> None:
    engine, model = model_of(tokenizer, CALL, capabilities=set(Capability) - GRAMMARS)
    (choice,) = (await body_of(model, chat(tools=[TOOL])))["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert engine.asked[0].params.grammar is None
    for must in ("required", NAMED):
        with pytest.raises(UnsupportedOption) as caught:
            await model.respond(chat(tools=[TOOL], tool_choice=must))
        assert caught.value.param == "tool_choice"


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [TOOL] * 129}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": "weather"}, "tool_choice"),
        ({"messages": [USER_HI, {"role": "tool", "content": "31"}]}, "messages[1].tool_call_id"),
    ],
)
async def test_wrong_tools_are_refused_by_name(tokenizer: TextTokenizer, options: dict[str, Any], param: str) -> None:
    engine, model = model_of(tokenizer, "x")
    with pytest.raises(InvalidRequest) as caught:
        await model.respond(chat(**options))
    assert (caught.value.param, caught.value.status) == (param, 400)
    assert engine.asked == []
