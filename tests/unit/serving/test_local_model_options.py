"""Output options of a LocalModel: several answers and prompts, log probabilities, echo, priorities, capabilities."""

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import pytest
from fakes import WAIT_S, Changes, FakeRunner
from local_answers import (
    IM_END,
    WINDOW,
    MakeModel,
    Says,
    body_of,
    chat,
    chunks_of,
    completion,
    rest_of,
    runner_of,
    text_of,
)
from running import ManualClock
from scripted_engine import ScriptedEngine, in_turn, said

from genkan.config import ModelDefaults
from genkan.engine.client import Capability, EngineClient
from genkan.errors import EngineFailed, InvalidRequest, UnsupportedOption
from genkan.serving.local_model import LocalModel
from genkan.upstream.tokenizer import TextTokenizer

pytestmark = pytest.mark.anyio
USAGE = {"stream_options": {"include_usage": True}}


def model_of(engine: EngineClient, tokenizer: TextTokenizer) -> LocalModel:
    return LocalModel(engine, tokenizer, name="m", fingerprint="fp", defaults=ModelDefaults(), clock=ManualClock())


def texts(body: Any) -> list[str]:
    return [choice["text"] if "text" in choice else choice["message"]["content"] for choice in body["choices"]]


def by_answer(chunks: Iterable[Any]) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            found.setdefault(choice["index"], []).append({**chunk, "choices": [choice]})
    return found


# Several answers


async def test_several_answers_are_choices_by_index(make_model: MakeModel, says: Says) -> None:
    body = await body_of(make_model(says("Hello there!")), chat(n=8))
    assert [choice["index"] for choice in body["choices"]] == list(range(8))
    assert texts(body) == ["Hello there!"] * 8
    usage = body["usage"]
    assert usage["completion_tokens"] == 8 * 4
    assert usage["prompt_tokens"] == (await body_of(make_model(says("x")), chat()))["usage"]["prompt_tokens"]


async def test_several_answers_are_streamed_side_by_side(tokenizer: TextTokenizer) -> None:
    answers = [said([*tokenizer.encode(text), IM_END], answer=place) for place, text in enumerate(["a b c", "d e"])]
    model = model_of(ScriptedEngine(in_turn(*answers)), tokenizer)
    chunks = await chunks_of(model, chat(n=2, stream=True, **USAGE))
    assert [chunk["choices"][0]["index"] for chunk in chunks[:-1]] == [0, 0, 1, 1, 0, 1, 0, 1, 0]
    assert {index: text_of(found) for index, found in by_answer(chunks).items()} == {0: "a b c", 1: "d e"}
    assert chunks[-1]["usage"]["completion_tokens"] == 7
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * 9


async def test_an_answer_that_a_stop_string_ends_leaves_the_others_alone(tokenizer: TextTokenizer) -> None:
    answers = [said([*tokenizer.encode(text), IM_END], answer=place) for place, text in enumerate(["a b c", "d e f"])]
    body = await body_of(model_of(ScriptedEngine(in_turn(*answers)), tokenizer), completion(n=2, stop=" b"))
    assert texts(body) == ["a", "d e f"]
    assert body["usage"]["completion_tokens"] == 2 + 4


async def test_best_of_as_many_as_are_shown_is_all_of_them(make_model: MakeModel, says: Says) -> None:
    assert texts(await body_of(make_model(says("Hi")), completion(n=2, best_of=2))) == ["Hi", "Hi"]


# Several prompts


async def test_the_answers_to_several_prompts_come_prompt_by_prompt(
    tokenizer: TextTokenizer,
) -> None:
    def both(first: str, second: str) -> list[Any]:
        return in_turn(*(said(tokenizer.encode(text), answer=place) for place, text in enumerate((first, second))))

    engine = ScriptedEngine(both("a b", "c"), both("d", "e f"))
    body = await body_of(model_of(engine, tokenizer), completion(["one", "two three"], n=2))
    assert texts(body) == ["a b", "c", "d", "e f"]
    assert [asked.prompt_ids for asked in engine.asked] == [tokenizer.encode("one"), tokenizer.encode("two three")]
    assert body["usage"]["prompt_tokens"] == 1 + 2
    assert body["usage"]["completion_tokens"] == 6


