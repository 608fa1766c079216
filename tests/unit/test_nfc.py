"""Unicode's composed form, and texts that would take for ever to be put into it."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genkan.nfc import _END, _IS_MARK, MOST_MARKS, nfc

MILLION = 1_000_000


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_it_is_unicodes(text: str) -> None:
    assert nfc(text) == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize("text", ["비밀번호를 ", "Làm thế nào để đổi mật khẩu? ", "שָׁלוֹם ", "สวัสดี น้ำ ", "हिन्दी "])
def test_long_texts_of_people_are_composed(text: str) -> None:
    assert nfc(unicodedata.normalize("NFD", text) * 100) == unicodedata.normalize("NFC", text) * 100


@pytest.mark.parametrize("marks", ["\u0300\u0315", "\u0f81", "\U0001d165\u0300"])
def test_a_text_of_marks_stays_as_it_is_and_takes_no_time(marks: str) -> None:
    """Python's own function takes hours for these."""
    for text in ("a" + marks * MILLION, marks * MILLION, "a b " * 100 + marks * MILLION + " c"):
        assert nfc(text) == text


def test_as_many_marks_as_may_follow_one_another_are_put_in_order() -> None:
    marks = "\u0315\u0300" * (MOST_MARKS // 2)
    ordered = "\u00e0" + "\u0300" * (MOST_MARKS // 2 - 1) + "\u0315" * (MOST_MARKS // 2)
    assert nfc("b" * 100 + "a" + marks) == "b" * 100 + ordered
    assert nfc("b" * 100 + "a" + marks + "\u0300") == "b" * 100 + "a" + marks + "\u0300"


def test_no_mark_is_missed() -> None:
    beyond = (chr(code) for code in range(_END, 0x110000))
    assert not any(unicodedata.combining(unicodedata.normalize("NFD", mark)[0]) for mark in beyond)
    assert _IS_MARK[0x301]
    assert _IS_MARK[0xF81]
    assert not _IS_MARK[ord("e")]
    assert not _IS_MARK[-1]
