"""What LocalModel refuses, and how an answer ends before its time."""

import asyncio
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from fakes import WAIT_S, Changes, FakeRunner
from local_answers import (
    USER_HI,
    WINDOW,
    MakeModel,
    Says,
    body_of,
    chat,
    completion,
)
from running import ManualClock
from scripted_engine import ScriptedEngine

from genkan.config import ModelDefaults
from genkan.engine.load.gguf import GgufFile
from genkan.errors import ContextTooLong, EngineFailed, EngineUnavailable, InvalidRequest, UnsupportedOption
from genkan.serving.local_model import LocalModel
from genkan.upstream.tokenizer import TextTokenizer

pytestmark = pytest.mark.anyio

# --- The window ---


def room_runner() -> FakeRunner:
    """Never ends its turn."""
    return FakeRunner(lambda seen: 100 + len(seen) % 2, vocab_size=49_152, max_model_len=WINDOW)


async def test_prompt_and_answer_may_fill_the_window_exactly(make_model: MakeModel) -> None:
    body = await body_of(make_model(room_runner()), completion([10] * 100, max_tokens=28))
    assert body["usage"]["total_tokens"] == WINDOW


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_does_not_fit_the_window_is_refused_with_all_numbers(
    make_model: MakeModel, stream: bool
) -> None:
    runner = room_runner()
    with pytest.raises(ContextTooLong) as caught:
        await make_model(runner).respond(completion([10] * 100, max_tokens=29, stream=stream))
    assert (caught.value.limit_tokens, caught.value.given_tokens) == (128, 129)
    assert (caught.value.status, caught.value.code, caught.value.param) == (400, "context_length_exceeded", "prompt")
    for words in ("maximum context length is 128 tokens", "requested 129 tokens", "100 in the prompt, 29 "):
        assert words in caught.value.message
    assert runner.calls == []


class DecodedFrom(TextTokenizer):
    """Remembers how much it was asked to decode."""

    decoded = 0

    def decode(self, ids: Sequence[int]) -> str:
        self.decoded += len(ids)
        return super().decode(ids)


@pytest.mark.parametrize("options", [{}, {"logprobs": 20}])
async def test_a_prompt_that_does_not_fit_is_not_decoded_to_be_repeated(
    smollm: GgufFile, options: dict[str, Any]
) -> None:
    tokenizer = DecodedFrom(smollm.metadata)
    model = LocalModel(
        ScriptedEngine(), tokenizer, name="m", fingerprint="f", defaults=ModelDefaults(), clock=ManualClock()
    )
    for prompt in ([10] * 200_000, [[10] * 128] * 16):
        with pytest.raises(InvalidRequest):
            await model.respond(completion(prompt, echo=True, **options))
    assert tokenizer.decoded == 0


async def test_a_chat_that_does_not_fit_names_the_messages(make_model: MakeModel) -> None:
    with pytest.raises(ContextTooLong) as caught:
        await make_model(room_runner()).respond(chat(max_completion_tokens=WINDOW))
    assert caught.value.param == "messages"


@pytest.mark.parametrize(("default", "generated"), [(512, 28), (28, 28), (5, 5)])
async def test_the_default_length_is_clipped_to_the_room(make_model: MakeModel, default: int, generated: int) -> None:
    body = await body_of(make_model(room_runner(), max_tokens=default), completion([10] * 100))
    assert body["usage"]["completion_tokens"] == generated
    assert body["choices"][0]["finish_reason"] == "length"


async def test_a_length_that_was_asked_for_is_never_clipped(make_model: MakeModel) -> None:
    model = make_model(room_runner(), max_tokens=5)
    assert (await body_of(model, completion([10] * 100, max_tokens=20)))["usage"]["completion_tokens"] == 20
    with pytest.raises(ContextTooLong):
        await model.respond(completion([10] * 100, max_tokens=512))


@pytest.mark.parametrize("length", [128, 129, 1000])
async def test_a_prompt_that_leaves_no_room_is_refused(make_model: MakeModel, length: int) -> None:
    with pytest.raises(ContextTooLong) as caught:
        await make_model(room_runner()).respond(completion([10] * length))
    assert caught.value.given_tokens == length + 1


