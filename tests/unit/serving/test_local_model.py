"""The engine's model as a Responder, with the default model's tokenizer over a model that gives chosen tokens."""

import asyncio
import json
import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fakes import WAIT_S, Changes, FakeRunner, answering

from genkan.config import ModelDefaults
from genkan.engine.config import EngineConfig
from genkan.engine.engine import Engine
from genkan.errors import ContextTooLong, EngineFailed, EngineUnavailable, InvalidRequest, UnsupportedOption
from genkan.serving.local_model import LocalModel
from genkan.upstream.base import Answer
from genkan.upstream.tokenizer import TextTokenizer
from genkan.wire.chat import ChatRequest, CompletionRequest, GenerationRequest

pytestmark = pytest.mark.anyio

WINDOW = 128
IM_END = 2
USER_HI = {"role": "user", "content": "Hi"}
MakeModel = Callable[..., LocalModel]


class StoppedClock:
    def monotonic(self) -> float:
        return 0.0

    def unix(self) -> float:
        return 1_700_000_000.75


@pytest.fixture
def changes() -> Changes:
    return Changes()


@pytest.fixture
def make_model(tokenizer: TextTokenizer, changes: Changes) -> Iterator[MakeModel]:
    made: list[tuple[LocalModel, FakeRunner]] = []

    def make(runner: FakeRunner, **defaults: Any) -> LocalModel:
        model = LocalModel(
            Engine(runner, EngineConfig(), changes),
            tokenizer,
            name="smollm2-135m",
            fingerprint="fp_0123456789",
            defaults=ModelDefaults(**defaults),
            clock=StoppedClock(),
        )
        made.append((model, runner))
        return model

    yield make
    for model, runner in made:
        runner.let_all()
        model.stop()


@pytest.fixture
def says(tokenizer: TextTokenizer) -> Callable[[str], FakeRunner]:
    """A runner that answers with the ids of a text and ends its turn."""
    return lambda text: runner_of([*tokenizer.encode(text), IM_END])


Says = Callable[[str], FakeRunner]


def runner_of(answer: list[int], max_model_len: int = WINDOW) -> FakeRunner:
    return FakeRunner(answering(answer), vocab_size=49_152, max_model_len=max_model_len)


def chat(**options: Any) -> ChatRequest:
    return ChatRequest.from_object({"model": "m", "messages": [USER_HI], **options})


def completion(prompt: Any = "Once", **options: Any) -> CompletionRequest:
    return CompletionRequest.from_object({"model": "m", "prompt": prompt, **options})


async def body_of(model: LocalModel, request: GenerationRequest) -> Any:
    async with asyncio.timeout(WAIT_S):
        answer = await model.respond(request)
    assert answer.events is None
    assert answer.body is not None
    await answer.aclose()
    return json.loads(answer.body)


async def chunks_of(model: LocalModel, request: GenerationRequest) -> list[Any]:
    async with asyncio.timeout(WAIT_S):
        answer = await model.respond(request)
        return await rest_of(answer)


async def rest_of(answer: Answer) -> list[Any]:
    assert answer.body is None
    assert answer.events is not None
    try:
        return [json.loads(event) async for event in answer.events]
    finally:
        await answer.aclose()


def text_of(chunks: list[Any]) -> str:
    return "".join(
        choice["delta"].get("content", "") if "delta" in choice else choice["text"]
        for chunk in chunks
        for choice in chunk["choices"]
    )


