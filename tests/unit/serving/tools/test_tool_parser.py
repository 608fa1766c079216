"""What is text, what is a call, and when each is told."""

import json
import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tool_rigs import HERMES_TEXT, LLAMA_TAG, LLAMA_TEXT, MISTRAL_TEXT, MISTRAL_TOKEN, joined, parsed

from genkan.serving.tools.call_reader import MAX_UNNAMED_CHARS
from genkan.serving.tools.deltas import CallArguments, CallBegan, Delta, TextDelta
from genkan.serving.tools.formats import Dialect
from genkan.serving.tools.tool_parser import MAX_SPACE, ToolParser, new_call_id

CALL = '{"name": "get_weather", "arguments": {"city": "Oslo", "days": 2}}'
ARGUMENTS = '{"city": "Oslo", "days": 2}'
ONE: list[Delta] = [CallBegan(0, "id0", "get_weather"), CallArguments(0, ARGUMENTS)]
TWO: list[Delta] = [*ONE, CallBegan(1, "id1", "get_time"), CallArguments(1, "{}")]


@pytest.mark.parametrize(
    ("dialect", "text", "found"),
    [
        (HERMES_TEXT, f"<tool_call>\n{CALL}\n</tool_call>", ONE),
        (HERMES_TEXT, f"<tool_call>{CALL}</tool_call>", ONE),
        (HERMES_TEXT, f"I look.\n<tool_call>\n{CALL}\n</tool_call>\n", [TextDelta("I look."), *ONE]),
        (HERMES_TEXT, f"<tool_call>\n{CALL}\n</tool_call>\nSo.", [*ONE, TextDelta("\nSo.")]),
        (HERMES_TEXT, f'<tool_call>{CALL}</tool_call>\n<tool_call>{{"name": "get_time"}}</tool_call>', TWO),
        (LLAMA_TEXT, CALL.replace("arguments", "parameters"), ONE),
        (LLAMA_TAG, "<|python_tag|>" + CALL.replace("arguments", "parameters"), ONE),
        (LLAMA_TEXT, '{"type": "function", ' + CALL[1:], ONE),
        (MISTRAL_TOKEN, f"[TOOL_CALLS][{CALL}]", ONE),
        (MISTRAL_TEXT, f'[TOOL_CALLS] [ {CALL} , {{"name": "get_time", "arguments": {{}}, "id": "a1b2c3d4e"}} ]', TWO),
        (MISTRAL_TOKEN, f"Yes.[TOOL_CALLS]{CALL}", [TextDelta("Yes."), *ONE]),
    ],
)
def test_calls_are_found_in_each_format(dialect: Dialect, text: str, found: list[Delta]) -> None:
    assert parsed(dialect, [text]) == found
    assert parsed(dialect, text) == found  # a character at a time


@pytest.mark.parametrize(
    ("dialect", "text"),
    [
        (HERMES_TEXT, "Nothing to call here. "),
        (HERMES_TEXT, "Say <tool_call> and then"),
        (HERMES_TEXT, f"<tool_call>{CALL.replace('get_weather', 'rm_rf')}</tool_call>"),
        (HERMES_TEXT, '<tool_call>{"arguments": {}}</tool_call>'),
        (HERMES_TEXT, '<tool_call>{"name": 5, "arguments": {}}</tool_call>'),
        (HERMES_TEXT, '<tool_call>{"name": "bad \\x", "arguments": {}}</tool_call>'),
        (HERMES_TEXT, '<tool_call>{"city": "Oslo"}</tool_call>'),
        (HERMES_TEXT, "<tool_call>[1, 2]</tool_call>"),
        (HERMES_TEXT, '<tool_call>\n{"name": "get_'),
        (HERMES_TEXT, "a <tool_c"),
        (LLAMA_TEXT, '{"answer": 42}'),
        (LLAMA_TEXT, f"It is {CALL}"),
        (MISTRAL_TEXT, "[TOOL_CALLS] none"),
        (MISTRAL_TEXT, "[TOOL_CALLS][[]]"),
    ],
)
def test_what_is_no_call_is_text(dialect: Dialect, text: str) -> None:
    assert parsed(dialect, [text]) == parsed(dialect, text) == [TextDelta(text)]


def test_a_special_token_before_what_is_no_call_is_no_text() -> None:
    assert parsed(MISTRAL_TOKEN, ["[TOOL_CALLS] none"]) == [TextDelta(" none")]


def test_without_tools_everything_is_text() -> None:
    text = f"<tool_call>{CALL}</tool_call>"
    assert parsed(HERMES_TEXT, [text], names=()) == [TextDelta(text)]


def test_text_passes_at_once_but_for_what_may_begin_a_marker() -> None:
    parser = ToolParser(HERMES_TEXT, ["get_time"])
    assert parser.push("one two") == [TextDelta("one two")]
    assert parser.push(" <tool") == []
    assert parser.push("box>") == [TextDelta(" <toolbox>")]
    assert parser.flush() == []


