"""The typed view of chat and completion requests."""

import json
from typing import Any

import pytest

from genkan.errors import InvalidRequest
from genkan.wire.chat import ChatRequest, CompletionRequest, refuse_other_models
from genkan.wire.messages import ROLES
from genkan.wire.sampling import MAX_TOKENS, Sampling

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
COMPLETION: dict[str, Any] = {"model": "m", "prompt": "hi"}
KINDS = [(ChatRequest, CHAT), (CompletionRequest, COMPLETION)]

Kind = type[ChatRequest] | type[CompletionRequest]
each_kind = pytest.mark.parametrize(("kind", "body"), KINDS, ids=["chat", "completion"])


def chat(**more: Any) -> ChatRequest:
    return ChatRequest.from_object({**CHAT, **more})


def completion(**more: Any) -> CompletionRequest:
    return CompletionRequest.from_object({**COMPLETION, **more})


def with_message(**message: Any) -> ChatRequest:
    return chat(messages=[{"role": "user", "content": "hi"}, message])


@each_kind
def test_the_smallest_body_leaves_all_to_the_model(kind: Kind, body: dict[str, Any]) -> None:
    request = kind.parse(json.dumps(body).encode())
    assert (request.model, request.stream, request.include_usage) == ("m", False, False)
    assert request.sampling == Sampling()


@each_kind
def test_reads_the_sampling_options(kind: Kind, body: dict[str, Any]) -> None:
    given = {"max_tokens": 5, "temperature": 0, "top_p": 0.5, "seed": -7, "stop": ["a", "b"], "n": 2}
    given |= {"top_k": 40, "min_p": 0.05, "ignore_eos": True, "presence_penalty": -1, "frequency_penalty": 0.5}
    given |= {"repetition_penalty": 1.1, "logit_bias": {"7": -100, "9": 1}, "min_tokens": 2, "stop_token_ids": [3, 4]}
    given |= {"include_stop_str_in_output": True}
    assert kind.from_object({**body, **given}).sampling == Sampling(
        max_tokens=5,
        temperature=0.0,
        top_p=0.5,
        top_k=40,
        min_p=0.05,
        seed=-7,
        stop=("a", "b"),
        ignore_eos=True,
        n=2,
        presence_penalty=-1.0,
        frequency_penalty=0.5,
        repetition_penalty=1.1,
        logit_bias=((7, -100.0), (9, 1.0)),
        min_tokens=2,
        stop_ids=(3, 4),
        shows_stop=True,
    )


@each_kind
@pytest.mark.parametrize("everything", [-1, 0, None])
def test_a_top_k_of_all_is_none(kind: Kind, body: dict[str, Any], everything: int | None) -> None:
    assert kind.from_object({**body, "top_k": everything}).sampling == Sampling()


@each_kind
def test_a_cache_salt_is_read_and_is_none_unless_given(kind: Kind, body: dict[str, Any]) -> None:
    assert kind.from_object({**body, "cache_salt": "tenant 7"}).cache_salt == "tenant 7"
    assert kind.from_object(body).cache_salt is None
    assert kind.from_object({**body, "cache_salt": None}).cache_salt is None


@each_kind
def test_keeps_the_whole_body_with_fields_it_does_not_know(kind: Kind, body: dict[str, Any]) -> None:
    whole = {**body, "later": {"x": [1]}, "genkan": {"cache": "no-store"}}
    request = kind.from_object(whole)
    assert request.raw == whole
    assert request.extras.cache == "no-store"


def test_messages_and_prompts_are_those_of_the_body() -> None:
    assert chat().messages == CHAT["messages"]
    assert completion().prompts == ["hi"]


