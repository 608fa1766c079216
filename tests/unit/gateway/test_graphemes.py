"""Texts are cut between what readers take for characters."""

import unicodedata

import pytest

from genkan.gateway.graphemes import whole_until

FAMILY = "👩‍👩‍👧"
SCOTLAND = "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f"


def places(text: str) -> list[int]:
    """Where it can be cut."""
    return sorted({whole_until(text, end) for end in range(len(text) + 1)})


@pytest.mark.parametrize(
    ("text", "characters"),
    [
        ("abc", ["a", "b", "c"]),
        ("a\r\nb\n\r", ["a", "\r\n", "b", "\n", "\r"]),
        ("Việt", ["V", "i", "ệ", "t"]),
        (unicodedata.normalize("NFD", "Việt"), ["V", "i", "e\u0323\u0302", "t"]),
        ("한국어", ["한", "국", "어"]),
        (unicodedata.normalize("NFD", "한국어"), ["\u1112\u1161\u11ab", "\u1100\u116e\u11a8", "\u110b\u1165"]),
        ("가\u11a8나", ["가\u11a8", "나"]),  # composed but for its end
        ("각\u11a8\u1161", ["각\u11a8", "\u1161"]),
        (f"x{FAMILY}y", ["x", FAMILY, "y"]),
        ("👍🏽!", ["👍🏽", "!"]),
        ("❤️a", ["❤️", "a"]),
        ("🇻🇳🇰🇷🇯🇵", ["🇻🇳", "🇰🇷", "🇯🇵"]),
        (f"{SCOTLAND}.", [SCOTLAND, "."]),
        ("का", ["का"]),
        ("\ud83d\ude00x", ["\ud83d\ude00", "x"]),
    ],
)
def test_cuts_are_between_characters(text: str, characters: list[str]) -> None:
    expected = [len("".join(characters[:number])) for number in range(len(characters) + 1)]
    assert places(text) == expected


@pytest.mark.parametrize("end", [0, 3, 99])
def test_a_place_is_within_the_text(end: int) -> None:
    assert whole_until("abc", end) == min(end, 3)
    assert whole_until("", end) == 0


def test_what_is_no_text_is_cut_anywhere() -> None:
    text = "a" + "\u0301" * 1000
    assert whole_until(text, 900) == 900
    assert whole_until(text, 60) == 0
