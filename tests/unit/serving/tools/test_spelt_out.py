"""Calls and results in the text of ordinary messages."""

from tool_rigs import tools

from genkan.serving.tools.spelt_out import with_tools, without_calls

CALL = {"id": "a", "type": "function", "function": {"name": "get_time", "arguments": {}}}
SPELT = '<tool_call>\n{"name": "get_time", "arguments": {}}\n</tool_call>'


def test_a_call_stands_after_what_was_said_with_it() -> None:
    said = [{"role": "assistant", "content": text, "tool_calls": [CALL]} for text in ("", "Well.")]
    assert [message["content"] for message in without_calls(said)] == [SPELT, f"Well.\n{SPELT}"]


def test_arguments_that_are_no_json_are_shown_as_text() -> None:
    broken = {**CALL, "function": {"name": "get_time", "arguments": '{"a'}}
    (message,) = without_calls([{"role": "assistant", "content": "", "tool_calls": [broken]}])
    assert '"arguments": "{\\"a"' in message["content"]


def test_results_that_follow_each_other_are_one_turn() -> None:
    results = [{"role": "tool", "content": text, "tool_call_id": "a", "name": "b"} for text in "xyz"]
    user = {"role": "user", "content": "u"}
    plain = without_calls([results[0], results[1], user, results[2]])
    assert [message["role"] for message in plain] == ["user"] * 3
    assert plain[0]["content"].count("<tool_response>") == 2


def test_messages_without_calls_stay_as_they_are() -> None:
    messages = [{"role": role, "content": "x"} for role in ("system", "user", "assistant")]
    assert without_calls([*messages, {"role": "assistant", "content": ""}]) == [
        *messages,
        {"role": "assistant", "content": ""},
    ]


def test_requests_with_the_same_tools_begin_alike() -> None:
    one, other = (
        with_tools([{"role": "system", "content": text}], tools())[0]["content"] for text in ("Be brief.", "Be long.")
    )
    assert one.removesuffix("Be brief.") == other.removesuffix("Be long.")