@each_kind
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", 1), ("model", "m" * 257), ("stream", "true"), ("stream", 1), ("stream_options", True),
        ("max_tokens", 0), ("max_tokens", MAX_TOKENS + 1), ("max_tokens", 1.0), ("temperature", -0.1),
        ("temperature", 2.1), ("temperature", "1"), ("top_p", 0), ("top_p", 1.1), ("seed", 2**63), ("seed", 0.5),
        ("n", 0), ("n", 129), ("n", True), ("presence_penalty", 2.1), ("presence_penalty", False),
        ("frequency_penalty", -2.1), ("logit_bias", []), ("stop", 1), ("stop", ""), ("stop", "a" * 257),
        ("stop", ["a"] * 5), ("user", 1), ("store", "yes"), ("metadata", []), ("genkan", 1),
        ("top_k", -2), ("top_k", 1_000_001), ("top_k", 40.0), ("top_k", False), ("top_k", "40"), ("min_p", -0.01),
        ("min_p", 1.01), ("min_p", "0.1"), ("min_p", True), ("ignore_eos", 1), ("ignore_eos", "true"),
        ("cache_salt", ""), ("cache_salt", "s" * 257), ("cache_salt", 1), ("cache_salt", ["s"]),
        ("repetition_penalty", 0), ("repetition_penalty", 0.001), ("repetition_penalty", 10.1),
        ("repetition_penalty", True), ("min_tokens", -1), ("min_tokens", 1.0), ("min_tokens", "1"),
        ("stop_token_ids", 1), ("stop_token_ids", list(range(65))), ("include_stop_str_in_output", 1),
        ("priority", 0.5), ("priority", "high"), ("priority", 2**31),
    ],
)  # fmt: skip
def test_refuses_a_wrong_field_by_name(kind: Kind, body: dict[str, Any], field: str, value: object) -> None:
    with pytest.raises(InvalidRequest, match=f"'{field}'") as caught:
        kind.from_object({**body, field: value})
    assert caught.value.param == field


WRONG_IN_ORDER = {
    "model": 1, "user": 1, "stream": 1, "stream_options": 1, "cache_salt": "", "genkan": 1, "max_tokens": 0,
    "presence_penalty": 3, "frequency_penalty": 3, "repetition_penalty": 0, "logit_bias": 1, "temperature": 3,
    "top_p": 0, "top_k": -2, "min_p": 2, "seed": "1", "stop": 1, "stop_token_ids": 1, "include_stop_str_in_output": 1,
    "ignore_eos": 1, "min_tokens": -1, "n": 0,
}  # fmt: skip


@each_kind
@pytest.mark.parametrize("first", range(len(WRONG_IN_ORDER)))
def test_of_several_wrong_fields_the_same_is_told_wherever_they_stand(
    kind: Kind, body: dict[str, Any], first: int
) -> None:
    wrong = list(WRONG_IN_ORDER.items())[first:]
    for order in (wrong, wrong[::-1]):
        with pytest.raises(InvalidRequest) as caught:
            kind.from_object(
                {**dict(order), **{name: given for name, given in body.items() if name not in dict(order)}}
            )
        assert caught.value.param == wrong[0][0]


def test_of_both_names_of_max_tokens_the_newer_is_told_first() -> None:
    with pytest.raises(InvalidRequest) as caught:
        chat(max_tokens=0, max_completion_tokens=0)
    assert caught.value.param == "max_completion_tokens"


@each_kind
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", "m" * 256), ("max_tokens", 1), ("max_tokens", MAX_TOKENS), ("temperature", 0), ("temperature", 2),
        ("top_p", 1), ("top_p", 1e-9), ("seed", -(2**63)), ("seed", 2**63 - 1), ("n", 128), ("presence_penalty", -2),
        ("frequency_penalty", 2), ("logit_bias", {}), ("logit_bias", {"50256": -100}), ("stop", []),
        ("stop", "a" * 256), ("stop", ["a"] * 4), ("top_k", -1), ("top_k", 1), ("top_k", 1_000_000), ("min_p", 0),
        ("min_p", 1), ("ignore_eos", False), ("cache_salt", "s"), ("cache_salt", "s" * 256),
        ("repetition_penalty", 0.01), ("repetition_penalty", 10), ("min_tokens", 0), ("min_tokens", MAX_TOKENS),
        ("stop_token_ids", []), ("stop_token_ids", list(range(64))), ("priority", -(2**31) + 1),
        ("logit_bias", {str(token): 0 for token in range(300)}),
    ],
)  # fmt: skip
def test_accepts_a_field_at_the_end_of_its_range(kind: Kind, body: dict[str, Any], field: str, value: object) -> None:
    assert kind.from_object({**body, field: value}).raw[field] == value