@pytest.mark.parametrize("prompt", [["a", "b"], [[10, 20], [30]]])
@pytest.mark.parametrize("stream", [False, True])
async def test_several_prompts_run_together(make_model: MakeModel, says: Says, prompt: Any, stream: bool) -> None:
    runner = says("Hello")
    model = make_model(runner)
    if stream:
        found = by_answer(await chunks_of(model, completion(prompt, stream=True)))
        assert {index: text_of(chunks) for index, chunks in found.items()} == {0: "Hello", 1: "Hello"}
    else:
        assert texts(await body_of(model, completion(prompt))) == ["Hello", "Hello"]
    assert max(len(items) for items in runner.calls) == 2


async def test_prompts_of_unlike_lengths_each_get_what_room_there_is(tokenizer: TextTokenizer) -> None:
    engine = ScriptedEngine(said([20]), said([20]))
    await body_of(model_of(engine, tokenizer), completion([[10] * 100, [10] * 5]))
    assert [asked.params.max_tokens for asked in engine.asked] == [28, 123]


# Log probabilities


async def test_a_chat_has_the_log_probabilities_that_it_asked_for(make_model: MakeModel, says: Says) -> None:
    model = make_model(says("Hello there!"))
    (choice,) = (await body_of(model, chat(logprobs=True, top_logprobs=2)))["choices"]
    content = choice["logprobs"]["content"]
    assert [entry["token"] for entry in content] == ["Hello", " there", "!"]  # not the end of the turn
    assert [entry["logprob"] for entry in content] == [0.0] * 3  # the fake model is sure
    assert [entry["top_logprobs"][0]["token"] for entry in content] == ["Hello", " there", "!"]
    assert {len(entry["top_logprobs"]) for entry in content} == {2}
    assert bytes(byte for entry in content for byte in entry["bytes"]).decode() == "Hello there!"


@pytest.mark.parametrize("stop", [None, "re", "there, moon"])
async def test_a_stream_has_the_same_log_probabilities(make_model: MakeModel, says: Says, stop: str | None) -> None:
    model = make_model(says("Hello there, world!"))
    options: dict[str, Any] = {"logprobs": True, "top_logprobs": 1, "stop": stop}
    whole = (await body_of(model, chat(**options)))["choices"][0]["logprobs"]["content"]
    chunks = await chunks_of(model, chat(stream=True, **options))
    parts = [chunk["choices"][0]["logprobs"] for chunk in chunks]
    assert [entry for part in parts if part is not None for entry in part["content"]] == whole
    assert parts[-1] is None


async def test_a_completion_has_them_in_lists(make_model: MakeModel, says: Says) -> None:
    model = make_model(says(" upon a time"))
    (choice,) = (await body_of(model, completion("Once", logprobs=0)))["choices"]
    assert choice["logprobs"] == {
        "tokens": [" upon", " a", " time"],
        "token_logprobs": [0.0] * 3,
        "top_logprobs": [{" upon": 0.0}, {" a": 0.0}, {" time": 0.0}],
        "text_offset": [0, 5, 7],
    }


async def test_many_log_probabilities_are_the_same(make_model: MakeModel, tokenizer: TextTokenizer) -> None:
    """So many that they are written beside the event loop."""
    (word,) = tokenizer.encode(" a")
    model = make_model(FakeRunner(lambda _: word, vocab_size=49_152, max_model_len=WINDOW))
    (choice,) = (await body_of(model, completion([10], logprobs=20, max_tokens=100)))["choices"]
    assert choice["logprobs"]["tokens"] == [" a"] * 100
    assert {len(top) for top in choice["logprobs"]["top_logprobs"]} == {20}


# Echo


async def test_an_echo_begins_with_the_prompt(make_model: MakeModel, says: Says) -> None:
    model = make_model(says(" upon a time"))
    body = await body_of(model, completion("Once", echo=True, n=2))
    assert texts(body) == ["Once upon a time"] * 2
    found = by_answer(await chunks_of(model, completion("Once", echo=True, n=2, stream=True)))
    assert {index: text_of(chunks) for index, chunks in found.items()} == dict.fromkeys((0, 1), "Once upon a time")


