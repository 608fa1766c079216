"""Which options the engine honours, ignores on purpose, or refuses."""

from typing import Any

import pytest

from genkan.errors import UnsupportedOption
from genkan.serving.options import refuse_unsupported
from genkan.wire.chat import ChatRequest, CompletionRequest


def chat(**more: Any) -> ChatRequest:
    return ChatRequest.from_object({"model": "m", "messages": [{"role": "user", "content": "hi"}], **more})


def completion(**more: Any) -> CompletionRequest:
    return CompletionRequest.from_object({"model": "m", "prompt": "hi", **more})


def refusal(request: ChatRequest | CompletionRequest) -> UnsupportedOption:
    with pytest.raises(UnsupportedOption) as caught:
        refuse_unsupported(request)
    return caught.value


HONOURED = {
    "stream": True,
    "stream_options": {"include_usage": True},
    "max_tokens": 5,
    "temperature": 1.5,
    "top_p": 0.5,
    "top_k": 40,
    "min_p": 0.1,
    "seed": 7,
    "stop": ["a"],
    "ignore_eos": True,
    "cache_salt": "s",
}
LABELS = {
    "user": "u",
    "metadata": {"a": "b"},
    "safety_identifier": "s",
    "prompt_cache_key": "k",
    "prompt_cache_retention": "24h",
}
OURS = {
    "genkan": {"cache": "no-cache", "prefix_cache": True, "prefix_ttl_s": 60, "priority": 0, "tags": ["a"]},
    "prompt_cache": True,
    "high_priority": True,
    "cache_control": "auto",
}
NEUTRAL: list[tuple[str, Any]] = [
    ("store", False),
    ("service_tier", "auto"),
    ("service_tier", "default"),
    ("n", 1), ("best_of", 1), ("beam_width", 1), ("use_beam_search", False), ("presence_penalty", 0),
    ("frequency_penalty", 0.0), ("repetition_penalty", 1.0), ("logit_bias", {}), ("top_logprobs", 0),
    ("echo", False), ("suffix", ""), ("tools", []), ("functions", []),
    ("tool_choice", "none"), ("tool_choice", "auto"), ("function_call", "auto"), ("parallel_tool_calls", True),
    ("parallel_tool_calls", False), ("response_format", {"type": "text"}), ("modalities", ["text"]),
    ("min_tokens", 0),
]  # fmt: skip
ACTIVE: list[tuple[str, Any]] = [
    ("store", True),
    ("service_tier", "flex"),
    ("n", 2), ("best_of", 2), ("beam_width", 4), ("use_beam_search", True), ("presence_penalty", 0.1),
    ("frequency_penalty", -1), ("repetition_penalty", 1.1), ("repetition_penalty", True), ("logit_bias", {"1": 1}),
    ("echo", True), ("suffix", "x"),
    ("tools", [{"type": "function"}]), ("functions", [{"name": "f"}]), ("tool_choice", "required"),
    ("tool_choice", {"type": "function"}), ("function_call", {"name": "f"}),
    ("response_format", {"type": "json_object"}), ("response_format", {"type": "json_schema", "json_schema": {}}),
    ("modalities", ["text", "audio"]),
    ("min_tokens", 1), ("min_tokens", False),
]  # fmt: skip
UNKNOWN = {"reasoning_effort": "low", "audio": {}, "prediction": {}, "web_search_options": {}, "stop_token_ids": [1]}


@pytest.mark.parametrize("options", [HONOURED, LABELS, OURS], ids=["honoured", "labels", "ours"])
def test_accepts_what_it_honours_and_what_changes_no_answer(options: dict[str, Any]) -> None:
    refuse_unsupported(chat(**options))
    refuse_unsupported(completion(**options))


@pytest.mark.parametrize(("name", "value"), NEUTRAL)
def test_accepts_an_option_that_changes_nothing(name: str, value: Any) -> None:
    refuse_unsupported(completion(**{name: value}))


@pytest.mark.parametrize(("name", "value"), ACTIVE)
def test_refuses_an_option_that_would_change_the_answer(name: str, value: Any) -> None:
    error = refusal(completion(**{name: value}))
    assert (error.param, error.code, error.status) == (name, "unsupported_parameter", 400)
    assert "only its neutral value" in error.message