@each_kind
@pytest.mark.parametrize(
    "field",
    [
        "temperature", "stop", "stream", "stream_options", "n", "logit_bias", "max_tokens", "min_p", "ignore_eos",
        "repetition_penalty", "min_tokens", "stop_token_ids", "include_stop_str_in_output", "logprobs", "priority",
    ],
)  # fmt: skip
def test_null_is_the_same_as_absent(kind: Kind, body: dict[str, Any], field: str) -> None:
    request = kind.from_object({**body, field: None})
    assert (request.sampling, request.stream, request.include_usage) == (Sampling(), False, False)


@pytest.mark.parametrize("field", ["model", "messages"])
@pytest.mark.parametrize("extra", [{}, {"null": True}], ids=["absent", "null"])
def test_a_chat_without_a_required_field_is_refused(field: str, extra: dict[str, Any]) -> None:
    body = {**CHAT, field: None}
    if not extra:
        del body[field]
    with pytest.raises(InvalidRequest, match=f"Missing required parameter: '{field}'"):
        ChatRequest.from_object(body)


@pytest.mark.parametrize("field", ["model", "prompt"])
def test_a_completion_without_a_required_field_is_refused(field: str) -> None:
    with pytest.raises(InvalidRequest, match=f"Missing required parameter: '{field}'"):
        CompletionRequest.from_object({**COMPLETION, field: None})


@each_kind
def test_usage_in_the_stream_is_read(kind: Kind, body: dict[str, Any]) -> None:
    assert kind.from_object({**body, "stream": True, "stream_options": {"include_usage": True}}).include_usage


@each_kind
@pytest.mark.parametrize("options", [{}, {"include_usage": False}, {"include_usage": None}, {"later": 1}])
def test_usage_in_the_stream_is_off_unless_asked_for(kind: Kind, body: dict[str, Any], options: dict[str, Any]) -> None:
    assert not kind.from_object({**body, "stream": True, "stream_options": options}).include_usage


@each_kind
@pytest.mark.parametrize("option", ["include_usage", "include_obfuscation"])
def test_a_stream_option_of_the_wrong_type_is_refused(kind: Kind, body: dict[str, Any], option: str) -> None:
    with pytest.raises(InvalidRequest, match=f"'stream_options.{option}'"):
        kind.from_object({**body, "stream": True, "stream_options": {option: 1}})


@each_kind
def test_stream_options_need_a_stream(kind: Kind, body: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="only allowed when 'stream' is true"):
        kind.from_object({**body, "stream_options": {}})


def test_a_stop_string_alone_is_a_list_of_one() -> None:
    assert chat(stop="\n").sampling.stop == ("\n",)


@pytest.mark.parametrize("entry", ["", "a" * 257, None, 1])
def test_a_wrong_stop_entry_is_refused_by_its_index(entry: object) -> None:
    with pytest.raises(InvalidRequest, match=r"'stop\[1\]'"):
        chat(stop=["a", entry])


@pytest.mark.parametrize(
    "bias",
    [
        *[{token: 1} for token in ("a", "-1", "", "1.0", "٣", "1" * 11, "1" * 9999)],
        {"1": 101},
        {"1": "1"},
        {str(token): 0 for token in range(301)},
    ],
)
def test_a_wrong_logit_bias_is_refused(bias: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="logit_bias"):
        chat(logit_bias=bias)


def test_max_completion_tokens_goes_before_its_older_name() -> None:
    assert chat(max_completion_tokens=3).sampling.max_tokens == 3


def test_both_names_of_max_tokens_may_agree() -> None:
    assert chat(max_completion_tokens=3, max_tokens=3).sampling.max_tokens == 3


def test_two_different_max_tokens_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="contradict each other") as caught:
        chat(max_completion_tokens=3, max_tokens=4)
    assert caught.value.param == "max_tokens"


@pytest.mark.parametrize(
    ("field", "value"),
    [("max_completion_tokens", 0), ("logprobs", 1), ("top_logprobs", 21), ("messages", {}), ("messages", [])],
)
def test_refuses_a_wrong_field_of_a_chat(field: str, value: object) -> None:
    with pytest.raises(InvalidRequest, match=f"'{field}'"):
        chat(**{field: value})


@pytest.mark.parametrize(
    ("field", "value"), [("logprobs", True), ("logprobs", 21), ("best_of", 0), ("echo", 1), ("suffix", 1)]
)
def test_refuses_a_wrong_field_of_a_completion(field: str, value: object) -> None:
    with pytest.raises(InvalidRequest, match=f"'{field}'"):
        completion(**{field: value})


