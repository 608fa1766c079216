"""Which options the engine honours, ignores on purpose, or refuses."""

from typing import Any

import pytest

from genkan.engine.client import Capability
from genkan.errors import UnsupportedOption
from genkan.serving.options import can_form, form_name, refuse_form, refuse_unsupported
from genkan.wire.chat import ChatRequest, CompletionRequest

ALL = frozenset(Capability)
NOTHING: frozenset[Capability] = frozenset()


def chat(**more: Any) -> ChatRequest:
    return ChatRequest.from_object({"model": "m", "messages": [{"role": "user", "content": "hi"}], **more})


def completion(**more: Any) -> CompletionRequest:
    return CompletionRequest.from_object({"model": "m", "prompt": "hi", **more})


def refusal(request: ChatRequest | CompletionRequest, capabilities: frozenset[Capability] = ALL) -> UnsupportedOption:
    with pytest.raises(UnsupportedOption) as caught:
        refuse_unsupported(request, capabilities)
    return caught.value


#: Every engine honours these.
HONOURED = {
    "stream": True,
    "stream_options": {"include_usage": True},
    "max_tokens": 5,
    "temperature": 1.5,
    "top_p": 0.5,
    "stop": ["a"],
    "stop_token_ids": [1],
    "include_stop_str_in_output": True,
}
#: These need an engine that can do it.
NEEDING: list[tuple[str, Any, Capability]] = [
    ("top_k", 40, Capability.TOP_K),
    ("min_p", 0.1, Capability.MIN_P),
    ("seed", 0, Capability.SEED),
    ("ignore_eos", True, Capability.IGNORE_EOS),
    ("min_tokens", 1, Capability.MIN_TOKENS),
    ("repetition_penalty", 1.1, Capability.REPETITION_PENALTY),
    ("presence_penalty", 0.1, Capability.PRESENCE_PENALTY),
    ("frequency_penalty", -1, Capability.FREQUENCY_PENALTY),
    ("logit_bias", {"1": 0}, Capability.LOGIT_BIAS),
    ("n", 2, Capability.SEVERAL_ANSWERS),
    ("priority", 1, Capability.PRIORITY),
    ("cache_salt", "s", Capability.CACHE_SALT),
]
NEEDING_OURS: list[tuple[str, Any, Capability]] = [
    ("priority", 1, Capability.PRIORITY),
    ("prefix_cache", False, Capability.PREFIX_CACHE_SWITCH),
    ("prefix_ttl_s", 60, Capability.PREFIX_TTL),
    ("prefix_pin", True, Capability.PREFIX_PIN),
]
LABELS = {
    "user": "u",
    "metadata": {"a": "b"},
    "safety_identifier": "s",
    "prompt_cache_key": "k",
    "prompt_cache_retention": "24h",
}
OURS = {
    "genkan": {"cache": "no-cache", "prefix_cache": True, "prefix_pin": False, "priority": 0, "tags": ["a"]},
    "prompt_cache": True,
    "cache_control": "auto",
}
NEUTRAL: list[tuple[str, Any]] = [
    ("store", False), ("service_tier", "auto"), ("service_tier", "default"), ("n", 1), ("beam_width", 1),
    ("use_beam_search", False), ("presence_penalty", 0), ("frequency_penalty", 0.0), ("repetition_penalty", 1.0),
    ("logit_bias", {}), ("top_logprobs", 0), ("echo", False), ("best_of", 1), ("suffix", ""), ("tools", []),
    ("functions", []), ("tool_choice", "none"), ("tool_choice", "auto"), ("function_call", "auto"),
    ("parallel_tool_calls", True), ("parallel_tool_calls", False), ("modalities", ["text"]), ("min_tokens", 0),
    ("top_k", -1), ("min_p", 0), ("ignore_eos", False), ("priority", 0),
]  # fmt: skip
ACTIVE: list[tuple[str, Any]] = [
    ("store", True), ("service_tier", "flex"), ("beam_width", 4), ("use_beam_search", True), ("suffix", "x"),
    ("modalities", ["text", "audio"]),
]  # fmt: skip
ACTIVE_IN_CHAT: list[tuple[str, Any]] = [("echo", True), ("best_of", 2), ("best_of", True)]
ACTIVE_IN_COMPLETION: list[tuple[str, Any]] = [
    ("tools", [{"type": "function"}]), ("functions", [{"name": "f"}]), ("tool_choice", "required"),
    ("tool_choice", {"type": "function"}), ("function_call", {"name": "f"}), ("top_logprobs", 1),
]  # fmt: skip
UNKNOWN = {"reasoning_effort": "low", "audio": {}, "prediction": {}, "web_search_options": {}, "prompt_logprobs": 1}