async def test_a_prompt_one_token_short_of_the_window_gets_one_token(make_model: MakeModel) -> None:
    body = await body_of(make_model(room_runner()), completion([10] * 127))
    assert body["usage"]["completion_tokens"] == 1


async def test_a_text_of_megabytes_is_refused_as_too_long(make_model: MakeModel) -> None:
    content = "The quick brown fox. " * 100_000
    with pytest.raises(ContextTooLong) as caught:
        await make_model(room_runner()).respond(chat(messages=[{"role": "user", "content": content}]))
    assert caught.value.given_tokens > WINDOW


# --- What is refused ---


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"best_of": 2}, "best_of"),
        ({"echo": True}, "echo"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"structured_outputs": {"regex": "a"}}, "structured_outputs"),
        ({"guided_choice": ["a"]}, "guided_choice"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"reasoning_effort": "high"}, "reasoning_effort"),
        ({"prompt": "Hi"}, "prompt"),
        ({"x" * 500: 1}, "x" * 200),
        ({"messages": [USER_HI, {"role": "function", "content": "4", "name": "f"}]}, "messages[1].role"),
        ({"messages": [{**USER_HI, "audio": {"id": "a"}}]}, "messages[0].audio"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]}]},
            "messages[0].content[1].type",
        ),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
async def test_an_option_that_the_engine_would_have_to_ignore_is_refused_by_name(
    make_model: MakeModel, says: Says, options: dict[str, Any], param: str
) -> None:
    runner = says("Hello")
    with pytest.raises(UnsupportedOption, match="not supported by this model") as caught:
        await make_model(runner).respond(chat(**options))
    assert (caught.value.param, caught.value.status, caught.value.code) == (param, 400, "unsupported_parameter")
    assert runner.calls == []


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"suffix": "."}, "suffix"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"use_beam_search": True}, "use_beam_search"),
        ({"messages": [USER_HI]}, "messages"),
    ],
)
async def test_an_option_that_completions_lack_is_refused_by_name(
    make_model: MakeModel, says: Says, options: dict[str, Any], param: str
) -> None:
    with pytest.raises(UnsupportedOption) as caught:
        await make_model(says("Hello")).respond(completion(**options))
    assert caught.value.param == param


async def test_options_at_their_neutral_value_and_labels_are_accepted(make_model: MakeModel, says: Says) -> None:
    neutral = {
        "n": 1,
        "priority": 0,
        "logprobs": False,
        "presence_penalty": 0,
        "frequency_penalty": 0.0,
        "logit_bias": {},
        "top_k": -1,
        "min_p": 0,
        "tools": [],
        "tool_choice": "auto",
        "response_format": {"type": "text"},
        "user": "someone",
        "metadata": {"a": "b"},
        "reasoning_effort": None,
        "genkan": {"cache": "no-cache"},
    }
    assert (await body_of(make_model(says("Hello")), chat(**neutral)))["choices"][0]["message"]["content"] == "Hello"


@pytest.mark.parametrize(
    ("options", "param", "words"),
    [
        ({"n": 9}, "n", "at most 8 for this model; given: 9"),
        ({"n": 2, "best_of": 3}, "best_of", "it must be 'n', 2; given: 3"),
        ({"prompt": ["a"] * 17}, "prompt", "at most 16 prompts for this model; given: 17"),
        ({"logit_bias": {"49152": 1}}, "logit_bias", "token id 49152; this model's ids are below 49152"),
        ({"stop_token_ids": [1, 49_152]}, "stop_token_ids", "token id 49152"),
        ({"logprobs": 20, "max_tokens": 100, "n": 8, "prompt": ["a"] * 16}, "logprobs", "at most 131072 log prob"),
    ],
)
async def test_more_than_the_engine_may_be_asked_for_is_refused_with_the_limit(
    make_model: MakeModel, says: Says, options: dict[str, Any], param: str, words: str
) -> None:
    runner = says("Hello")
    with pytest.raises(InvalidRequest) as caught:
        await make_model(runner).respond(completion(**options))
    assert (caught.value.param, caught.value.status) == (param, 400)
    assert words in caught.value.message
    assert runner.calls == []


