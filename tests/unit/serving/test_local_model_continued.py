"""Answers of a LocalModel that go on from a text."""

from collections.abc import Iterable
from typing import Any

import pytest
from local_answers import IM_END, USER_HI, body_of, chat, chunks_of, completion, reason_of, text_of
from running import ManualClock
from scripted_engine import ScriptedEngine, said

from genkan.config import ModelDefaults
from genkan.engine.client import Capability
from genkan.engine.logprobs import TokenLogprobs
from genkan.errors import ContextTooLong, InvalidRequest, UnsupportedOption
from genkan.serving.local_model import LocalModel
from genkan.upstream.tokenizer import TextTokenizer

pytestmark = pytest.mark.anyio

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
CALL = '<tool_call>\n{"name": "weather", "arguments": {}}\n</tool_call>'
FORM = {"type": "json_object"}


def model_of(
    tokenizer: TextTokenizer, text: str = "", *, capabilities: Iterable[Capability] = Capability, **script: Any
) -> tuple[ScriptedEngine, LocalModel]:
    """A model that says ``text`` and ends its turn."""
    engine = ScriptedEngine(
        *[said([*tokenizer.encode(text), IM_END], **script)] * 2, capabilities=capabilities, max_model_len=256
    )
    model = LocalModel(engine, tokenizer, name="m", fingerprint="fp", defaults=ModelDefaults(), clock=ManualClock())
    return engine, model


async def test_the_engine_goes_on_from_prompt_and_text(tokenizer: TextTokenizer) -> None:
    engine, model = model_of(tokenizer, " of it.")
    body = await body_of(model, chat(continue_text="The end", max_tokens=20, min_tokens=5))
    assert body["choices"][0]["message"]["content"] == " of it."
    prompt, text = tokenizer.encode(tokenizer.render_chat([USER_HI])), tokenizer.encode("The end")
    [asked] = engine.asked
    assert asked.prompt_ids == prompt + text
    assert (asked.params.continued, asked.params.max_tokens, asked.params.min_tokens) == (len(text), 20 - len(text), 5)
    assert body["usage"]["prompt_tokens"] == len(prompt) + len(text)
    assert body["usage"]["completion_tokens"] == len(tokenizer.encode(" of it.")) + 1
    assert body["usage"]["prompt_tokens_details"] == {"cached_tokens": 0, "continued_tokens": len(text)}


async def test_without_a_text_nothing_is_said_of_one(tokenizer: TextTokenizer) -> None:
    engine, model = model_of(tokenizer, "Hi")
    body = await body_of(model, chat())
    assert "continued_tokens" not in body["usage"]["prompt_tokens_details"]
    assert engine.asked[0].params.continued == 0


@pytest.mark.parametrize("as_ids", [False, True])
async def test_a_completion_does_so_from_text_and_ids_alike(tokenizer: TextTokenizer, as_ids: bool) -> None:
    engine, model = model_of(tokenizer, " a time")
    ids = tokenizer.encode("Once")
    body = await body_of(model, completion(ids if as_ids else "Once", continue_text=" upon", max_tokens=9))
    assert body["choices"][0]["text"] == " a time"
    assert engine.asked[0].prompt_ids == tokenizer.encode("Once upon")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("max_tokens", [1, 2])
async def test_a_text_that_has_all_tokens_already_ends_at_once(
    tokenizer: TextTokenizer, max_tokens: int, stream: bool
) -> None:
    engine, model = model_of(tokenizer)
    request = chat(
        continue_text="The end",
        max_tokens=max_tokens,
        stream=stream,
        **({"stream_options": {"include_usage": True}} if stream else {}),
    )
    if stream:
        *chunks, usage = await chunks_of(model, request)
        assert (text_of(chunks), reason_of(chunks)) == ("", "length")
    else:
        usage = await body_of(model, request)
        assert (usage["choices"][0]["message"]["content"], usage["choices"][0]["finish_reason"]) == ("", "length")
    assert usage["usage"]["completion_tokens"] == 0
    assert usage["usage"]["prompt_tokens_details"]["continued_tokens"] == 2
    assert not engine.asked


async def test_the_window_holds_prompt_and_answer_and_the_text_is_the_answers(tokenizer: TextTokenizer) -> None:
    engine, model = model_of(tokenizer, "!")
    room = 256 - len(tokenizer.encode("Once"))
    with pytest.raises(ContextTooLong):
        await model.respond(completion(continue_text=" upon", max_tokens=room + 1))
    await body_of(model, completion(continue_text=" upon", max_tokens=room))
    assert engine.asked[0].params.max_tokens == room - 1


async def test_a_text_beyond_the_window_does_not_fit(tokenizer: TextTokenizer) -> None:
    engine, model = model_of(tokenizer)
    with pytest.raises(ContextTooLong):
        await model.respond(completion(continue_text=" upon" * 30_000))
    assert not engine.asked


