"""What keeps requests apart, and what does not."""

import json
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stored_answers import SECRET, chat, completion, scope_of

from genkan.cache.scope import NO_MATTER, Scopes
from genkan.errors import InvalidRequest
from genkan.wire.chat import ChatRequest

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello there"},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "Where is my order?"},
]
#: Each is another request than `TALK` alone.
CHANGES: list[dict[str, Any]] = [
    {"temperature": 0},
    {"temperature": 1},
    {"temperature": 0.1},
    {"top_p": 0.5},
    {"top_k": 5},
    {"min_p": 0.1},
    {"seed": 1},
    {"seed": 2},
    {"stop": "."},
    {"stop": [".", ","]},
    {"stop": [",", "."]},
    {"max_tokens": 5},
    {"max_tokens": 6},
    {"presence_penalty": 1},
    {"frequency_penalty": 1},
    {"logit_bias": {"5": 1}},
    {"logit_bias": {"5": 2}},
    {"n": 2},
    {"tools": [TOOL]},
    {"tools": [TOOL, {**TOOL, "function": {**TOOL["function"], "name": "g"}}]},  # type: ignore[dict-item]  # a dict
    {"tool_choice": "none"},
    {"response_format": {"type": "json_object"}},
    {"reasoning_effort": "low"},
    {"cache_salt": "x"},
    {"ignore_eos": True},
    {"an_option_of_tomorrow": 1},
    {"an_option_of_tomorrow": True},
    {"an_option_of_tomorrow": "1"},
    {"an_option_of_tomorrow": [1]},
    {"an_option_of_tomorrow": {"a": [1.5]}},
    {"another_option": 1},
    {"model": "other"},
    {"messages": TALK[1:]},
    {"messages": [TALK[0], TALK[2], TALK[1], TALK[3]]},
    {"messages": [{"role": "developer", "content": "Be brief."}, *TALK[1:]]},
    {"messages": [{"role": "system", "content": "Be brief. "}, *TALK[1:]]},
    {"messages": [*TALK[:2], {"role": "assistant", "content": "Hello!"}, TALK[3]]},
    {"messages": [*TALK[:1], {"role": "user", "content": "Hello there", "name": "x"}, *TALK[2:]]},
    {"messages": [*TALK[:3], {**TALK[3], "name": "x"}]},
    {"messages": [*TALK[:3], {**TALK[3], "role": "system"}]},
    {"messages": [*TALK[:3], {**TALK[3], "role": "tool", "tool_call_id": "1"}]},
    {"messages": [*TALK[:3], {"role": "user", "content": [{"type": "text", "text": "Where is my order?", "x": 1}]}]},
    {"messages": [*TALK, TALK[2]]},
]


def test_every_change_is_another_partition() -> None:
    scopes = [scope_of(chat(**{"messages": TALK, **change})) for change in [{}, *CHANGES]]
    assert len({scope.partition for scope in scopes}) == len(scopes)
    assert len({scope.exact for scope in scopes}) == len(scopes)
    assert len({scope.key for scope in scopes}) == len(scopes)


def test_whoever_asks_and_whoever_answers_is_part_of_it() -> None:
    request = chat()
    scopes = [
        scope_of(request),
        scope_of(request, tenant="b"),
        scope_of(request, route="s"),
        scope_of(request, models=b"other"),
        scope_of(request, tenant="ar", route=""),  # joined they would be the same
        scope_of(completion("Where is my order?")),
        Scopes(b"z" * 32).of(request, tenant="a", route="r", models=b"m@u", normalised=True, per_user=False),
        scope_of(request, per_user=True),
        scope_of(chat(user="x"), per_user=True),
        scope_of(chat(safety_identifier="x"), per_user=True),
    ]
    assert len({scope.partition for scope in scopes}) == len(scopes)
    assert len({scope.key for scope in scopes}) == len(scopes)


def test_keys_that_cannot_matter_do_not() -> None:
    values: dict[str, Any] = {
        "stream": True,
        "stream_options": {"include_usage": True},
        "store": False,
        "metadata": {"a": "b"},
        "service_tier": "flex",
        "prompt_cache_key": "k",
        "prompt_cache_retention": "24h",
        "user": "u",
        "safety_identifier": "s",
        "genkan": {"cache_ttl_s": 5},
        "cache_control": "auto",
        "prompt_cache": True,
        "prefix_caching": True,
        "cache_ttl_seconds": 5,
        "high_priority": True,
    }
    assert values.keys() == NO_MATTER
    assert scope_of(chat(**values)) == scope_of(chat())


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ({"temperature": 0}, {"temperature": 0.0}),
        ({"temperature": 0}, {"temperature": -0.0}),
        ({"top_p": 1}, {"top_p": 1.0}),
        ({"max_tokens": 7}, {"max_completion_tokens": 7}),
        ({"max_tokens": 7}, {"max_completion_tokens": 7, "max_tokens": 7}),
        ({"logit_bias": {"1": 1, "2": 2}}, {"logit_bias": {"2": 2, "1": 1}}),
        ({"temperature": 0, "seed": 1}, {"seed": 1, "temperature": 0}),
    ],
)
def test_the_same_written_otherwise(one: dict[str, Any], two: dict[str, Any]) -> None:
    assert scope_of(chat(**one)) == scope_of(chat(**two))


