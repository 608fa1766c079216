"""One spelling for what reads the same."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genkan.cache.normalise import bare, canonical


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("Hoà bình", "Hòa bình"),
        ("HOÀ", "HÒA"),
        ("khoẻ", "khỏe"),
        ("thuỷ thủ", "thủy thủ"),
        ("quý khách", "quý khách"),  # the u belongs to the consonant
        ("hoàn tiền", "hoàn tiền"),  # a closed syllable has one place for its mark
        ("２０２５年", "2025年"),
        ("don’t “say”", 'don\'t "say"'),
        ("  a \u00a0 b\u200b ", "a b"),
        ("x²", "x²"),
        ("long‑term", "long-term"),
    ],
)
def test_what_reads_the_same_is_spelt_the_same(written: str, read: str) -> None:
    assert canonical(written) == unicodedata.normalize("NFC", read)


@given(st.text())
def test_composed_or_not_is_one_text_and_twice_is_once(text: str) -> None:
    once = canonical(text)
    assert canonical(unicodedata.normalize("NFD", text)) == once
    assert canonical(once) == once


@given(st.text(alphabet=st.characters(codec="ascii", categories=("L", "N"))))
def test_plain_letters_and_digits_are_left_as_they_are(text: str) -> None:
    assert canonical(text) == text


def test_bare_takes_every_mark() -> None:
    assert bare("Đổi mật khẩu như thế nào?") == "Doi mat khau nhu the nao?"
