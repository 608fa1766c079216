"""What is shown, held back and cut around a stop string."""

import pytest

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