async def test_an_echo_of_which_nothing_can_be_shown_sends_nothing_until_there_is_text(
    make_model: MakeModel, tokenizer: TextTokenizer
) -> None:
    first, *_ = tokenizer.encode("한")  # the first byte of three
    assert tokenizer.text_stream().push(first) == ""
    answer = await make_model(runner_of([first, first, IM_END])).respond(completion([1, 2], echo=True, stream=True))
    assert answer.batches is not None
    batches = [batch async for batch in answer.batches]
    await answer.aclose()
    assert batches
    assert all(batches)  # an empty one would be sent as an event without JSON


async def test_with_log_probabilities_it_has_the_prompts_too(make_model: MakeModel, says: Says) -> None:
    body = await body_of(make_model(says(" upon a time")), completion("Once", echo=True, logprobs=1))
    logprobs = body["choices"][0]["logprobs"]
    assert logprobs["tokens"] == ["Once", " upon", " a", " time"]
    assert logprobs["text_offset"] == [0, 4, 9, 11]
    assert logprobs["token_logprobs"] == [None, 0.0, 0.0, 0.0]
    assert logprobs["top_logprobs"][0] is None


@pytest.mark.parametrize("stream", [False, True])
async def test_an_echo_alone_scores_a_prompt(make_model: MakeModel, tokenizer: TextTokenizer, stream: bool) -> None:
    """As evaluations do it: no token is generated that anybody would see or pay for."""
    prompt = "Hello there, world!"
    model = make_model(runner_of([*tokenizer.encode(prompt), IM_END]))
    options: dict[str, Any] = {"echo": True, "max_tokens": 0, "logprobs": 1}
    body = await body_of(model, completion(prompt, **options))
    (choice,) = body["choices"]
    assert (choice["text"], choice["finish_reason"]) == (prompt, "length")
    assert choice["logprobs"]["tokens"] == ["Hello", " there", ",", " world", "!"]
    assert choice["logprobs"]["token_logprobs"] == [None, 0.0, 0.0, 0.0, 0.0]
    assert body["usage"]["completion_tokens"] == 0
    if stream:
        first, last = await chunks_of(model, completion(prompt, stream=True, **options))
        assert first["choices"][0] == {**choice, "finish_reason": None}
        assert last["choices"][0]["finish_reason"] == "length"


async def test_each_of_several_prompts_has_its_own(make_model: MakeModel, says: Says) -> None:
    prompts = ["Hello there", "Once upon a time"]
    model = make_model(says("x"))
    body = await body_of(model, completion(prompts, echo=True, max_tokens=0, logprobs=0, n=2))
    assert texts(body) == [prompts[0], prompts[0], prompts[1], prompts[1]]
    assert [len(choice["logprobs"]["tokens"]) for choice in body["choices"]] == [2, 2, 4, 4]


# What the engine is told


@pytest.mark.parametrize(
    ("options", "priority"),
    [
        ({}, 0),
        ({"genkan": {"priority": 7}}, 7),
        ({"priority": 7}, -7),
        ({"priority": 3, "genkan": {"priority": -3}}, -3),
    ],
)
async def test_a_priority_reaches_the_engine(tokenizer: TextTokenizer, options: dict[str, Any], priority: int) -> None:
    engine = ScriptedEngine(said([20]))
    await body_of(model_of(engine, tokenizer), chat(**options))
    (asked,) = engine.asked
    assert (asked.priority, asked.n) == (priority, 1)


async def test_a_form_reaches_the_engine_as_a_grammar(tokenizer: TextTokenizer) -> None:
    engine = ScriptedEngine(said(tokenizer.encode("{}")))
    body = await body_of(model_of(engine, tokenizer), chat(response_format={"type": "json_object"}))
    grammar = engine.asked[0].params.grammar
    assert grammar is not None
    assert grammar.kind == "json_object"
    assert texts(body) == ["{}"]