async def test_a_stop_string_may_begin_in_the_text(tokenizer: TextTokenizer) -> None:
    _, model = model_of(tokenizer, " end, or not")
    body = await body_of(model, chat(continue_text="It is the", stop="the end"))
    assert (body["choices"][0]["message"]["content"], body["choices"][0]["finish_reason"]) == ("", "stop")


async def test_before_the_fewest_tokens_the_text_counts(tokenizer: TextTokenizer) -> None:
    _, model = model_of(tokenizer, " one two three")
    body = await body_of(model, chat(continue_text="It is", stop=" two", min_tokens=4))
    assert body["choices"][0]["message"]["content"] == " one two three"  # number 4
    _, model = model_of(tokenizer, " one two three")
    body = await body_of(model, chat(continue_text="It is", stop=" two", min_tokens=3))
    assert body["choices"][0]["message"]["content"] == " one"


async def test_log_probabilities_are_of_new_tokens_and_offsets_of_the_whole_answer(tokenizer: TextTokenizer) -> None:
    logprobs = [TokenLogprobs(-float(place), ()) for place in range(3)]
    _, model = model_of(tokenizer, " a time", logprobs=logprobs)
    body = await body_of(model, completion(continue_text=" upon", logprobs=0, max_tokens=9))
    assert body["choices"][0]["logprobs"]["text_offset"] == [5, 7]
    assert body["choices"][0]["logprobs"]["token_logprobs"] == [0.0, -1.0]


async def test_calls_are_found_after_a_text(tokenizer: TextTokenizer) -> None:
    engine, model = model_of(tokenizer, CALL)
    body = await body_of(model, chat(continue_text="I look. ", tools=[TOOL]))
    message = body["choices"][0]["message"]
    assert (message["content"], body["choices"][0]["finish_reason"]) == (None, "tool_calls")
    assert [call["function"]["name"] for call in message["tool_calls"]] == ["weather"]
    assert engine.asked[0].params.grammar is not None


async def test_text_after_a_text_is_not_doubled_though_tools_are_offered(tokenizer: TextTokenizer) -> None:
    _, model = model_of(tokenizer, "Now <tool")
    chunks = await chunks_of(model, chat(continue_text="I look.\n", tools=[TOOL], stream=True))
    assert text_of(chunks) == "Now <tool"


@pytest.mark.parametrize(
    "options",
    [
        {"response_format": FORM},
        {"tools": [TOOL], "tool_choice": "required"},
        {"presence_penalty": 1},
        {"frequency_penalty": 1},
    ],
)
async def test_an_engine_that_cannot_look_at_the_text_refuses_it_where_that_matters(
    tokenizer: TextTokenizer, options: dict[str, Any]
) -> None:
    _, model = model_of(tokenizer, "x", capabilities=set(Capability) - {Capability.CONTINUED_RULES})
    with pytest.raises(UnsupportedOption) as caught:
        await model.respond(chat(continue_text="{", **options))
    assert caught.value.param == "continue_text"
    await body_of(model, chat(continue_text="{", repetition_penalty=1.1, seed=3, min_tokens=1))


async def test_a_text_that_begins_nothing_is_refused_by_name(tokenizer: TextTokenizer) -> None:
    _, model = model_of(tokenizer)
    with pytest.raises(InvalidRequest) as caught:
        await model.respond(chat(continue_text=""))
    assert caught.value.param == "continue_text"


# Counting


async def test_a_prompt_is_counted_as_it_is_rendered_for_an_answer(tokenizer: TextTokenizer) -> None:
    engine, model = model_of(tokenizer, "!")
    for request in (
        chat(),
        chat(tools=[TOOL], tool_choice="none"),
        chat(continue_text="The end"),
        completion("Once upon"),
        completion([1, 2, 3]),
    ):
        counted = await model.count_tokens(request)
        engine, model = model_of(tokenizer, "!")
        body = await body_of(model, request)
        assert counted.count == body["usage"]["prompt_tokens"] == len(engine.asked[0].prompt_ids)
        assert counted.max_model_len == 256


async def test_several_prompts_are_counted_together(tokenizer: TextTokenizer) -> None:
    _, model = model_of(tokenizer)
    assert (await model.count_tokens(completion(["Once", "Once upon"]))).count == 3


async def test_of_a_prompt_far_beyond_the_window_the_rest_is_guessed(tokenizer: TextTokenizer) -> None:
    _, model = model_of(tokenizer)
    text = "The quick brown fox jumps over the lazy dog. " * 4000
    counted = await model.count_tokens(completion(text))
    assert counted.count == pytest.approx(len(tokenizer.encode(text)), rel=0.01)


async def test_what_could_not_be_answered_is_not_counted(tokenizer: TextTokenizer) -> None:
    _, model = model_of(tokenizer)
    image = {"type": "image_url", "image_url": {"url": "data:,"}}
    for wrong in (chat(messages=[{"role": "user", "content": [image]}]), completion([[1]] * 17), completion([1 << 20])):
        with pytest.raises(InvalidRequest):
            await model.count_tokens(wrong)
