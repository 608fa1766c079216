"""Money at the edges."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genkan.gateway.money import read_usd, usd_number, usd_text


@pytest.mark.parametrize(
    ("nano_usd", "text"),
    [
        (0, "0.000000000"),
        (1, "0.000000001"),
        (-1, "-0.000000001"),
        (1_500_000_000, "1.500000000"),
        (10**18 + 1, "1000000000.000000001"),
    ],
)
def test_text_is_exact(nano_usd: int, text: str) -> None:
    assert usd_text(nano_usd) == text


@given(st.integers(min_value=-(10**20), max_value=10**20))
def test_text_can_be_read_back(nano_usd: int) -> None:
    assert read_usd(usd_text(nano_usd)) == nano_usd


@given(st.integers(min_value=0, max_value=10**15 - 1))
def test_a_number_prints_as_the_exact_amount(nano_usd: int) -> None:
    assert Decimal(json.dumps(usd_number(nano_usd))) * 10**9 == nano_usd


@pytest.mark.parametrize(
    ("text", "nano_usd"),
    [("0.42", 420_000_000), (" 1 ", 10**9), ("1e-9", 1), ("0.0000000005", 1), ("0.0000000004", 0), ("-2", -2 * 10**9)],
)
def test_reads_what_people_and_programs_write(text: str, nano_usd: int) -> None:
    assert read_usd(text) == nano_usd


@pytest.mark.parametrize("text", ["", "x", "1,5", "NaN", "inf", "1e13", "$1", "1e999999999"])
def test_refuses_what_is_no_amount(text: str) -> None:
    with pytest.raises(ValueError, match="not a"):
        read_usd(text)
