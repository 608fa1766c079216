"""What is shown, held back and cut around a stop string."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genkan.serving.stop_strings import StopStrings


def shown(stops: list[str], pieces: list[str]) -> list[str]:
    """What each piece shows, and last what the end of the text shows."""
    finder = StopStrings(stops)
    return [*(finder.push(piece) for piece in pieces), finder.flush()]


def test_without_stops_every_piece_is_shown_at_once() -> None:
    assert shown([], ["a", "", "b"]) == ["a", "", "b", ""]


@pytest.mark.parametrize(
    ("stops", "pieces", "parts"),
    [
        (["END"], ["one END two"], ["one ", ""]),
        (["END"], ["one E", "N", "D two"], ["one ", "", "", ""]),
        (["END"], ["END"], ["", ""]),
        (["END"], ["one E", "nd"], ["one ", "End", ""]),
        (["END"], ["one EN"], ["one ", "EN"]),
        (["END"], ["EE", "ND"], ["E", "", ""]),
        (["aab"], ["aa", "ab"], ["", "a", ""]),
        (["abab"], ["aba", "cabab"], ["", "abac", ""]),
        (["b", "c"], ["a c b"], ["a ", ""]),
        (["\n\n"], ["a\n", "b\n", "\n"], ["a", "\nb", "", ""]),
        (["日本"], ["今日", "本"], ["今", "", ""]),
        (["😀"], ["a😀"], ["a", ""]),
    ],
)
def test_cuts_where_the_first_stop_begins_and_holds_what_may_become_one(
    stops: list[str], pieces: list[str], parts: list[str]
) -> None:
    assert shown(stops, pieces) == parts


def test_of_two_stops_in_one_piece_the_one_that_begins_first_cuts() -> None:
    assert shown(["b", "abc"], ["xabc"]) == ["x", ""]


def test_a_stop_that_is_complete_cuts_before_a_longer_one_that_is_not() -> None:
    assert shown(["b", "abc"], ["xa", "b", "c"]) == ["x", "a", "", ""]


def test_says_that_it_found_one() -> None:
    finder = StopStrings(["ab"])
    found = []
    for piece in ("a", "b", "c"):
        finder.push(piece)
        found.append(finder.found)
    assert found == [False, True, True]


def test_shows_nothing_more_after_a_stop() -> None:
    assert shown(["a"], ["xa", "y", "z"]) == ["x", "", "", ""]


def test_is_empty_after_a_flush() -> None:
    finder = StopStrings(["ab"])
    finder.push("a")
    assert [finder.flush(), finder.flush()] == ["a", ""]


def after(beginning: str, stops: list[str], pieces: list[str], *, with_stop: bool = False) -> tuple[str, bool]:
    """What is shown after a text that was shown elsewhere, and whether a stop was found."""
    finder = StopStrings(stops, shown=with_stop)
    finder.go_on_from(beginning)
    text = "".join([*map(finder.push, pieces), finder.flush()])
    return text, finder.found


@pytest.mark.parametrize(
    ("beginning", "stops", "pieces", "text"),
    [
        ("one E", ["END"], ["ND two"], ""),
        ("one EN", ["END"], ["d two"], "d two"),
        ("one EN", ["END"], ["END"], ""),
        ("one EN", ["END"], [], ""),
        ("one E", ["END"], ["N", "E", "ND"], "N"),
        ("EEE", ["EEEE"], ["E"], ""),
        ("EEE", ["EEEE"], ["x", "E"], "xE"),
        ("aab", ["bc", "abcd"], ["c"], ""),
        ("one END", ["END"], [" two"], " two"),  # it lies in the beginning
        ("abab", ["abab!", "ba"], ["b"], "b"),
        ("abab", ["abab!", "ba"], ["!"], ""),
        ("", ["END"], ["xEND"], "x"),
        ("one", [], [" two"], " two"),
    ],
)
def test_a_stop_may_begin_in_a_text_that_was_shown_before(
    beginning: str, stops: list[str], pieces: list[str], text: str
) -> None:
    shown_text, found = after(beginning, stops, pieces)
    assert shown_text == text
    assert found == any(beginning.count(stop) < (beginning + "".join(pieces)).count(stop) for stop in stops)


def test_with_the_stop_shown_the_rest_of_it_is() -> None:
    assert after("one E", ["END"], ["N", "D two"], with_stop=True) == ("ND", True)


@given(
    st.text("ab", max_size=8), st.text("ab", max_size=8), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3)
)
def test_wherever_it_was_cut_the_answer_is_the_same(first: str, rest: str, stops: list[str]) -> None:
    finder = StopStrings(stops)
    known = "".join(map(finder.push, first))
    if not finder.found:
        whole = known + "".join([*map(finder.push, rest), finder.flush()])
        text, found = after(known, stops, [*(first + rest)[len(known) :]])
        assert (known + text, found) == (whole, finder.found)
