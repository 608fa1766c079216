"""An answer that goes on from a text: none of it is said again, and its calls are told of whole."""

import itertools
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tool_rigs import HERMES_TEXT, LLAMA_TEXT, MISTRAL_TEXT, joined, parsed

from genkan.serving.tools.begun_parser import BegunParser
from genkan.serving.tools.deltas import CallArguments, CallBegan, Delta, TextDelta
from genkan.serving.tools.formats import Dialect
from genkan.serving.tools.tool_parser import ToolParser

CALL = '{"name": "get_weather", "arguments": {"city": "Oslo"}}'
CALL_OPEN = '<tool_call>{"name": "get_weather", "arguments": {"city": "'
ONE: list[Delta] = [CallBegan(0, "id0", "get_weather"), CallArguments(0, '{"city": "Oslo"}')]
PARTS = [
    "I look. ", "\n", " " * 70, "<tool_call>", "<tool_", "</tool_call>", CALL, CALL[:20], "[TOOL_CALLS]", "[", "]", "{",
    '{"name": "no_tool", "arguments": {}}',
]  # fmt: skip


def parser(dialect: Dialect) -> ToolParser:
    ids = itertools.count()
    return ToolParser(dialect, ("get_weather", "get_time"), new_id=lambda: f"id{next(ids)}")


def after(dialect: Dialect, beginning: str, text: str, *, size: int = 3) -> list[Delta]:
    """What is found in ``text``, which comes in pieces."""
    begun = BegunParser(parser(dialect), beginning)
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    return joined([delta for piece in pieces for delta in begun.push(piece)] + begun.flush())


@pytest.mark.parametrize(
    ("dialect", "beginning", "text", "found"),
    [
        (HERMES_TEXT, "I ", "look.", [TextDelta("look.")]),
        (HERMES_TEXT, "I look. ", "Now.", [TextDelta("Now.")]),
        (HERMES_TEXT, "I look.\n", f"<tool_call>\n{CALL}\n</tool_call>", ONE),
        (HERMES_TEXT, "a <tool_", "b", [TextDelta("b")]),
        (HERMES_TEXT, "a <tool_", f"call>{CALL}</tool_call>", ONE),
        (HERMES_TEXT, '<tool_call>{"name": "no', '_tool"}', [TextDelta('_tool"}')]),
        (HERMES_TEXT, f"<tool_call>{CALL[:-4]}", f"{CALL[-4:]}</tool_call>", ONE),
        (HERMES_TEXT, f"<tool_call>{CALL}</tool_call>", " So.", [*ONE, TextDelta(" So.")]),
        (HERMES_TEXT, f"<tool_call>{CALL}</tool_call>", "", ONE),
        (LLAMA_TEXT, '{"na', 'me": 1}', [TextDelta('me": 1}')]),
        (LLAMA_TEXT, CALL[:9], CALL[9:], ONE),
    ],
)
def test_only_what_is_new_is_text_and_calls_are_whole(
    dialect: Dialect, beginning: str, text: str, found: list[Delta]
) -> None:
    assert after(dialect, beginning, text) == found


@given(
    st.sampled_from([HERMES_TEXT, LLAMA_TEXT, MISTRAL_TEXT]),
    st.lists(st.sampled_from(PARTS), max_size=5).map("".join),
    st.integers(0, 200),
    st.integers(1, 9),
)
@example(HERMES_TEXT, " " * 70 + "<tool_call>", 40, 1)
def test_what_was_shown_and_what_is_new_are_all_of_the_answer(dialect: Dialect, text: str, cut: int, size: int) -> None:
    whole = parsed(dialect, [text])
    shown = parser(dialect).push(text[:cut])
    if len(joined(shown)) == 1 and isinstance(shown[0], TextDelta):  # as a client has it that saw no call
        known = shown[0].text
        assert joined([shown[0], *after(dialect, known, text[len(known) :], size=size)]) == whole


@given(st.lists(st.sampled_from(PARTS), max_size=5).map("".join), st.integers(1, 200), st.integers(1, 9))
def test_the_calls_are_those_of_the_whole_wherever_it_was_cut(text: str, cut: int, size: int) -> None:
    found = after(HERMES_TEXT, text[:cut], text[cut:], size=size)
    calls = [delta for delta in parsed(HERMES_TEXT, [text]) if not isinstance(delta, TextDelta)]
    assert [delta for delta in found if not isinstance(delta, TextDelta)] == calls


def test_a_long_beginning_takes_time_by_its_length() -> None:
    beginning = "<tool_call>\n{" * (1 << 17)  # read in one piece it takes 8 s
    began_s = time.perf_counter()
    begun = BegunParser(parser(HERMES_TEXT), beginning)
    assert time.perf_counter() - began_s < 4.0
    assert joined(begun.push("x") + begun.flush()) == [TextDelta("x")]


def test_long_arguments_of_a_beginning_come_in_pieces() -> None:
    beginning = CALL_OPEN + "x" * (1 << 20)
    deltas = BegunParser(parser(HERMES_TEXT), beginning).push('"}}')
    assert joined(deltas) == [CallBegan(0, "id0", "get_weather"), CallArguments(0, f'{{"city": "{"x" * (1 << 20)}"}}')]
    assert max(len(delta.text) for delta in deltas if isinstance(delta, CallArguments)) <= 1 << 12