def test_a_name_is_told_as_soon_as_it_is_complete_and_arguments_as_they_come() -> None:
    parser = ToolParser(HERMES_TEXT, ["get_time"], new_id=lambda: "id")
    told = [parser.push(piece) for piece in ('<tool_call>\n{"name": "get_time', '"', ', "arguments": {"a', '": "}')]
    assert told == [[], [CallBegan(0, "id", "get_time")], [CallArguments(0, '{"a')], [CallArguments(0, '": "}')]]
    assert parser.called


def test_arguments_that_come_first_wait_for_the_name() -> None:
    text = '<tool_call>{"arguments": {"x": 1}, "name": "get_time"}</tool_call>'
    assert parsed(HERMES_TEXT, text) == [CallBegan(0, "id0", "get_time"), CallArguments(0, '{"x": 1}')]


def test_a_call_without_arguments_has_an_empty_object_of_them() -> None:
    assert parsed(HERMES_TEXT, '<tool_call>{"name": "get_time"}</tool_call>')[1] == CallArguments(0, "{}")


def test_a_call_that_breaks_off_after_its_name_stays_one() -> None:
    assert parsed(HERMES_TEXT, '<tool_call>\n{"name": "get_time", "arguments": {"a": "b') == [
        CallBegan(0, "id0", "get_time"),
        CallArguments(0, '{"a": "b'),
    ]


@pytest.mark.parametrize(
    "rest", ['</tool_call>\n<tool_call>\n{"na', '</tool_call><tool_call>{"name": "g', "\n</tool_", "\n"]
)
def test_what_breaks_off_after_a_call_before_a_name_is_left_out(rest: str) -> None:
    assert parsed(HERMES_TEXT, f"<tool_call>{CALL}{rest}") == ONE


def test_only_a_run_of_white_space_that_is_bounded_is_held_and_left_out() -> None:
    parser = ToolParser(HERMES_TEXT, ["get_time"])
    shown = "".join(delta.text for _ in range(1000) for delta in parser.push(" ") if isinstance(delta, TextDelta))
    assert len(shown) == 1000 - MAX_SPACE


@pytest.mark.parametrize("text", ['<tool_call>{"arguments": "' + "x" * 9000, "<tool_call>{" + " " * 9000])
def test_no_call_is_held_for_its_name_without_bound(text: str) -> None:
    parser, shown = ToolParser(HERMES_TEXT, ["get_time"]), 0
    for at, char in enumerate(text):
        shown += sum(len(delta.text) for delta in parser.push(char) if isinstance(delta, TextDelta))
        assert at - shown <= MAX_UNNAMED_CHARS + 100
    assert shown > MAX_UNNAMED_CHARS


def test_ids_are_as_openais_are_and_new() -> None:
    ids = {new_call_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(re.fullmatch("call_[A-Za-z0-9]{24}", call_id) for call_id in ids)


# --- However the text is cut ---

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["}", '"', "\\", "</tool_call>"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
_arguments = st.dictionaries(st.text(max_size=4), _json, max_size=3)
_scraps = st.sampled_from(
    [
        *("<tool_call>", "</tool_call>", "[TOOL_CALLS]", "<|python_tag|>", "<tool", CALL, " " * 70),
        *('{"name": "get_time"', '"name"', ": ", '"get_time"', '"arguments"'),
        *("[", "]", "{", "}", '"', "\\", ",", " ", "\n", "é", "😀"),
    ]
)
_dialects = st.sampled_from([HERMES_TEXT, LLAMA_TEXT, LLAMA_TAG, MISTRAL_TEXT, MISTRAL_TOKEN])


def _cut(text: str, places: list[int]) -> list[str]:
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[begin:end] for begin, end in pairwise(edges)]


@given(_dialects, st.lists(_scraps, max_size=12), st.lists(st.integers(0, 10_000), max_size=8))
def test_however_a_text_is_cut_the_same_is_found(dialect: Dialect, scraps: list[str], places: list[int]) -> None:
    text = "".join(scraps)
    assert parsed(dialect, _cut(text, places)) == parsed(dialect, [text])


@given(st.lists(_arguments, min_size=1, max_size=3), st.booleans(), st.lists(st.integers(0, 10_000), max_size=8))
def test_arguments_put_together_are_what_was_written(
    given: list[dict[str, Any]], ascii_only: bool, places: list[int]
) -> None:
    written = [json.dumps(arguments, ensure_ascii=ascii_only) for arguments in given]
    calls = "\n".join(f'<tool_call>\n{{"name": "get_time", "arguments": {text}}}\n</tool_call>' for text in written)
    found = parsed(HERMES_TEXT, _cut(calls, places))
    assert [delta.text for delta in found if isinstance(delta, CallArguments)] == written
    assert not [delta for delta in found if isinstance(delta, TextDelta)]


@given(_dialects, st.text(max_size=40))
def test_text_without_a_marker_is_never_changed(dialect: Dialect, text: str) -> None:
    assert "".join(delta.text for delta in joined(parsed(dialect, text)) if isinstance(delta, TextDelta)) == text