@pytest.mark.parametrize(
    ("options", "logprobs"),
    [
        ({}, None),
        ({"logprobs": False, "top_logprobs": 0}, None),
        ({"logprobs": None, "top_logprobs": None}, None),
        ({"logprobs": True}, 0),
        ({"logprobs": True, "top_logprobs": 20}, 20),
    ],
)
def test_a_chat_says_how_many_log_probabilities_it_wants(options: dict[str, Any], logprobs: int | None) -> None:
    assert chat(**options).sampling.logprobs == logprobs


@pytest.mark.parametrize("options", [{}, {"logprobs": False}, {"logprobs": None}])
def test_a_chat_that_wants_none_cannot_want_the_likeliest(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="only allowed when 'logprobs' is true") as caught:
        chat(top_logprobs=1, **options)
    assert caught.value.param == "top_logprobs"


@pytest.mark.parametrize("logprobs", [None, 0, 20])
def test_a_completion_says_it_with_one_number(logprobs: int | None) -> None:
    assert completion(logprobs=logprobs).sampling.logprobs == logprobs


def test_only_an_echo_may_consist_of_no_token() -> None:
    request = completion(max_tokens=0, echo=True)
    assert (request.echo, request.sampling.max_tokens) == (True, 0)
    for echo in (False, None):
        with pytest.raises(InvalidRequest, match="'max_tokens' must be an integer between 1"):
            completion(max_tokens=0, echo=echo)


def test_the_least_number_of_tokens_is_not_above_the_most() -> None:
    assert completion(min_tokens=5, max_tokens=5).sampling.min_tokens == 5
    with pytest.raises(InvalidRequest, match="at most max_tokens, 4; given: 5") as caught:
        chat(min_tokens=5, max_completion_tokens=4)
    assert caught.value.param == "min_tokens"


@pytest.mark.parametrize(
    ("ids", "param"), [([1, "2"], "stop_token_ids[1]"), ([True], "stop_token_ids[0]"), ([-1], "stop_token_ids[0]")]
)
def test_a_wrong_stop_id_is_refused_by_its_index(ids: list[Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        chat(stop_token_ids=ids)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("options", "priority"),
    [
        ({"genkan": {"priority": 5}}, 5),
        ({"priority": 5}, -5),
        ({"priority": -5, "genkan": {"priority": 5}}, 5),
        ({"priority": 1_800_000_000}, -1_800_000_000),
        ({"priority": None, "genkan": {"priority": 5}}, 5),
    ],
)
def test_vllms_priority_is_ours_the_other_way_round(options: dict[str, Any], priority: int) -> None:
    request = chat(**options)
    assert request.extras.priority == priority
    assert request.raw.keys() >= options.keys()  # an upstream that is no engine of ours gets vLLM's as it came


def test_two_priorities_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="contradict each other") as caught:
        chat(priority=5, genkan={"priority": 5})
    assert caught.value.param == "priority"


CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def test_calls_and_their_results_are_messages() -> None:
    messages = [
        CHAT["messages"][0],
        {"role": "assistant", "content": None, "tool_calls": [CALL, {**CALL, "id": "call_2"}]},
        {"role": "assistant", "tool_calls": [{"type": "custom", "id": "c", "custom": {"name": "f", "input": "x"}}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "4"},
        {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "4"}]},
    ]
    assert chat(messages=messages).messages == messages


