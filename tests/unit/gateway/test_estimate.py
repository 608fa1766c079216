"""Guesses at what requests take, against what a real tokenizer counts."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from genkan.gateway.estimate import (
    Estimator,
    Size,
    answers_to,
    most_answers_to,
    most_prompt_tokens,
    size_of,
)
from genkan.serving.tools.tool_use import ToolUse
from genkan.upstream.tokenizer import TextTokenizer
from genkan.wire.chat import ChatRequest, CompletionRequest

VIETNAMESE = "Cửa vào của hệ thống mở lúc bảy giờ sáng, và người gác cổng chào mọi người đến từ khắp nơi. "
KOREAN = "현관은 집의 첫인상을 결정하는 공간이며, 손님을 맞이하는 자리입니다. "
EMOJI = "👩‍👩‍👧‍👦🏳️‍🌈🤷🏽‍♀️ 🇻🇳🇰🇷 "
CODE = "for (int i = 0; i < n; ++i) { a[i] ^= b[i] >> 3; }\n\t\tif (!ok) return -1;\n"
ENGLISH = "The porch is where a house receives its guests, and where they leave their shoes. "
CHARS = st.integers(0, 10**6)
TEXTS = (VIETNAMESE, KOREAN, EMOJI, CODE, ENGLISH)


def chat(*messages: dict[str, Any], **fields: Any) -> ChatRequest:
    return ChatRequest.from_object({"model": "m", "messages": list(messages), **fields})


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def counted(tokenizer: TextTokenizer, messages: list[dict[str, str]]) -> int:
    return len(tokenizer.encode(tokenizer.render_chat(messages)))


def counted_with_tools(tokenizer: TextTokenizer, request: ChatRequest) -> int:
    use = ToolUse.of(request, tokenizer)
    assert use is not None
    return len(tokenizer.encode(tokenizer.render_chat(use.messages(request.messages), tools=use.template_tools)))


def words(number: int) -> str:
    return " ".join(f"w{place}" for place in range(number))


# Sizes


def test_a_size_is_characters_and_bytes() -> None:
    assert size_of(chat(user("abc"), user("né"))) == Size(ascii=4, other=2, messages=2, images=0, tokens=0)
    assert size_of(chat(user("한"))) == Size(0, 3, 1, 0, 0)


@given(st.lists(st.text(max_size=20), min_size=1, max_size=4), st.booleans())
def test_texts_are_as_long_as_parts_of_the_same_text(texts: list[str], with_name: bool) -> None:
    beside = {"name": ""} if with_name else {}
    alone = [{"role": "user", "content": text} | beside for text in texts]
    parts = [user([{"type": "text", "text": text}]) | beside for text in texts]
    assert size_of(chat(*alone)) == size_of(chat(*parts))
    with_tools = size_of(chat(*alone, tools=[1]))
    assert with_tools._replace(rewritten=0) == size_of(chat(*alone))._replace(ascii=size_of(chat(*alone)).ascii + 3)


def test_parts_are_text_or_images() -> None:
    parts = [
        {"type": "text", "text": "abcd"},
        {"type": "image_url", "image_url": {"url": "https://h.example/a.png"}},
    ]
    assert size_of(chat(user(parts))) == Size(4, 0, 1, 1, 0)


def test_tools_and_what_else_a_model_reads_counts() -> None:
    plain = size_of(chat(user("x")))
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    assert size_of(chat(user("x"), tools=tools)).ascii > plain.ascii + 40
    assert size_of(chat(user("x"), response_format={"type": "json_object"})).ascii > plain.ascii
    assert size_of(chat(user("x"), metadata={"a": "b" * 100})) == plain


@pytest.mark.parametrize("with_content", [True, False])
def test_a_tool_call_counts_with_content_or_without(with_content: bool) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "x" * 500}}
    message: dict[str, Any] = {"role": "assistant", "tool_calls": [call]} | ({"content": None} if with_content else {})
    assert size_of(chat(user("x"), message)).ascii > 500


@pytest.mark.parametrize(
    ("prompt", "size"),
    [
        ("abc", Size(3, 0, 1, 0, 0)), (["abc", "dé"], Size(4, 2, 2, 0, 0)),
        ([1, 2, 3], Size(0, 0, 1, 0, 3)), ([[1, 2], [3]], Size(0, 0, 2, 0, 3)),
    ],
)  # fmt: skip
def test_prompts_of_completions_are_texts_or_tokens(prompt: Any, size: Size) -> None:
    assert size_of(CompletionRequest.from_object({"model": "m", "prompt": prompt})) == size


def test_each_prompt_has_its_own_answers() -> None:
    request = CompletionRequest.from_object({"model": "m", "prompt": ["a", "b", "c"], "n": 2, "best_of": 5})
    assert (answers_to(request), most_answers_to(request)) == (6, 15)
    assert (answers_to(chat(user("x"), n=4)), most_answers_to(chat(user("x"), n=4))) == (4, 4)


# Bounds


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(
            st.text(max_size=80),
            st.builds(lambda text, times: text * times, st.sampled_from(TEXTS), st.integers(1, 5)),
            st.text(alphabet="가힣ạữ́̀👍🏽\u200d<|im_start|>\n\t \u0958\U0001d160", max_size=60),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_no_prompt_takes_more_than_its_bound(tokenizer: TextTokenizer, texts: list[str]) -> None:
    messages = [user(text) for text in texts]
    assert most_prompt_tokens(size_of(chat(*messages))) >= counted(tokenizer, messages)


def test_the_bound_covers_a_templates_own_prompt(tokenizer: TextTokenizer) -> None:
    messages = [user("")]
    assert most_prompt_tokens(size_of(chat(*messages))) >= counted(tokenizer, messages)


def call(arguments: str) -> dict[str, Any]:
    function = {"name": "f", "arguments": arguments}
    return {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function", "function": function}]}


@pytest.mark.parametrize("choice", ["auto", "none"])
@pytest.mark.parametrize(
    "functions",
    [
        pytest.param([{"name": "f"}], id="one without anything"),
        pytest.param([{"name": f"f{number}"} for number in range(20)], id="many without anything"),
        pytest.param(
            [{"name": "f", "parameters": {"type": "object", "properties": {"a": {"enum": list(range(500))}}}}],
            id="numbers",
        ),
        pytest.param(
            [{"name": "f", "parameters": {"type": "object", "properties": {"a": {"enum": [[0] * 500]}}}}],
            id="digits",
        ),
    ],
)
def test_no_tools_take_more_than_their_bound(
    tokenizer: TextTokenizer, functions: list[dict[str, Any]], choice: str
) -> None:
    tools = [{"type": "function", "function": function} for function in functions]
    request = chat(user("Hi"), tools=tools, tool_choice=choice)
    assert most_prompt_tokens(size_of(request)) >= counted_with_tools(tokenizer, request)


@pytest.mark.parametrize("arguments", ["{}", json.dumps({"a": [0] * 500}, separators=(",", ":")), "no JSON"])
def test_no_calls_of_earlier_turns_take_more_than_their_bound(tokenizer: TextTokenizer, arguments: str) -> None:
    request = chat(user("Hi"), call(arguments), {"role": "tool", "tool_call_id": "c", "content": ""})
    assert most_prompt_tokens(size_of(request)) >= counted_with_tools(tokenizer, request)


BIG = "x" * 50_000


@pytest.mark.parametrize(
    "field",
    [
        {"documents": [{"text": BIG}]},
        {"prediction": {"type": "content", "content": BIG}},
        {"chat_template_kwargs": {"doc": BIG}},
        {"guided_json": BIG},
        {"tool_choice": {"type": "function", "function": {"name": BIG}}},
        {BIG: True},
    ],
    ids=lambda field: next(iter(field))[:20],
)
def test_all_that_may_get_into_a_prompt_is_within_its_bound(field: dict[str, Any]) -> None:
    request = chat(user("x"), **field)
    assert most_prompt_tokens(size_of(request)) > most_prompt_tokens(size_of(chat(user("x")))) + 50_000
    assert Estimator().prompt_tokens(size_of(request)) == Estimator().prompt_tokens(size_of(chat(user("x"))))


def test_settings_that_are_known_take_no_room() -> None:
    settings = {"temperature": 0.5, "top_k": 5, "user": "u" * 100, "stop": ["x"], "cache_salt": "s", "unknown": None}
    numbers = {"min_tokens": 2, "stop_token_ids": list(range(64)), "priority": 3, "include_stop_str_in_output": True}
    assert size_of(chat(user("x"), **settings, **numbers)) == size_of(chat(user("x")))


@pytest.mark.parametrize(
    "part",
    [
        {"type": "file", "file": {"file_id": "file-abc"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "https://h.example/a.pdf"}},
        {"type": "video_url", "video_url": {"url": "https://h.example/a.mp4"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "a kind of next year"},
    ],
    ids=lambda part: str(part["type"]),
)
def test_a_part_of_unknown_size_may_fill_a_context_window(part: dict[str, Any]) -> None:
    assert most_prompt_tokens(size_of(chat(user([part])))) > 1_000_000
    assert most_prompt_tokens(size_of(chat(user([part, part])))) < 1_100_000  # there is but one window
    assert Estimator().prompt_tokens(size_of(chat(user([part])))) < 5_000


@pytest.mark.parametrize(
    "request_",
    [
        chat(user("x"), web_search_options={}),
        chat(user("x"), plugins=[{"id": "web"}]),
        chat(user("x"), chat_template="{% for i in range(9999) %}{{ messages }}{% endfor %}"),
        chat({"role": "assistant", "content": None, "audio": {"id": "audio_1"}}, user("x")),
    ],
    ids=["search", "plugins", "template", "audio"],
)
def test_what_an_upstream_fetches_may_fill_a_context_window(request_: ChatRequest) -> None:
    assert most_prompt_tokens(size_of(request_)) > 1_000_000


@pytest.mark.parametrize("kind", ["image_url", "input_image", "image"])
def test_an_image_has_a_bound_however_it_comes(kind: str) -> None:
    bound = most_prompt_tokens(size_of(chat(user([{"type": kind, kind: {"url": "https://h.example/a.png"}}]))))
    assert 48_169 < bound < 50_000


def test_parts_that_are_text_count_as_text() -> None:
    assert 1000 < size_of(chat(user([{"type": "refusal", "refusal": "x" * 1000}]))).ascii < 1100


# Guesses


def test_a_guess_is_at_least_one_token() -> None:
    assert Estimator().prompt_tokens(Size(0, 0, 0, 0, 0)) == 1


def test_tokens_are_known_and_images_are_guessed() -> None:
    bare = Estimator().prompt_tokens(Size(0, 0, 1, 0, 0))
    assert Estimator().prompt_tokens(Size(0, 0, 1, 0, 700)) == bare + 700
    assert Estimator().prompt_tokens(Size(0, 0, 1, 2, 0)) == bare + 3000


@pytest.mark.parametrize("text", TEXTS, ids=["vietnamese", "korean", "emoji", "code", "english"])
def test_guesses_come_near_to_what_a_tokenizer_counts(tokenizer: TextTokenizer, text: str) -> None:
    estimator = Estimator()
    for times in list(range(1, 40)) * 8:
        messages = [user(text * times)]
        estimator.learn(size_of(chat(*messages)), counted(tokenizer, messages), 10, 1)
    messages = [user(text * 25)]
    assert estimator.prompt_tokens(size_of(chat(*messages))) == pytest.approx(counted(tokenizer, messages), rel=0.15)


def test_guesses_come_near_for_scripts_that_take_turns(tokenizer: TextTokenizer) -> None:
    estimator = Estimator()
    for turn in range(600):
        messages = [user(TEXTS[turn % 5] * (1 + turn % 9))]
        estimator.learn(size_of(chat(*messages)), counted(tokenizer, messages), 10, 1)
    for text in (VIETNAMESE, ENGLISH):
        messages = [user(text * 6)]
        assert 0.4 < estimator.prompt_tokens(size_of(chat(*messages))) / counted(tokenizer, messages) < 2.5


@given(
    st.lists(
        st.tuples(
            st.builds(Size, CHARS, CHARS, st.integers(0, 500), st.integers(0, 3), CHARS, st.integers(0, 2), CHARS),
            st.integers(0, 10**9), st.integers(0, 10**9), st.integers(1, 128),
        ),
        max_size=30,
    ),
    st.builds(Size, CHARS, CHARS, st.integers(1, 500), st.just(0), st.just(0), st.just(0), CHARS),
)  # fmt: skip
def test_whatever_upstreams_say_a_guess_stays_possible(learnt: list[tuple[Size, int, int, int]], size: Size) -> None:
    estimator = Estimator()
    for lesson in learnt:
        estimator.learn(*lesson)
    assert 1 <= estimator.prompt_tokens(size) <= size.ascii + size.other + 40 * size.messages + 1
    assert estimator.answer_tokens(None, 1) >= 1
    assert estimator.answer_tokens(7, 3) <= 21


def test_an_answers_length_is_learnt_and_never_more_than_allowed() -> None:
    estimator, size = Estimator(), Size(4, 0, 1, 0, 0)
    for _ in range(300):
        estimator.learn(size, 5, 40, 2)  # two answers of 20
    assert 20 <= estimator.answer_tokens(None, 1) <= 25
    assert estimator.answer_tokens(10, 3) == 30


@pytest.mark.parametrize("beside", [{"images": 1}, {"files": 1}, {"unknown": 9000}], ids=str)
def test_what_is_not_measured_is_not_learnt_from(beside: dict[str, int]) -> None:
    estimator, size = Estimator(), Size(100, 0, 1, 0, 0)
    before = estimator.prompt_tokens(size)
    estimator.learn(size._replace(**beside), 9000, 1, 1)
    assert estimator.prompt_tokens(size) == before


def test_a_few_settings_do_not_keep_it_from_learning() -> None:
    estimator, size = Estimator(), Size(100, 0, 1, 0, 0, unknown=30)
    before = estimator.prompt_tokens(size)
    estimator.learn(size, 90, 1, 1)
    assert estimator.prompt_tokens(size) > before


@pytest.mark.parametrize("make", [str, lambda text: "한" + text], ids=["ascii", "mixed"])
def test_a_long_prompt_is_guessed_at_once(make: Callable[[str], str]) -> None:
    assert 100_000 < Estimator().prompt_tokens(size_of(chat(user(make(words(100_000)))))) < 400_000
