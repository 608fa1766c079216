"""Texts for the log: what is taken out of them, and what is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genkan.telemetry.redaction import MAX_CHARS, redacted, redacted_end


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("write to jane.doe+x@mail.example.co.jp now", "write to [email] now"),
        ("sk-proj-abcdefghijklmnopqrstuv", "[key]"),
        ("ghp_0123456789abcdefABCDEF0123456789abcd", "[key]"),
        ("AKIAIOSFODNN7EXAMPLE", "[key]"),
        ("Authorization: Bearer abc.def-ghi_jkl", "Authorization: [key]"),
        ("api_key = 'hunter2hunter2'", "[key]'"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcDEF_123", "[key]"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----!", "[key]!"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE and it was cut", "[key]"),
        ("card 4111 1111 1111 1111.", "card [card]."),
        ("card 5555-5555-5555-4444", "card [card]"),
        ("CCCD 001 099 012 345 nhé", "CCCD [national-id] nhé"),
        ("CCCD 079203001234", "CCCD [national-id]"),
        ("주민번호 900101-1234567", "주민번호 [national-id]"),
        ("주민번호 0505053234567", "주민번호 [national-id]"),
        ("SSN 078-05-1120", "SSN [national-id]"),
        ("gọi +84 912 345 678", "gọi [phone]"),
        ("gọi 0912 345 678", "gọi [phone]"),
        ("전화 010-1234-5678", "전화 [phone]"),
        ("call (415) 555-2671 please", "call [phone] please"),
        ("+1 (415) 555-2671", "[phone]"),
    ],
)
def test_what_tells_who_somebody_is_is_named_instead(text: str, expected: str) -> None:
    assert redacted(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "the answer is 42, or 3.14159265358979",
        "in 2026, 1,000,000 requests took 12.5 s",
        "4111 1111 1111 1112 does not pass the check",
        "version 1.4.39 at 10:30:00",
        "a@b is no address",
        "日本語のテキスト、鍵はない",
        "",
    ],
)
def test_the_rest_stays(text: str) -> None:
    assert redacted(text) == text


def test_a_long_text_is_cut_and_says_so() -> None:
    shown = redacted("a" * (MAX_CHARS + 1))
    assert (len(shown), shown[-2:]) == (MAX_CHARS, "a…")
    assert redacted("a" * MAX_CHARS) == "a" * MAX_CHARS


def test_of_a_long_text_the_end_can_be_kept() -> None:
    key = "sk-proj-" + "abcdefgh" * 4
    assert redacted_end("short") == "short"
    for length in range(MAX_CHARS - 40, MAX_CHARS + 20):
        shown = redacted_end(key + " " * (length - 3) + "end")
        assert "abcdefgh" not in shown
        assert len(shown) <= MAX_CHARS
        assert shown.endswith(" end")


def test_nothing_shows_for_being_cut_in_two() -> None:
    key = "sk-proj-" + "abcdefgh" * 4
    for start in range(MAX_CHARS - 60, MAX_CHARS + 10):
        assert "abcdefgh" not in redacted(" " * start + key)


@given(st.text(max_size=400))
def test_it_takes_any_text_and_twice_is_as_once(text: str) -> None:
    once = redacted(text)
    assert len(once) <= MAX_CHARS
    assert redacted(once) == once