@pytest.mark.parametrize(
    ("calls", "path"),
    [
        ({}, ""), ([1], "[0]"), ([CALL, {**CALL, "id": 1}], "[1].id"), ([{**CALL, "id": "i" * 257}], "[0].id"),
        ([{**CALL, "type": 1}], "[0].type"), ([{"id": "c", "type": "function"}], "[0].function"),
        ([{**CALL, "function": "f"}], "[0].function"), ([{**CALL, "function": {}}], "[0].function.name"),
        ([{**CALL, "function": {"name": "n" * 257}}], "[0].function.name"),
        ([{**CALL, "function": {"name": "f", "arguments": {}}}], "[0].function.arguments"), ([CALL] * 129, ""),
    ],
)  # fmt: skip
def test_refuses_a_wrong_call_by_its_path(calls: Any, path: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        with_message(role="assistant", content=None, tool_calls=calls)
    assert caught.value.param == f"messages[1].tool_calls{path}"


@pytest.mark.parametrize(("field", "value"), [("tool_call_id", 1), ("tool_call_id", "i" * 257), ("name", "n" * 257)])
def test_refuses_a_wrong_result_by_its_path(field: str, value: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        with_message(role="tool", content="4", **{field: value})
    assert caught.value.param == f"messages[1].{field}"


@pytest.mark.parametrize("role", ROLES)
def test_every_role_may_speak(role: str) -> None:
    assert with_message(role=role, content="x").messages[1]["role"] == role


@pytest.mark.parametrize("role", ["assistant", "function"])
def test_who_calls_a_tool_needs_no_content(role: str) -> None:
    assert with_message(role=role, content=None).messages[1]["content"] is None


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"content": "x"}, "messages[1].role"),
        ({"role": "User", "content": "x"}, "messages[1].role"),
        ({"role": 1, "content": "x"}, "messages[1].role"),
        ({"role": "user"}, "messages[1].content"),
        ({"role": "system", "content": None}, "messages[1].content"),
        ({"role": "user", "content": 1}, "messages[1].content"),
        ({"role": "user", "content": {"text": "x"}}, "messages[1].content"),
        ({"role": "user", "content": []}, "messages[1].content"),
        ({"role": "user", "content": "x", "name": 1}, "messages[1].name"),
        ({"role": "user", "content": ["x"]}, "messages[1].content[0]"),
        ({"role": "user", "content": [{"text": "x"}]}, "messages[1].content[0].type"),
        ({"role": "user", "content": [{"type": 1}]}, "messages[1].content[0].type"),
        ({"role": "user", "content": [{"type": "text"}]}, "messages[1].content[0].text"),
        ({"role": "user", "content": [{"type": "text", "text": 1}]}, "messages[1].content[0].text"),
    ],
)
def test_refuses_a_wrong_message_by_its_path(message: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        with_message(**message)
    assert caught.value.param == param


@pytest.mark.parametrize("message", ["hi", None, ["hi"], 1])
def test_refuses_a_message_that_is_no_object(message: object) -> None:
    with pytest.raises(InvalidRequest, match=r"Invalid type for 'messages\[0\]': expected an object"):
        chat(messages=[message])


def test_parts_of_a_kind_it_does_not_know_are_left_to_the_upstream() -> None:
    content = [{"type": "text", "text": ""}, {"type": "image_url", "image_url": {"url": "data:"}}]
    assert with_message(role="user", content=content).messages[1]["content"] == content


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("", [""]),
        ("hi", ["hi"]),
        (["a", "b"], ["a", "b"]),
        ([0, 1], [[0, 1]]),
        ([[1], [2, 3]], [[1], [2, 3]]),
    ],
)
def test_a_prompt_is_a_text_or_token_ids_or_a_list_of_either(prompt: object, prompts: list[Any]) -> None:
    assert completion(prompt=prompt).prompts == prompts


@pytest.mark.parametrize(
    ("prompt", "param"),
    [
        (1, "prompt"),
        ({}, "prompt"),
        ([], "prompt"),
        ([None], "prompt[0]"),
        ([True], "prompt[0]"),
        (["a", 1], "prompt[1]"),
        ([1, "a"], "prompt[1]"),
        ([1, True], "prompt[1]"),
        ([1, [2]], "prompt[1]"),
        ([1, -1], "prompt[1]"),
        ([1, 2.0], "prompt[1]"),
        ([[1], []], "prompt[1]"),
        ([[1], 2], "prompt[1]"),
        ([[1], [2, "a"]], "prompt[1][1]"),
    ],
)
def test_refuses_a_wrong_prompt_by_its_path(prompt: object, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        completion(prompt=prompt)
    assert caught.value.param == param


@pytest.mark.parametrize("field", ["models", "fallbacks"])
def test_other_models_are_refused_by_the_name_of_their_field(field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        refuse_other_models(chat(**{field: ["a-dearer-one"]}))
    assert caught.value.param == field
    assert caught.value.should_retry is False


@pytest.mark.parametrize("fields", [{}, {"models": None}, {"models": []}], ids=str)
def test_who_names_no_other_models_passes(fields: dict[str, Any]) -> None:
    refuse_other_models(chat(**fields))
