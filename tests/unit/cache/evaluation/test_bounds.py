"""Bounds of shares."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genkan.cache.evaluation.bounds import share


def tail(of: int, chance: float, counts: range) -> float:
    return math.fsum(math.comb(of, count) * chance**count * (1 - chance) ** (of - count) for count in counts)


@pytest.mark.parametrize(
    ("counted", "of", "low", "high"),
    [
        (0, 300, 0.0, 1 - 0.025 ** (1 / 300)),  # for none and for all there is a closed form
        (300, 300, 0.025 ** (1 / 300), 1.0),
        (5, 10, 0.1871, 0.8129),  # tables of Clopper and Pearson
        (1, 100, 0.0003, 0.0545),
        (0, 0, 0.0, 1.0),
    ],
)
def test_known_bounds(counted: int, of: int, low: float, high: float) -> None:
    found = share(counted, of)
    assert [found.low, found.high] == pytest.approx([low, high], abs=5e-5)


@given(st.integers(1, 200).flatmap(lambda of: st.tuples(st.integers(1, of), st.just(of))))
def test_at_a_bound_what_was_counted_or_more_is_seen_in_one_case_of_forty(found: tuple[int, int]) -> None:
    counted, of = found
    low = share(counted, of).low
    assert tail(of, low, range(counted, of + 1)) == pytest.approx(0.025, rel=1e-4)
    assert share(of - counted, of).high == pytest.approx(1.0 - low, abs=1e-9)


def test_of_many() -> None:
    found = share(2_000, 100_000)
    assert found.value == 0.02
    assert found.low == pytest.approx(0.02 - 1.96 * math.sqrt(0.02 * 0.98 / 1e5), abs=2e-5)
    assert found.high == pytest.approx(0.02 + 1.96 * math.sqrt(0.02 * 0.98 / 1e5), abs=2e-5)


def test_nothing_of_nothing_is_no_share() -> None:
    assert share(0, 0).as_object() == {"count": 0, "of": 0, "share": 0.0, "low": 0.0, "high": 1.0}
