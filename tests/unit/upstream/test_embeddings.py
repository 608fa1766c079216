"""How texts are made ready, and cut into pieces."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genkan.errors import InvalidRequest
from genkan.upstream.embeddings import in_pieces, prepared

TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40), max_size=30)


@pytest.mark.parametrize(
    ("text", "ready"),
    [
        ("hi", "query: hi"),
        ("query: hi", "query: hi"),
        ("passage: hi", "passage: hi"),
        ("Query: hi", "query: Query: hi"),
    ],
)
def test_a_text_gets_the_prefix_unless_it_says_itself_what_it_is(text: str, ready: str) -> None:
    assert prepared([text], "query: ") == [ready]


def test_a_text_of_nothing_but_marks_holds_nobody_up() -> None:
    """Python takes hours to put these in order."""
    text = "a" + "\u0300\u0315" * 500_000
    assert prepared([text], "") == [text]


def test_without_a_prefix_texts_stay_as_they_are() -> None:
    assert prepared(["hi"], "") == ["hi"]


def test_a_text_that_cannot_be_written_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="surrogate") as caught:
        prepared(["a", "\ud800"], "")
    assert caught.value.param == "input[1]"


def test_the_only_text_is_called_what_it_is_when_it_is_empty() -> None:
    with pytest.raises(InvalidRequest) as caught:
        prepared([""], "")
    assert caught.value.param == "input"


@given(TEXTS)
def test_texts_that_mean_the_same_code_points_become_the_same(texts: list[str]) -> None:
    decomposed = [unicodedata.normalize("NFD", text) for text in texts]
    assert prepared(decomposed, "query: ") == prepared(
        [unicodedata.normalize("NFC", text) for text in texts], "query: "
    )


@given(TEXTS, st.integers(1, 8), st.integers(1, 60))
def test_pieces_are_the_texts_in_order_and_small(texts: list[str], most: int, most_chars: int) -> None:
    pieces = [list(piece) for piece in in_pieces(texts, most=most, most_chars=most_chars)]
    assert [text for piece in pieces for text in piece] == texts
    for piece in pieces:
        assert 1 <= len(piece) <= most
        assert len(piece) == 1 or sum(map(len, piece)) <= most_chars
