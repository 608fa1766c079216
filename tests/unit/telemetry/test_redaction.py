"""Texts for the log: what is taken out of them, and what is not."""

import time

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
        ("(415)555-2671", "[phone]"),
        # what comes right behind, or right before
        ("카드번호는4111-1111-1111-1111입니다", "카드번호는[card]입니다"),
        ("전화010-1234-5678로", "전화[phone]로"),
        ("키는sk-proj-abcdefghijklmnop입니다", "키는[key]입니다"),
        ("4111 1111 1111 1111 123", "[card] 123"),
        ("4111 1111 1111 1111 12/26", "[card] 12/26"),
        ("two: 4111111111111111 5555555555554444", "two: [card] [card]"),
        ("số.001090012345", "số.[national-id]"),
        ("no.4111111111111111", "no.[card]"),
        # other spaces, hyphens and digits
        ("4111\u00a01111\u00a01111\u00a01111", "[card]"),
        ("010–1234–5678", "[phone]"),
        ("９００１０１－１２３４５６７", "[national-id]"),
        ("0\u200b912345678", "[phone]"),
        ("900101 - 1234567", "[national-id]"),
        # keys by where they stand, or by their looks
        ('{"api_key": "hunter2hunter2"}', '{"[key]"}'),
        ("client_secret=abcd1234", "client_[key]"),
        ("mật khẩu: hunter2!", "[key]"),
        ("비밀번호: hunter2!", "[key]"),
        ("redis://:hunter2@localhost:6379", "redis://[key]@localhost:6379"),
        ("Authorization: Basic dXNlcjpwYXNz", "[key]"),
        ("it is wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "it is [key]"),
        ("MIIEabcd\n-----END RSA PRIVATE KEY-----!", "[key]!"),
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
        "max_tokens: 2048",
        "a skyscraper-building",
        "123e4567-e89b-12d3-a456-426614174000",
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


def test_nothing_shows_for_being_cut_where_what_was_found_made_room() -> None:
    card = "4111 1111 1111 1111"
    for number in range(40):
        keys = f"sk-proj-{'x' * 80} " * 40 + "." * number
        assert "4111" not in redacted(f"{keys[: MAX_CHARS + 200 + number]} {card} {'x ' * 200}")
        assert "1111" not in redacted_end(f"{'x ' * 200}{card} {keys[: MAX_CHARS + 200 + number]}")


@pytest.mark.parametrize("text", ["1 ", "0", "a@", "token_", "://a:", "-----BEGIN ", "+1", "eyJ", "password:", "a."])
def test_no_text_takes_long(text: str) -> None:
    began_s = time.thread_time()
    redacted(text * 3000)
    assert time.thread_time() - began_s < 1


@given(st.text(max_size=400))
def test_it_takes_any_text_and_twice_is_as_once(text: str) -> None:
    once = redacted(text)
    assert len(once) <= MAX_CHARS
    assert redacted(once) == once