@pytest.mark.parametrize("options", [HONOURED, LABELS, OURS], ids=["honoured", "labels", "ours"])
def test_accepts_what_every_engine_does_and_what_changes_no_answer(options: dict[str, Any]) -> None:
    refuse_unsupported(chat(**options), NOTHING)
    refuse_unsupported(completion(**options), NOTHING)


@pytest.mark.parametrize(("name", "value"), NEUTRAL)
def test_accepts_an_option_that_changes_nothing(name: str, value: Any) -> None:
    refuse_unsupported(completion(**{name: value}), NOTHING)
    refuse_unsupported(chat(**{name: value}), NOTHING)


@pytest.mark.parametrize(("name", "value", "capability"), NEEDING)
def test_accepts_an_option_that_its_engine_is_capable_of_and_else_refuses_it_by_name(
    name: str, value: Any, capability: Capability
) -> None:
    refuse_unsupported(chat(**{name: value}), frozenset({capability}))
    error = refusal(completion(**{name: value}), ALL - {capability})
    assert (error.param, error.code, error.status) == (name, "unsupported_parameter", 400)
    assert "its engine cannot do that" in error.message


@pytest.mark.parametrize(("name", "value", "capability"), NEEDING_OURS)
def test_so_it_is_with_our_own_options(name: str, value: Any, capability: Capability) -> None:
    request = chat(genkan={name: value})
    refuse_unsupported(request, frozenset({capability}))
    assert refusal(request, ALL - {capability}).param == f"genkan.{name}"


def test_every_capability_of_answering_is_asked_about() -> None:
    asked = {capability for _, _, capability in (*NEEDING, *NEEDING_OURS)}
    forms = {Capability.JSON, Capability.REGEX, Capability.CHOICE, Capability.GRAMMAR}
    logprobs = {Capability.LOGPROBS, Capability.PROMPT_LOGPROBS}
    administration = {Capability.PREFIX_CACHE_VIEW, Capability.PREFIX_CACHE_PURGE}
    together = {Capability.CONTINUED_RULES}  # asked about where a form or a penalty meets a text: see `beginning.py`
    assert asked | forms | logprobs | administration | together == ALL


@pytest.mark.parametrize(("name", "value"), ACTIVE)
def test_refuses_what_no_engine_does(name: str, value: Any) -> None:
    for request in (chat(**{name: value}), completion(**{name: value})):
        error = refusal(request)
        assert (error.param, error.code, error.status) == (name, "unsupported_parameter", 400)
        assert "only its neutral value" in error.message


@pytest.mark.parametrize(("name", "value"), ACTIVE_IN_CHAT)
def test_refuses_what_only_completions_have(name: str, value: Any) -> None:
    assert "only its neutral value" in refusal(chat(**{name: value})).message


@pytest.mark.parametrize(("name", "value"), ACTIVE_IN_COMPLETION)
def test_refuses_what_only_chats_have(name: str, value: Any) -> None:
    assert "only its neutral value" in refusal(completion(**{name: value})).message


@pytest.mark.parametrize(("name", "value"), UNKNOWN.items())
def test_refuses_an_option_it_does_not_know(name: str, value: Any) -> None:
    error = refusal(chat(**{name: value}))
    assert (error.param, error.message) == (
        name, f"'{name}' is not supported by this model: the engine does not know it"
    )  # fmt: skip


@pytest.mark.parametrize("name", [*dict(ACTIVE), *dict(ACTIVE_IN_COMPLETION), *UNKNOWN])
def test_null_is_the_same_as_absent(name: str) -> None:
    refuse_unsupported(chat(**{name: None}), NOTHING)


