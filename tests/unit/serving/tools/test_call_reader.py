"""One call's object, in pieces."""

import pytest

from genkan.serving.tools.call_reader import MAX_UNNAMED_CHARS, CallReader, Read


def reader() -> CallReader:
    return CallReader({"get", "put"})


def test_reads_a_call_to_its_end_and_no_further() -> None:
    call = reader()
    text = '{"name": "get", "arguments": {"a": [1, "}"]}} and more'
    assert call.push(text) == Read(text.index(" and"), "get", '{"a": [1, "}"]}')
    assert (call.done, call.failed, call.has_arguments) == (True, False, True)


def test_tells_the_name_once_and_arguments_piece_by_piece() -> None:
    call = reader()
    pieces = ['{"na', 'me":"g', 'et"', ',"parameters":', '{"a"', ":1", "}", "}"]
    read = [call.push(piece) for piece in pieces]
    assert [part.name for part in read] == [None, None, "get", *[None] * 5]
    assert [part.arguments for part in read] == ["", "", "", "", '{"a"', ":1", "}", ""]
    assert call.done


def test_other_keys_are_passed_over_after_the_name_and_a_few_before_it() -> None:
    call = reader()
    read = call.push('{"id": "x", "type": "function", "name": "put", "more": {"arguments": 1}, "arguments": 5}')
    assert (read.name, read.arguments, call.done) == ("put", "5", True)


def test_only_the_first_name_and_the_first_arguments_count() -> None:
    call = reader()
    read = call.push('{"name": "get", "arguments": {"a": 1}, "name": "put", "parameters": {"b": 2}}')
    assert (read.name, read.arguments, call.done) == ("get", '{"a": 1}', True)


@pytest.mark.parametrize(
    "text", ["[", '{"other": 1', '{"name": "rm"', '{"name": 5,', '{"name" "get"', "{name", '{"arguments": {}}', "{}"]
)
def test_what_is_no_call_fails_where_it_shows(text: str) -> None:
    call = reader()
    read = call.push(text)
    assert (call.failed, call.done, read.name, read.arguments) == (True, False, None, "")


def test_a_name_may_be_escaped() -> None:
    assert reader().push('{"n\\u0061me": "g\\u0065t"').name == "get"


def test_what_breaks_after_the_name_fails_and_keeps_it() -> None:
    call = reader()
    assert call.push('{"name": "get" oops').name == "get"
    assert call.failed


@pytest.mark.parametrize("step", [1, 1000, MAX_UNNAMED_CHARS * 2])
def test_fails_at_the_same_character_however_it_is_cut(step: int) -> None:
    text = '{"arguments": "' + "x" * MAX_UNNAMED_CHARS + '", "name": "get"}'
    call = reader()
    read = sum(
        call.push(text[begin : begin + step]).num_chars for begin in range(0, len(text), step) if not call.failed
    )
    assert (call.failed, read) == (True, MAX_UNNAMED_CHARS)
