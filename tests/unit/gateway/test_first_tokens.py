"""What is known of first-token times, when some were not waited for."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genkan.gateway.first_tokens import MAX_FACTOR, FirstTokens

TIMES = st.floats(0.001, 3600.0, allow_nan=False)
SHARES = st.floats(0.01, 0.99)


def of(*seconds: float, censored: tuple[float, ...] = (), now_s: float = 0.0) -> FirstTokens:
    times = FirstTokens()
    for one in seconds:
        times.took(one, now_s)
    for one in censored:
        times.took_longer(one, now_s)
    return times


@given(st.lists(TIMES, min_size=1, max_size=300), SHARES)
def test_a_quantile_is_never_too_small_and_at_most_a_bucket_too_large(seconds: list[float], share: float) -> None:
    exact = sorted(seconds)[math.ceil(share * len(seconds) - 1e-9) - 1]
    told = of(*seconds).quantile(share)
    assert told is not None
    assert exact * (1 - 1e-9) <= told <= exact * MAX_FACTOR * (1 + 1e-9)


@given(st.lists(TIMES, min_size=1, max_size=50), st.lists(TIMES, max_size=50), TIMES, SHARES)
def test_what_was_cancelled_never_lowers_a_quantile(
    seconds: list[float], censored: list[float], more: float, share: float
) -> None:
    before = of(*seconds, censored=tuple(censored)).quantile(share)
    after = of(*seconds, censored=(*censored, more)).quantile(share)
    assert before is not None
    assert after is not None
    assert after >= before


@pytest.mark.parametrize("cancelled_after", [0.5, 1.0])
def test_cancelling_the_slow_changes_the_quantile_of_the_others_by_little(cancelled_after: float) -> None:
    dice = random.Random(8)
    seconds = [0.05 * math.exp(dice.gauss(0, 1.0)) for _ in range(1000)]
    whole = of(*seconds).quantile(0.9)
    assert whole is not None
    # One in five is cancelled, whatever it would have taken, so late or when it is there.
    chosen = [dice.random() < 0.2 for _ in seconds]
    limit_s = cancelled_after * 0.05
    told = of(
        *(one for one, is_cut in zip(seconds, chosen, strict=True) if not is_cut or one <= limit_s),
        censored=tuple(limit_s for one, is_cut in zip(seconds, chosen, strict=True) if is_cut and one > limit_s),
    ).quantile(0.9)
    assert told is not None
    assert told == pytest.approx(whole, rel=0.2)


def test_where_too_much_was_waited_for_in_vain_the_longest_that_came_is_told() -> None:
    assert of(*[0.1] * 79, 0.3, censored=(5.0,) * 20).quantile(0.9) == pytest.approx(0.3, rel=0.1)
    assert of(*[0.1] * 94, 0.3, censored=(5.0,) * 5).quantile(0.9) == pytest.approx(0.1, rel=0.1)


def test_where_nothing_came_nothing_is_told() -> None:
    assert FirstTokens().quantile(0.5) is None
    assert of(censored=(5.0,)).quantile(0.5) is None


def test_the_latest_thousand_count() -> None:
    times = of(*[10.0] * 1000)
    for _ in range(1000):
        times.took(0.1, 0.0)
    assert times.count(0.0) == 1000
    assert times.quantile(0.99) == pytest.approx(0.1, rel=0.1)


def test_what_is_older_than_ten_minutes_counts_no_more() -> None:
    times = of(0.1, 0.2, censored=(0.3,), now_s=1000.0)
    assert times.count(1599.0) == 2
    assert times.count(1601.0) == 0
    times.took(5.0, 1601.0)
    for _ in range(8):
        times.took(5.0, 1601.0)
    assert times.quantile(0.1) == pytest.approx(5.0, rel=0.1)


def test_a_quantile_lags_a_few_observations_and_no_more() -> None:
    times = of(0.1)
    before = times.quantile(0.5)
    for _ in range(7):
        times.took(1.0, 0.0)
    assert times.quantile(0.5) == before
    times.took(1.0, 0.0)
    assert times.quantile(0.5) == pytest.approx(1.0, rel=0.1)


@pytest.mark.parametrize("seconds", [0.0, -1.0, 1e-9, 1e9])
def test_times_beyond_the_buckets_are_in_the_outermost(seconds: float) -> None:
    assert of(seconds).quantile(0.5) == pytest.approx(0.001 if seconds < 1 else 3600.0, rel=0.1)