def test_says_which_value_is_neutral() -> None:
    assert "'auto' or 'default'" in refusal(chat(service_tier="flex")).message


def test_log_probabilities_need_an_engine_that_tells_them() -> None:
    without = ALL - {Capability.LOGPROBS}
    for request in (chat(logprobs=True), completion(logprobs=0), completion(logprobs=5)):
        refuse_unsupported(request, ALL)
        assert refusal(request, without).param == "logprobs"
    refuse_unsupported(chat(logprobs=False, top_logprobs=0), without)


def test_those_of_an_echoed_prompt_need_one_that_tells_those() -> None:
    without = ALL - {Capability.PROMPT_LOGPROBS}
    request = completion(logprobs=0, echo=True)
    refuse_unsupported(request, ALL)
    assert refusal(request, without).param == "echo"
    refuse_unsupported(completion(echo=True), without)


FORMS: list[tuple[dict[str, Any], str]] = [
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"structured_outputs": {"regex": "a"}}, "structured_outputs"),
    ({"response_format": {"type": "text"}, "guided_choice": ["a"]}, "guided_choice"),
    ({"tools": []}, "tools"),
]


@pytest.mark.parametrize(("options", "name"), FORMS)
def test_a_form_of_the_answer_is_looked_at_by_its_kind(options: dict[str, Any], name: str) -> None:
    refuse_unsupported(chat(**options), NOTHING)
    assert form_name(chat(**options)) == name


@pytest.mark.parametrize(
    ("kind", "capability"),
    [
        ("json_object", Capability.JSON),
        ("json_schema", Capability.JSON),
        ("regex", Capability.REGEX),
        ("choice", Capability.CHOICE),
        ("lark", Capability.GRAMMAR),
    ],
)
def test_a_form_needs_an_engine_that_can_keep_to_it(kind: Any, capability: Capability) -> None:
    refuse_form(kind, frozenset({capability}), "p")
    assert can_form(kind, frozenset({capability}))
    assert not can_form(kind, ALL - {capability})
    with pytest.raises(UnsupportedOption) as caught:
        refuse_form(kind, ALL - {capability}, "p")
    assert caught.value.param == "p"


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
    refuse_unsupported(chat(genkan=extras), NOTHING)


def test_refuses_the_older_results_of_functions() -> None:
    assert refusal(chat(messages=[{"role": "function", "content": "x"}])).param == "messages[0].role"


def test_accepts_calls_of_tools_and_their_results() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    asked = {"role": "assistant", "content": None, "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": "c", "name": "f", "content": "4"}
    refuse_unsupported(chat(messages=[asked, result]), NOTHING)


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "user", "content": "x", "tool_calls": [{"type": "custom"}]}, "messages[0].tool_calls"),
        ({"role": "user", "content": "x", "tool_call_id": "c"}, "messages[0].tool_call_id"),
        ({"role": "assistant", "content": "x", "audio": {"id": "a"}}, "messages[0].audio"),
        ({"role": "assistant", "content": "x", "function_call": {"name": "f"}}, "messages[0].function_call"),
    ],
)
def test_refuses_what_a_message_of_its_role_has_not(message: dict[str, Any], param: str) -> None:
    assert refusal(chat(messages=[message])).param == param


@pytest.mark.parametrize("empty", [None, [], ""])
def test_accepts_an_empty_field_of_a_message(empty: object) -> None:
    refuse_unsupported(
        chat(messages=[{"role": "assistant", "content": "x", "tool_calls": empty or None, "refusal": empty}]), NOTHING
    )


def test_accepts_text_in_parts() -> None:
    refuse_unsupported(chat(messages=[{"role": "user", "content": [{"type": "text", "text": "hi"}]}]), NOTHING)


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
        refuse_unsupported(ChatRequest.from_object(body), ALL)
    assert caught.value.param == param


def test_refuses_a_name_that_the_chat_template_would_not_show() -> None:
    assert refusal(chat(messages=[{"role": "user", "name": "Lan", "content": "hi"}])).param == "messages[0].name"
