"""The engine's model as a Responder, with the default model's tokenizer over a model that gives chosen tokens."""

import asyncio
import json
import unicodedata
from collections.abc import Callable
from typing import Any

import pytest
import torch
from fakes import WAIT_S, Changes, FakeRunner
from local_answers import (
    USER_HI,
    WINDOW,
    MakeModel,
    Says,
    body_of,
    chat,
    chunks_of,
    completion,
    reason_of,
    text_of,
)

from genkan.clock import SystemClock
from genkan.config import ModelDefaults
from genkan.engine.batch import BatchItem
from genkan.engine.config import EngineConfig
from genkan.engine.engine import Engine
from genkan.serving.local_model import LocalModel
from genkan.upstream.tokenizer import TextTokenizer
from genkan.wire.chat import GenerationRequest

pytestmark = pytest.mark.anyio

# --- Whole answers ---


async def test_a_whole_chat_answer_has_openais_shape(
    make_model: MakeModel, says: Says, tokenizer: TextTokenizer
) -> None:
    body = await body_of(make_model(says("Hello there!")), chat())
    prompt_tokens = len(tokenizer.encode(tokenizer.render_chat([USER_HI])))
    completion_tokens = len(tokenizer.encode("Hello there!")) + 1  # the end of the turn is generated too
    assert body.pop("id").startswith("chatcmpl-")
    assert body == {
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "smollm2-135m",
        "system_fingerprint": "fp_0123456789",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello there!", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
            "prompt_tokens_details": {"cached_tokens": 0},
            "cached_tokens": 0,
        },
    }


async def test_a_whole_completion_has_openais_shape(make_model: MakeModel, says: Says) -> None:
    body = await body_of(make_model(says(" upon a time")), completion("Once"))
    assert body["object"] == "text_completion"
    assert body["id"].startswith("cmpl-")
    assert body["choices"] == [{"index": 0, "text": " upon a time", "logprobs": None, "finish_reason": "stop"}]
    assert body["usage"]["prompt_tokens"] == 1
    assert body["usage"]["completion_tokens"] == 4


async def test_every_answer_has_an_id_of_its_own(make_model: MakeModel, says: Says) -> None:
    model = make_model(says("Hi"))
    assert (await body_of(model, chat()))["id"] != (await body_of(model, chat()))["id"]


# --- What the model gets to see ---


async def test_a_chat_reaches_the_engine_as_the_rendered_template(
    make_model: MakeModel, says: Says, tokenizer: TextTokenizer
) -> None:
    runner = says("ok")
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]},
        {"role": "assistant", "content": None},
    ]
    await body_of(make_model(runner), chat(messages=messages))
    prompt = tokenizer.encode(
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\n<|im_end|>\n<|im_start|>assistant\n"
    )
    assert runner.computed[0] == [prompt]


@pytest.mark.parametrize("prompt", ["Once upon", ["Once upon"]])
async def test_a_prompt_reaches_the_engine_without_a_template(
    make_model: MakeModel, says: Says, tokenizer: TextTokenizer, prompt: Any
) -> None:
    runner = says("ok")
    await body_of(make_model(runner), completion(prompt))
    assert runner.computed[0] == [tokenizer.encode("Once upon")]


@pytest.mark.parametrize("prompt", [[10, 20, 30], [[10, 20, 30]]])
async def test_a_prompt_of_token_ids_reaches_the_engine_as_it_is(
    make_model: MakeModel, says: Says, prompt: Any
) -> None:
    runner = says("ok")
    body = await body_of(make_model(runner), completion(prompt))
    assert runner.computed[0] == [[10, 20, 30]]
    assert body["usage"]["prompt_tokens"] == 3


# --- Streams ---

ANSWERS = [
    "Hello there! 12 + 30 = 42.\n",
    "Người Việt Nam",
    unicodedata.normalize("NFD", "tiếng Việt"),
    "안녕하세요 👨‍👩‍👧‍👦 👍🏽",
    "日本語",
    "",
]


@pytest.mark.parametrize("text", ANSWERS)
@pytest.mark.parametrize("request_of", [chat, completion])
async def test_a_streamed_answer_has_the_text_of_the_whole_one(
    make_model: MakeModel, says: Says, text: str, request_of: Callable[..., GenerationRequest]
) -> None:
    model = make_model(says(text))
    body = await body_of(model, request_of())
    chunks = await chunks_of(model, request_of(stream=True))
    choice = body["choices"][0]
    assert text_of(chunks) == (choice["message"]["content"] if "message" in choice else choice["text"]) == text
    assert reason_of(chunks) == choice["finish_reason"] == "stop"
    assert not any("\ufffd" in text_of([chunk]) for chunk in chunks)