@pytest.mark.parametrize("number", [1e300, -1e300, 2.0**63, 1e16, 2**64 - 1, -(2**63), 1e-300])
def test_any_number_can_be_written(number: float) -> None:
    assert scope_of(chat(x=number)).partition != scope_of(chat(x=1)).partition


@given(st.text(min_size=1), st.text(min_size=1))
def test_of_two_texts_one_partition_and_two_exact_digests(one: str, two: str) -> None:
    first, second = scope_of(chat(one)), scope_of(chat(two))
    assert first.partition == second.partition
    assert (first.exact == second.exact) == (one == two)
    assert first.text == one


@given(st.text(min_size=1))
def test_composed_or_not_is_one_key_and_not_the_same_request(text: str) -> None:
    composed, apart = unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text)
    first, second = scope_of(chat(composed)), scope_of(chat(apart))
    assert first.key == second.key
    assert (first.exact == second.exact) == (composed == apart)


def test_not_normalised_the_key_is_the_request() -> None:
    scope = scope_of(chat(), normalised=False)
    assert scope.key == scope.exact
    assert scope.key != scope_of(chat()).key


def test_a_single_text_part_is_a_text() -> None:
    parts = [{"type": "text", "text": "Where is my order?"}]
    scope = scope_of(chat(messages=[{"role": "user", "content": parts}]))
    assert scope.text == "Where is my order?"
    assert scope.partition != scope_of(chat()).partition  # templates may show parts otherwise


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": "x"},
        {"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "text", "text": "y"}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]},
    ],
)
def test_what_is_no_one_text_is_not_fuzzy(message: dict[str, Any]) -> None:
    scope = scope_of(chat(messages=[message]))
    assert scope.text is None
    assert scope.key == scope.exact != scope.partition


def test_completions_have_their_prompt_in_the_partition() -> None:
    assert scope_of(completion("a")).text is None
    assert scope_of(completion("a")).partition != scope_of(completion("A")).partition
    assert scope_of(completion([1, 2])).partition != scope_of(completion([12])).partition


def test_a_secret_may_be_of_any_length() -> None:
    for secret in (SECRET * 10, b"", b"x"):
        scope = Scopes(secret).of(chat(), tenant="", route="", models=b"", normalised=True, per_user=False)
        assert len(scope.partition) == len(scope.exact) == len(scope.key) == 16


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(_JSON, _JSON)
def test_an_option_that_nobody_here_knows_counts_whatever_it_is(one: Any, two: Any) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(two, sort_keys=True)
    assert (scope_of(chat(x=one)).partition == scope_of(chat(x=two)).partition) == same
    assert scope_of(chat(x=one)).partition != scope_of(chat()).partition


@given(
    st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), st.text(max_size=4)), min_size=1), st.data()
)
def test_any_change_of_any_message_but_the_last_text_is_another_partition(
    talk: list[tuple[str, str]], data: st.DataObject
) -> None:
    messages = [{"role": role, "content": text} for role, text in talk]
    at = data.draw(st.integers(0, len(messages) - 1))
    key = data.draw(st.sampled_from(["role", "content"]))
    changed = [dict(message) for message in messages]
    changed[at][key] = data.draw(st.sampled_from(["system", "user", "assistant"]) if key == "role" else st.text())
    one, two = scope_of(chat(messages=messages)), scope_of(chat(messages=changed))
    is_last_text = (at, key, messages[at]["role"]) == (len(messages) - 1, "content", "user")
    assert (one.partition == two.partition) == (changed == messages or is_last_text)
    assert (one.exact == two.exact) == (changed == messages)


@pytest.mark.parametrize("body", [rb'{"x":"\ud800"}', rb'{"x":NaN}', rb'{"x":1e999}', rb'{"x":18446744073709551616}'])
def test_what_could_not_be_written_never_gets_here(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        ChatRequest.parse(body)