@pytest.mark.parametrize("prompt", ["", [""], "\x04"])  # the last has no token in this vocabulary
async def test_a_prompt_without_a_token_is_refused(make_model: MakeModel, says: Says, prompt: Any) -> None:
    with pytest.raises(InvalidRequest, match="'prompt' must not be empty"):
        await make_model(says("Hello")).respond(completion(prompt))


async def test_a_token_id_beyond_the_vocabulary_is_refused(make_model: MakeModel, says: Says) -> None:
    model = make_model(says("Hello"))
    with pytest.raises(InvalidRequest, match="token id 49152; this model's ids are below 49152"):
        await model.respond(completion([1, 49_152]))
    assert (await body_of(model, completion([1, 49_151])))["usage"]["prompt_tokens"] == 2


# --- Cancelling and failing ---


@contextmanager
def nobody_else_closes() -> Iterator[None]:
    """Generators that are dropped open stay open; asyncio would close them. Within a coroutine only."""
    dropped: list[Any] = []
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(finalizer=dropped.append)
    try:
        yield
    finally:
        sys.set_asyncgen_hooks(*hooks)
    assert dropped == []


async def test_closing_an_answer_before_reading_it_cancels_the_sequence(
    make_model: MakeModel, says: Says, changes: Changes
) -> None:
    runner = says("Hello there, world!")
    runner.hold()
    model = make_model(runner)
    runner.let()
    with nobody_else_closes():
        async with asyncio.timeout(WAIT_S):
            answer = await model.respond(chat(stream=True))
            await runner.entered()
            await runner.entered()  # the second pass is under way
            await answer.aclose()
    runner.let_all()
    await changes.until_idle()
    assert len(runner.calls) == 2


async def test_closing_an_answer_while_it_is_read_cancels_the_sequence(
    make_model: MakeModel, says: Says, changes: Changes
) -> None:
    runner = says("Hello there, world!")
    runner.hold()
    model = make_model(runner)
    runner.let(2)
    async with asyncio.timeout(WAIT_S):
        answer = await model.respond(chat(stream=True))
        assert answer.batches is not None
        for _ in range(2):  # the role with the first piece, and the second
            await anext(answer.batches)
        await runner.entered()
        await runner.entered()
        await runner.entered()
        await answer.aclose()
        await answer.aclose()
    runner.let_all()
    await changes.until_idle()
    assert len(runner.calls) == 3


@pytest.mark.parametrize("stream", [False, True])
async def test_cancelling_a_request_before_its_first_token_cancels_the_sequence(
    make_model: MakeModel, says: Says, changes: Changes, stream: bool
) -> None:
    runner = says("Hello there, world!")
    runner.hold()
    task = asyncio.create_task(make_model(runner).respond(chat(stream=stream)))
    await runner.entered()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    runner.let_all()
    await changes.until_idle()
    assert len(runner.calls) == 1


def failing_after(num_tokens: int) -> FakeRunner:
    def rule(seen: list[int]) -> int:
        if len(seen) > num_tokens:
            raise ValueError("broken")
        return 100

    return FakeRunner(rule, vocab_size=49_152, max_model_len=WINDOW)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_before_the_first_token_is_raised_at_once(make_model: MakeModel, stream: bool) -> None:
    with pytest.raises(EngineFailed):
        await make_model(failing_after(0)).respond(completion([10], stream=stream))


async def test_an_error_in_mid_stream_is_raised_after_what_was_there(make_model: MakeModel, changes: Changes) -> None:
    received: list[Any] = []
    async with asyncio.timeout(WAIT_S):
        answer = await make_model(failing_after(2)).respond(completion([10], stream=True))
        assert answer.batches is not None
        with pytest.raises(EngineFailed):  # noqa: PT012
            async for batch in answer.batches:
                received += map(json.loads, batch)
        await answer.aclose()
    assert len(received) == 2
    assert all(chunk["choices"][0]["finish_reason"] is None for chunk in received)
    await changes.until_idle()


async def test_a_stopped_model_is_unavailable(make_model: MakeModel, says: Says) -> None:
    model = make_model(says("Hello"))
    model.stop()
    with pytest.raises(EngineUnavailable):
        await model.respond(chat())
