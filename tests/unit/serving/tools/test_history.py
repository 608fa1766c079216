"""Earlier calls and results, as templates know them."""

from typing import Any

import pytest

from genkan.errors import InvalidRequest
from genkan.serving.tools.history import has_calls, messages_of, one_call_a_message, with_short_ids

USER: dict[str, Any] = {"role": "user", "content": "Weather?"}


def call(call_id: str = "call_1", name: str = "get_weather", arguments: str = '{"city": "Oslo"}') -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def asked(*calls: Any, content: Any = None) -> dict[str, Any]:
    return {"role": "assistant", "content": content, "tool_calls": list(calls)}


def result(call_id: str = "call_1", content: Any = "rain") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def test_tells_plain_speech_from_calls() -> None:
    assert not has_calls([USER, {"role": "assistant", "content": "a", "tool_calls": []}])
    assert has_calls([USER, asked(call())])
    assert has_calls([result()])


def test_arguments_become_an_object_and_results_know_their_tool() -> None:
    assert messages_of([USER, asked(call()), result()]) == [
        USER,
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "get_weather", "arguments": {"city": "Oslo"}},
                }
            ],
        },
        {"role": "tool", "content": "rain", "tool_call_id": "call_1", "name": "get_weather"},
    ]


def test_content_is_one_string_and_a_developer_is_the_system() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    given: list[dict[str, Any]] = [
        {"role": "developer", "content": parts},
        {"role": "assistant", "content": "c", "tool_calls": []},
    ]
    assert messages_of(given) == [{"role": "system", "content": "ab"}, {"role": "assistant", "content": "c"}]


@pytest.mark.parametrize(
    ("written", "seen"), [("", {}), ("{}", {}), ('{"a": ', '{"a": '), ("[1]", "[1]"), ("[" * 100_000, "[" * 100_000)]
)
def test_arguments_that_are_no_object_stay_text(written: str, seen: Any) -> None:
    (message,) = messages_of([asked(call(arguments=written))])
    assert message["tool_calls"][0]["function"]["arguments"] == seen


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([asked(5)], "messages[0].tool_calls[0]"),
        ([{**asked(), "tool_calls": {}}], "messages[0].tool_calls"),
        ([asked(*[call()] * 129)], "messages[0].tool_calls"),
        ([asked({**call(), "id": None})], "messages[0].tool_calls[0].id"),
        ([asked({**call(), "type": "custom"})], "messages[0].tool_calls[0].type"),
        ([asked({**call(), "function": None})], "messages[0].tool_calls[0].function"),
        ([asked({**call(), "function": {}})], "messages[0].tool_calls[0].function.name"),
        (
            [asked({**call(), "function": {"name": "a", "arguments": {}}})],
            "messages[0].tool_calls[0].function.arguments",
        ),
        ([USER, {"role": "tool", "content": "x"}], "messages[1].tool_call_id"),
        ([result(), asked(call())], "messages[0].tool_call_id"),
    ],
)
def test_what_is_wrong_is_named(messages: list[dict[str, Any]], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        messages_of(messages)
    assert caught.value.param == param


def test_calls_can_have_a_message_each_with_its_result_after_it() -> None:
    plain = messages_of(
        [USER, asked(call("a"), call("b"), content="Two."), result("a", "1"), result("b", "2"), USER, asked(call("c"))]
    )
    single = one_call_a_message(plain)
    assert [(m["role"], [c["id"] for c in m.get("tool_calls", ())] or m["content"]) for m in single] == [
        ("user", "Weather?"),
        ("assistant", ["a"]),
        ("tool", "1"),
        ("assistant", ["b"]),
        ("tool", "2"),
        ("user", "Weather?"),
        ("assistant", ["c"]),
    ]
    assert [m["content"] for m in single if m["role"] == "assistant"] == ["Two.", "", ""]


def test_short_ids_are_nine_letters_and_digits_and_the_same_for_call_and_result() -> None:
    plain = messages_of([asked(call("call_1"), call("call_2"), call("a1b2c3d4e")), result("call_2")])
    message, answer = with_short_ids(plain)
    first, second, third = (its["id"] for its in message["tool_calls"])
    assert third == "a1b2c3d4e"
    assert first != second == answer["tool_call_id"]
    assert all(len(short) == 9 and short.isalnum() and short.isascii() for short in (first, second))
    assert plain[0]["tool_calls"][0]["id"] == "call_1"  # the messages given are not changed
    assert with_short_ids(plain) == [message, answer]