async def test_an_answer_cut_inside_a_character_streams_what_the_whole_one_has(
    make_model: MakeModel, says: Says, tokenizer: TextTokenizer
) -> None:
    text = "한국어"
    ids = tokenizer.encode(text)
    model = make_model(says(text))
    for max_tokens in range(1, len(ids) + 1):
        body = await body_of(model, chat(max_tokens=max_tokens))
        chunks = await chunks_of(model, chat(max_tokens=max_tokens, stream=True))
        assert text_of(chunks) == body["choices"][0]["message"]["content"] == tokenizer.decode(ids[:max_tokens])
        assert reason_of(chunks) == body["choices"][0]["finish_reason"] == "length"
    assert tokenizer.decode(ids[:1]) == "\ufffd"  # so at least one cut was inside a character


async def test_a_chat_stream_opens_with_the_role_and_closes_with_the_reason(make_model: MakeModel, says: Says) -> None:
    chunks = await chunks_of(make_model(says("Hello there!")), chat(stream=True))
    identity = {key: chunks[0][key] for key in ("id", "created", "model", "system_fingerprint")}
    assert identity | {"id": ""} == {
        "id": "",
        "created": 1_700_000_000,
        "model": "smollm2-135m",
        "system_fingerprint": "fp_0123456789",
    }
    for chunk in chunks:
        assert chunk.keys() == {"object", "choices", *identity}
        assert chunk["object"] == "chat.completion.chunk"
        assert chunk == chunk | identity
    choices = [chunk["choices"][0] for chunk in chunks]
    assert choices[0] == {
        "index": 0,
        "delta": {"role": "assistant", "content": ""},
        "logprobs": None,
        "finish_reason": None,
    }
    assert choices[1]["delta"] == {"content": "Hello"}
    assert choices[-1] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}


async def test_a_completion_stream_has_openais_shape(make_model: MakeModel, says: Says) -> None:
    chunks = await chunks_of(make_model(says(" upon")), completion(stream=True))
    assert [chunk["object"] for chunk in chunks] == ["text_completion"] * len(chunks)
    assert [chunk["choices"] for chunk in chunks] == [
        [{"index": 0, "text": " upon", "logprobs": None, "finish_reason": None}],
        [{"index": 0, "text": "", "logprobs": None, "finish_reason": "stop"}],
    ]


async def test_each_piece_is_sent_before_the_next_is_computed(make_model: MakeModel, says: Says) -> None:
    runner = says("Hello there!")
    runner.hold()
    model = make_model(runner)
    runner.let()
    async with asyncio.timeout(WAIT_S):
        answer = await model.respond(chat(stream=True))
        assert answer.batches is not None
        opening, first = await anext(answer.batches)
        assert text_of([json.loads(opening), json.loads(first)]) == "Hello"
        runner.let()
        (second,) = await anext(answer.batches)
        assert text_of([json.loads(second)]) == " there"
        await answer.aclose()


# --- Usage ---


@pytest.mark.parametrize("request_of", [chat, completion])
async def test_a_stream_ends_with_the_usage_when_that_was_asked_for(
    make_model: MakeModel, says: Says, request_of: Callable[..., GenerationRequest]
) -> None:
    model = make_model(says("Hello there!"))
    await body_of(model, request_of())  # so that both find as much of the prompt
    usage = (await body_of(model, request_of()))["usage"]
    chunks = await chunks_of(model, request_of(stream=True, stream_options={"include_usage": True}))
    assert [chunk["usage"] for chunk in chunks] == [None] * (len(chunks) - 1) + [usage]
    assert chunks[-1]["choices"] == []
    assert usage["completion_tokens"] == 4


@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": False}}, {"stream_options": None}])
async def test_a_stream_has_no_usage_when_it_was_not_asked_for(
    make_model: MakeModel, says: Says, options: dict[str, Any]
) -> None:
    chunks = await chunks_of(make_model(says("Hello")), chat(stream=True, **options))
    assert not any("usage" in chunk for chunk in chunks)


# --- Stop strings ---