def reason_of(chunks: list[Any]) -> Any:
    """The one finish reason of a stream."""
    (reason,) = [c["finish_reason"] for chunk in chunks for c in chunk["choices"] if c["finish_reason"] is not None]
    return reason


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
    assert runner.calls[0] == tokenizer.encode(
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\n<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("prompt", ["Once upon", ["Once upon"]])
async def test_a_prompt_reaches_the_engine_without_a_template(
    make_model: MakeModel, says: Says, tokenizer: TextTokenizer, prompt: Any
) -> None:
    runner = says("ok")
    await body_of(make_model(runner), completion(prompt))
    assert runner.calls[0] == tokenizer.encode("Once upon")


@pytest.mark.parametrize("prompt", [[10, 20, 30], [[10, 20, 30]]])
async def test_a_prompt_of_token_ids_reaches_the_engine_as_it_is(
    make_model: MakeModel, says: Says, prompt: Any
) -> None:
    runner = says("ok")
    body = await body_of(make_model(runner), completion(prompt))
    assert runner.calls[0] == [10, 20, 30]
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
        assert answer.events is not None
        opening, first = await anext(answer.events), await anext(answer.events)
        assert text_of([json.loads(opening), json.loads(first)]) == "Hello"
        runner.let()
        assert text_of([json.loads(await anext(answer.events))]) == " there"
        await answer.aclose()


# --- Usage ---


@pytest.mark.parametrize("request_of", [chat, completion])
async def test_a_stream_ends_with_the_usage_when_that_was_asked_for(
    make_model: MakeModel, says: Says, request_of: Callable[..., GenerationRequest]
) -> None:
    model = make_model(says("Hello there!"))
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
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 5}, "top_logprobs"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"frequency_penalty": -0.5}, "frequency_penalty"),
        ({"repetition_penalty": 1.1}, "repetition_penalty"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"top_k": 40}, "top_k"),
        ({"min_p": 0.05}, "min_p"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"ignore_eos": True}, "ignore_eos"),
        ({"reasoning_effort": "high"}, "reasoning_effort"),
        ({"prompt": "Hi"}, "prompt"),
        ({"x" * 500: 1}, "x" * 200),
        ({"genkan": {"cache": "only"}}, "genkan.cache"),
        ({"messages": [USER_HI, {"role": "tool", "content": "4", "tool_call_id": "c"}]}, "messages[1].role"),
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
        ({"best_of": 2}, "best_of"),
        ({"echo": True}, "echo"),
        ({"suffix": "."}, "suffix"),
        ({"logprobs": 0}, "logprobs"),
        ({"use_beam_search": True}, "use_beam_search"),
        ({"messages": [USER_HI]}, "messages"),
    ],
)
async def test_an_option_of_completions_that_the_engine_lacks_is_refused_by_name(
    make_model: MakeModel, says: Says, options: dict[str, Any], param: str
) -> None:
    with pytest.raises(UnsupportedOption) as caught:
        await make_model(says("Hello")).respond(completion(**options))
    assert caught.value.param == param


async def test_options_at_their_neutral_value_and_labels_are_accepted(make_model: MakeModel, says: Says) -> None:
    neutral = {
        "n": 1,
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


@pytest.mark.parametrize("prompt", [["a", "b"], [[1], [2]]])
async def test_several_prompts_are_refused(make_model: MakeModel, says: Says, prompt: Any) -> None:
    with pytest.raises(UnsupportedOption, match="one prompt a request; given: 2") as caught:
        await make_model(says("Hello")).respond(completion(prompt))
    assert caught.value.param == "prompt"


@pytest.mark.parametrize("prompt", ["", [""], "\x04"])  # the last has no token in this vocabulary
async def test_a_prompt_without_a_token_is_refused(make_model: MakeModel, says: Says, prompt: Any) -> None:
    with pytest.raises(InvalidRequest, match="'prompt' must not be empty"):
        await make_model(says("Hello")).respond(completion(prompt))


async def test_a_token_id_beyond_the_vocabulary_is_refused(make_model: MakeModel, says: Says) -> None:
    model = make_model(says("Hello"))
    with pytest.raises(InvalidRequest, match="token id 49152; this model's ids are below 49152"):
        await model.respond(completion([1, 49_152]))
    assert (await body_of(model, completion([1, 49_151])))["usage"]["prompt_tokens"] == 2


# --- Sampling ---


class SamplingRunner(FakeRunner):
    """All tokens are equally likely."""

    def forward(self, ids: list[int], kv: Any) -> Any:
        logits, kv = super().forward(ids, kv)
        return logits * 0, kv


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
        assert answer.events is not None
        for _ in range(3):  # the role and two pieces
            await anext(answer.events)
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
        assert answer.events is not None
        with pytest.raises(EngineFailed):  # noqa: PT012
            async for event in answer.events:
                received.append(json.loads(event))  # noqa: PERF401 - what came before the error is wanted
        await answer.aclose()
    assert len(received) == 2
    assert all(chunk["choices"][0]["finish_reason"] is None for chunk in received)
    await changes.until_idle()


async def test_a_stopped_model_is_unavailable(make_model: MakeModel, says: Says) -> None:
    model = make_model(says("Hello"))
    model.stop()
    with pytest.raises(EngineUnavailable):
        await model.respond(chat())
