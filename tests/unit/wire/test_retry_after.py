"""What ``Retry-After`` says, however it is said, and that nothing in it does harm."""

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genkan.wire.retry_after import LONGEST_S, retry_after_s

#: The instant of RFC 9110's own examples: Sun, 06 Nov 1994 08:49:37 GMT.
THEN = 784111777.0
FORMS = ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]

GARBAGE = [
    "", " ", "soon", "-1", "+1", "-0.5", ".5", "nan", "NaN", "inf", "Infinity", "-Infinity", "1e999", "1e3", "0x10",
    "1_000", "1,5", "1 2", "1;", "5 s", "٣", "9" * 5000, "1." + "0" * 5000, "5\n", "\x00", "None",
    "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Nov 1994 08:49:37 CET", "Sun, 31 Feb 1994 08:49:37 GMT",
    "Sun, 06 Nov 1994 25:49:37 GMT", "Sun, 06 Nov 1994 08:49:61 GMT", "Sun, 00 Nov 1994 08:49:37 GMT",
    "Sun, 06 Nov 0000 08:49:37 GMT", "sun, 06 nov 1994 08:49:37 gmt", "1994-11-06T08:49:37Z",
    "Sun, 06 Nov 19940 08:49:37 GMT", "Sunday, 06-Nov-1994 08:49:37 GMT", "Sun Nov 06 1994",
]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("0", 0.0), ("7", 7.0), (" 7\t", 7.0), ("007", 7.0), ("0.5", 0.5), ("20.", 20.0), ("300", 300.0),
        ("301", 300.0), ("999999999999999", 300.0),
    ],
)  # fmt: skip
def test_seconds_are_taken_as_they_are_up_to_five_minutes(given: str, seconds: float) -> None:
    assert retry_after_s(given, None, None, THEN) == seconds


@pytest.mark.parametrize(("given", "seconds"), [("1500", 1.5), ("0", 0.0), ("12.5", 0.0125), ("900000", 300.0)])
def test_milliseconds_go_before_seconds(given: str, seconds: float) -> None:
    assert retry_after_s("60", given, None, THEN) == seconds


@pytest.mark.parametrize("given", [*GARBAGE, *FORMS])
def test_milliseconds_that_are_no_number_leave_it_to_the_other_header(given: str) -> None:
    assert retry_after_s("60", given, None, THEN) == 60.0


@pytest.mark.parametrize("form", FORMS)
def test_a_date_has_any_of_three_forms(form: str) -> None:
    assert retry_after_s(form, None, None, THEN - 42.0) == 42.0


@pytest.mark.parametrize("form", FORMS)
def test_a_date_is_relative_to_the_answers_own(form: str) -> None:
    our_clock_s = THEN + 86_400.0
    assert retry_after_s("Sun, 06 Nov 1994 08:49:47 GMT", None, form, our_clock_s) == 10.0


@pytest.mark.parametrize("date", [*GARBAGE, "784111777"])
def test_an_answers_date_that_is_none_gives_way_to_our_clock(date: str) -> None:
    assert retry_after_s(FORMS[0], None, date, THEN - 5.0) == 5.0


@pytest.mark.parametrize(("now_s", "seconds"), [(THEN + 1, 0.0), (THEN + 1e8, 0.0), (THEN, 0.0), (THEN - 1e8, 300.0)])
def test_a_date_that_is_past_is_now_and_one_far_off_is_five_minutes(now_s: float, seconds: float) -> None:
    assert retry_after_s(FORMS[0], None, None, now_s) == seconds


def test_two_digits_of_a_year_are_at_most_50_years_ahead() -> None:
    now_s = 1_795_000_000.0  # November 2026
    assert retry_after_s("Saturday, 06-Nov-76 08:49:37 GMT", None, None, now_s) == LONGEST_S
    assert retry_after_s("Sunday, 06-Nov-77 08:49:37 GMT", None, None, now_s) == 0.0
    assert retry_after_s("Sunday, 29-Nov-26 00:00:00 GMT", None, "Sat, 28 Nov 2026 23:59:00 GMT", now_s) == 60.0


def test_a_leap_second_is_a_date() -> None:
    assert retry_after_s("Sat, 31 Dec 2016 23:59:60 GMT", None, "Sat, 31 Dec 2016 23:59:49 GMT", THEN) == 10.0


@pytest.mark.parametrize("given", GARBAGE)
def test_garbage_says_nothing(given: str) -> None:
    assert retry_after_s(given, None, None, THEN) is None
    assert retry_after_s(None, given, None, THEN) is None


def test_no_header_says_nothing() -> None:
    assert retry_after_s(None, None, FORMS[0], THEN) is None


HEADERS = st.one_of(
    st.none(),
    st.text(max_size=40),
    st.floats().map(str),
    st.integers().map(str),
    st.sampled_from([*FORMS, *GARBAGE]),
    *(st.from_regex(form, fullmatch=True) for form in (
        r"(Mon|Sun), [0-9]{2} (Feb|Nov) [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT",
        r"(Monday|Sunday), [0-9]{2}-(Feb|Nov)-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT",
        r"(Mon|Sun) (Feb|Nov) [0-9 ][0-9] [0-9]{2}:[0-9]{2}:[0-9]{2} [0-9]{4}",
    )),
)  # fmt: skip
CLOCKS = st.floats(0, 2**33)


@given(HEADERS, HEADERS, HEADERS, CLOCKS)
def test_anything_at_all_is_none_or_from_0_to_five_minutes(
    retry_after: str | None, retry_after_ms: str | None, date: str | None, now_s: float
) -> None:
    seconds = retry_after_s(retry_after, retry_after_ms, date, now_s)
    assert seconds is None or 0 <= seconds <= LONGEST_S


@given(st.integers(0, 2**33), st.integers(-1000, 1000))
def test_every_date_is_read_as_the_standard_library_writes_it(sent_s: int, later_s: int) -> None:
    given, date = formatdate(sent_s + max(later_s, -sent_s), usegmt=True), formatdate(sent_s, usegmt=True)
    assert retry_after_s(given, None, date, 0.0) == min(max(later_s, 0), LONGEST_S)