@pytest.mark.parametrize(
    ("stop", "shown"),
    [
        ("there", "Hello "),
        ("o there, w", "Hell"),  # across four tokens
        (["world", "the"], "Hello "),
        (["ere", "the"], "Hello "),  # both in one token
        (["there, world", "lo"], "Hel"),
        ("Hello", ""),
        ("!", "Hello there, world"),
        ("!!", "Hello there, world!"),
        ("there, word", "Hello there, world!"),
        ("absent", "Hello there, world!"),
    ],
)
async def test_an_answer_ends_before_the_first_stop_string(
    make_model: MakeModel, says: Says, stop: Any, shown: str
) -> None:
    model = make_model(says("Hello there, world!"))
    body = await body_of(model, chat(stop=stop))
    chunks = await chunks_of(model, chat(stop=stop, stream=True))
    assert body["choices"][0]["message"]["content"] == text_of(chunks) == shown
    assert body["choices"][0]["finish_reason"] == reason_of(chunks) == "stop"


async def test_what_may_become_a_stop_string_is_shown_once_it_cannot(make_model: MakeModel, says: Says) -> None:
    model = make_model(says("Hello there, world!"))
    chunks = await chunks_of(model, chat(stop=" there!", stream=True))
    assert text_of(chunks) == "Hello there, world!"
    assert not any(text_of([chunk]) == " there" for chunk in chunks)


async def test_what_may_become_a_stop_string_is_shown_when_the_answer_ends(make_model: MakeModel, says: Says) -> None:
    model = make_model(says("Hello there"))
    body = await body_of(model, chat(stop=" there!", max_tokens=2))
    assert body["choices"][0]["message"]["content"] == "Hello there"
    assert body["choices"][0]["finish_reason"] == "length"


async def test_a_stop_string_counts_the_tokens_that_completed_it_and_cancels_the_rest(
    make_model: MakeModel, says: Says, changes: Changes
) -> None:
    runner = says("Hello there, world!")
    runner.hold()
    model = make_model(runner)
    runner.let(2)
    body = await body_of(model, chat(stop=" there"))
    assert body["choices"][0]["message"]["content"] == "Hello"
    assert body["usage"]["completion_tokens"] == 2
    runner.let_all()
    await changes.until_idle()
    assert len(runner.calls) <= 3  # the third pass may have begun before the stop string was found


async def test_a_stop_string_is_never_in_a_chunk(make_model: MakeModel, says: Says) -> None:
    chunks = await chunks_of(make_model(says("a b c STOP d")), chat(stop="STOP", stream=True))
    assert text_of(chunks) == "a b c "
    assert not any(letter in text_of(chunks) for letter in "STOPd")


# --- Sampling ---


class SamplingRunner(FakeRunner):
    """All tokens are equally likely."""

    def forward(self, items: list[BatchItem]) -> torch.Tensor:
        return super().forward(items) * 0


async def test_the_models_defaults_apply_where_the_request_is_silent(make_model: MakeModel) -> None:
    runner = SamplingRunner(lambda _: 0, vocab_size=49_152, max_model_len=WINDOW)
    greedy = make_model(runner, temperature=0.0, max_tokens=3)
    body = await body_of(greedy, completion([10]))
    assert body["choices"][0]["finish_reason"] == "stop"  # id 0, the first of equals, ends the text
    assert body["usage"]["completion_tokens"] == 1
    drawn = await body_of(greedy, completion([10], temperature=1, seed=1))
    assert drawn["usage"]["completion_tokens"] == 3


async def test_a_seed_repeats_the_answer(make_model: MakeModel) -> None:
    model = make_model(SamplingRunner(lambda _: 0, vocab_size=49_152, max_model_len=WINDOW), max_tokens=10)
    texts = [(await body_of(model, completion([10], seed=seed)))["choices"][0]["text"] for seed in (1, 1, 2)]
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


def test_what_was_made_for_its_engine_is_given_back_once_that_has_stopped(tokenizer: TextTokenizer, says: Says) -> None:
    engine = Engine(says("Hi"), EngineConfig())
    stopped: list[bool] = []
    model = LocalModel(
        engine,
        tokenizer,
        name="m",
        fingerprint="fp",
        defaults=ModelDefaults(),
        clock=SystemClock(),
        on_stop=lambda: stopped.append(engine._thread.is_alive()),
    )
    model.stop()
    assert stopped == [False]
