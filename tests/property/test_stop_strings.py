"""Stop strings in text cut anywhere, against a naive search.

Which stop is the first depends on the pieces: a text is searched after every piece, and the first piece that
completes a stop string decides; of the stop strings that are complete by then, the one that begins first cuts.
So with all text in one piece the cut is at the first place where any stop string begins, and with one stop string
the pieces never matter.
"""

from hypothesis import given, settings
from hypothesis import strategies as st

from genkan.serving.stop_strings import StopStrings

quick = settings(max_examples=400, deadline=None)

LETTERS = st.sampled_from("aab\n😀")  # few, so that stops occur, overlap and nearly occur
PIECES = st.lists(st.text(LETTERS, max_size=6), max_size=10)
STOPS = st.lists(st.text(LETTERS, min_size=1, max_size=5), max_size=4)


def shown(pieces: list[str], stops: list[str]) -> str:
    finder = StopStrings(stops)
    return "".join([*(finder.push(piece) for piece in pieces), finder.flush()])


def first_begin(text: str, stops: list[str]) -> int | None:
    return min((place for place in range(len(text)) if text.startswith(tuple(stops), place)), default=None)


def reference(pieces: list[str], stops: list[str]) -> str:
    text = ""
    for piece in pieces:
        text += piece
        begin = first_begin(text, stops)
        if begin is not None:
            return text[:begin]
    return text


@quick
@given(PIECES, STOPS)
def test_the_first_piece_that_completes_a_stop_decides(pieces: list[str], stops: list[str]) -> None:
    assert shown(pieces, stops) == reference(pieces, stops)


@quick
@given(PIECES, st.text(LETTERS, min_size=1, max_size=5))
def test_with_one_stop_the_pieces_do_not_matter(pieces: list[str], stop: str) -> None:
    assert shown(pieces, [stop]) == "".join(pieces).split(stop)[0]


@quick
@given(PIECES, STOPS)
def test_no_stop_is_ever_shown_and_what_is_cut_begins_with_one(pieces: list[str], stops: list[str]) -> None:
    text, seen = "".join(pieces), shown(pieces, stops)
    assert first_begin(seen, stops) is None
    assert seen == text or text[len(seen) :].startswith(tuple(stops))
    assert text.startswith(seen)


@quick
@given(PIECES, STOPS)
def test_pieces_never_cut_earlier_than_the_whole_text_does(pieces: list[str], stops: list[str]) -> None:
    assert len(shown(pieces, stops)) >= len(shown(["".join(pieces)], stops))


@quick
@given(PIECES, STOPS)
def test_only_what_may_become_a_stop_is_held_back(pieces: list[str], stops: list[str]) -> None:
    finder = StopStrings(stops)
    held = ""
    for piece in pieces:
        text = held + piece
        held = text[len(finder.push(piece)) :]
        if finder.found:
            return
        assert len(held) <= max((len(stop) for stop in stops), default=1) - 1
        assert held == "" or any(stop.startswith(held) for stop in stops)
    assert finder.flush() == held