@pytest.mark.parametrize(("name", "value"), UNKNOWN.items())
def test_refuses_an_option_it_does_not_know(name: str, value: Any) -> None:
    error = refusal(chat(**{name: value}))
    assert (error.param, error.message) == (
        name, f"'{name}' is not supported by this model: the engine does not know it"
    )  # fmt: skip


@pytest.mark.parametrize("name", [*dict(ACTIVE), *UNKNOWN])
def test_null_is_the_same_as_absent(name: str) -> None:
    refuse_unsupported(chat(**{name: None}))


def test_says_which_value_is_neutral() -> None:
    assert "'auto' or 'default'" in refusal(chat(service_tier="flex")).message


@pytest.mark.parametrize(("name", "value"), [("logprobs", True), ("top_logprobs", 1)])
def test_refuses_log_probabilities_of_a_chat(name: str, value: Any) -> None:
    assert refusal(chat(**{name: value})).param == name


def test_zero_log_probabilities_of_a_completion_still_ask_for_some() -> None:
    assert refusal(completion(logprobs=0)).param == "logprobs"


def test_a_chat_may_turn_log_probabilities_off() -> None:
    refuse_unsupported(chat(logprobs=False, top_logprobs=0, max_completion_tokens=5))


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (chat(prompt="hi"), "prompt"),
        (completion(messages=[]), "messages"),
        (completion(max_completion_tokens=5), "max_completion_tokens"),
    ],
    ids=["prompt", "messages", "max_completion_tokens"],
)
def test_refuses_a_field_of_the_other_kind_of_request(request_: ChatRequest | CompletionRequest, param: str) -> None:
    assert refusal(request_).param == param


def test_repeats_only_the_beginning_of_a_long_name() -> None:
    assert len(refusal(chat(**{"x" * 9999: 1})).message) < 300


@pytest.mark.parametrize("extras", [{"cache": "only"}, {"cache": "no-store"}, {"cache_ttl_s": 60}])
def test_stored_answers_are_not_its_matter(extras: dict[str, Any]) -> None:
    refuse_unsupported(chat(genkan=extras))


@pytest.mark.parametrize("role", ["tool", "function"])
def test_refuses_the_results_of_tools(role: str) -> None:
    assert refusal(chat(messages=[{"role": role, "content": "x"}])).param == "messages[0].role"


@pytest.mark.parametrize("content", [None, "x"])
def test_refuses_a_call_of_a_tool(content: str | None) -> None:
    message = {"role": "assistant", "content": content, "tool_calls": [{"id": "1"}]}
    assert refusal(chat(messages=[message])).param == "messages[0].tool_calls"


@pytest.mark.parametrize("empty", [None, [], ""])
def test_accepts_an_empty_field_of_a_message(empty: object) -> None:
    refuse_unsupported(chat(messages=[{"role": "assistant", "content": "x", "tool_calls": empty, "refusal": empty}]))


def test_accepts_text_in_parts() -> None:
    refuse_unsupported(chat(messages=[{"role": "user", "content": [{"type": "text", "text": "hi"}]}]))


def test_refuses_a_part_that_is_no_text_and_names_it() -> None:
    parts = [{"type": "text", "text": "hi"}, {"type": "image_url", "image_url": {"url": "data:"}}]
    error = refusal(chat(messages=[{"role": "user", "content": parts}]))
    assert error.param == "messages[0].content[1].type"
    assert "only text parts; given: 'image_url'" in error.message


@pytest.mark.parametrize(
    ("extra", "param"),
    [
        ({"stream": True, "stream_options": {"include_usage": True, "every": 3}}, "stream_options.every"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "a", "lang": "vi"}]}]},
            "messages[0].content[0].lang",
        ),
    ],
)
def test_refuses_what_it_does_not_know_also_inside_of_objects(extra: dict[str, Any], param: str) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], **extra}
    with pytest.raises(UnsupportedOption) as caught:
        refuse_unsupported(ChatRequest.from_object(body))
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("extras", "param"),
    [
        ({"genkan": {"priority": 1}}, "genkan.priority"),
        ({"genkan": {"priority": -1}}, "genkan.priority"),
    ],
)
def test_refuses_to_hurry_while_it_cannot(extras: dict[str, Any], param: str) -> None:
    assert refusal(chat(**extras)).param == param


def test_refuses_a_name_that_the_chat_template_would_not_show() -> None:
    assert refusal(chat(messages=[{"role": "user", "name": "Lan", "content": "hi"}])).param == "messages[0].name"