LACKING: list[tuple[dict[str, Any], Capability, str]] = [
    ({"n": 2}, Capability.SEVERAL_ANSWERS, "n"),
    ({"genkan": {"priority": 1}}, Capability.PRIORITY, "genkan.priority"),
    ({"logprobs": True}, Capability.LOGPROBS, "logprobs"),
    ({"presence_penalty": 1}, Capability.PRESENCE_PENALTY, "presence_penalty"),
    ({"response_format": {"type": "json_object"}}, Capability.JSON, "response_format"),
    ({"guided_regex": "a+"}, Capability.REGEX, "guided_regex"),
    ({"structured_outputs": {"choice": ["a"]}}, Capability.CHOICE, "structured_outputs"),
]


@pytest.mark.parametrize(("options", "capability", "param"), LACKING)
async def test_what_an_engine_cannot_do_is_refused_by_name(
    tokenizer: TextTokenizer, options: dict[str, Any], capability: Capability, param: str
) -> None:
    engine = ScriptedEngine(capabilities=set(Capability) - {capability})
    with pytest.raises(UnsupportedOption) as caught:
        await model_of(engine, tokenizer).respond(chat(**options))
    assert (caught.value.param, caught.value.status) == (param, 400)
    assert engine.asked == []


# Faults


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("error", "status"),
    [(InvalidRequest("no grammar", param="response_format"), 400), (EngineFailed("broken"), 500)],
)
async def test_what_the_engine_refuses_is_raised_before_a_byte_is_sent(
    tokenizer: TextTokenizer, error: InvalidRequest | EngineFailed, status: int, stream: bool
) -> None:
    engine = ScriptedEngine([error])
    with pytest.raises(type(error)) as caught:
        await model_of(engine, tokenizer).respond(chat(stream=stream, n=8))
    assert caught.value.status == status
    assert engine.open == 0


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"guided_json": {}}, "guided_json"),
        ({"n": 2}, "n"),
    ],
)
async def test_a_form_that_cannot_be_is_named_as_it_was_asked_for(
    tokenizer: TextTokenizer, options: dict[str, Any], param: str
) -> None:
    told = param if param == "n" else "response_format"  # engines know one name for it
    engine = ScriptedEngine([InvalidRequest("no such form", param=told)])
    with pytest.raises(InvalidRequest) as caught:
        await model_of(engine, tokenizer).respond(chat(**options))
    assert caught.value.param == param


async def test_a_client_that_leaves_cancels_all_of_its_answers(
    make_model: MakeModel, says: Says, changes: Changes
) -> None:
    runner = says("Hello there, world!")
    runner.hold()
    model = make_model(runner)
    runner.let(2)
    async with asyncio.timeout(WAIT_S):
        answer = await model.respond(chat(stream=True, n=8))
        assert answer.batches is not None
        await anext(answer.batches)
        await answer.aclose()
    runner.let_all()
    await changes.until_idle()
    assert len(runner.calls) < 6  # and not as many as the answers have tokens


@pytest.mark.parametrize("read", [0, 1])
async def test_a_client_that_leaves_closes_every_prompt(tokenizer: TextTokenizer, read: int) -> None:
    engine = ScriptedEngine(*(said([20] * 100) for _ in range(3)))
    async with asyncio.timeout(WAIT_S):
        answer = await model_of(engine, tokenizer).respond(completion(["a", "b", "c"], stream=True))
        assert answer.batches is not None
        for _ in range(read):
            await anext(answer.batches)
        assert engine.open == 3
        await answer.aclose()
    assert engine.open == 0


async def test_an_answer_of_its_own_goes_on_while_another_ended(tokenizer: TextTokenizer) -> None:
    later = asyncio.Event()
    first, second = said(tokenizer.encode("Hi")), said(tokenizer.encode("Hello there"), answer=1)
    engine = ScriptedEngine([*first, second[0], later, *second[1:]])
    async with asyncio.timeout(WAIT_S):
        answer = await model_of(engine, tokenizer).respond(completion(n=2, stream=True))
        assert answer.batches is not None
        seen = [json.loads(event) for _ in range(2) for event in await anext(answer.batches)]
        assert [(one["choices"][0]["index"], one["choices"][0]["finish_reason"]) for one in seen] == [
            (0, None),
            (0, "stop"),
            (1, None),
        ]
        later.set()
        assert text_of(await rest_of(answer)) == " there"
