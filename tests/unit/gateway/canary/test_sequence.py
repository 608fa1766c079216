"""Bounds that hold at all times at once."""

from math import log

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from genkan.gateway.canary import sequence
from genkan.gateway.canary.sequence import mean_lower, share_lower, variance_of_difference

COUNTS = st.integers(0, 3000).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))
ALPHAS = st.floats(1e-6, 0.4)


def log_likelihood(n: int, k: int, shares: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = k * np.log(shares) + (n - k) * np.log1p(-shares)
    return found


def log_average(n: int, k: int, prior: tuple[float, float], shares: NDArray[np.float64]) -> float:
    """By integration: independent of how it is done there."""
    a, b = prior
    density = (a - 1) * np.log(shares) + (b - 1) * np.log1p(-shares)
    logs = density + log_likelihood(n, k, shares)
    scale, top = np.exp(density).sum(), logs.max()
    return float(top + log(np.exp(logs - top).sum()) - log(scale))


@settings(max_examples=20, deadline=None)
@given(COUNTS, COUNTS, ALPHAS)
def test_it_is_the_least_difference_that_the_mixture_leaves(
    of: tuple[int, int], other: tuple[int, int], alpha: float
) -> None:
    shares = np.concatenate([[1e-9], (np.arange(1500) + 0.5) / 1500, [1 - 1e-9]])  # steep at the ends
    fine = (np.arange(100_000) + 0.5) / 100_000
    ratio = [
        log_average(*counts, prior, fine) - log_likelihood(*counts, shares)
        for counts, prior in ((of, sequence._PRIOR), (other, sequence._OTHER_PRIOR))
    ]
    left = ratio[0][:, None] + ratio[1][None, :] < log(1 / alpha)
    assume(left.any())
    differences = np.where(left, shares[:, None] - shares[None, :], 1.0)
    assert share_lower(of[0], of[1], other[0], other[1], alpha) == pytest.approx(differences.min(), abs=0.003)


@given(COUNTS, COUNTS, ALPHAS)
def test_the_bounds_enclose_what_was_seen(of: tuple[int, int], other: tuple[int, int], alpha: float) -> None:
    (n, k), (m, j) = of, other
    lower, upper = share_lower(n, k, m, j, alpha), -share_lower(m, j, n, k, alpha)
    assert -1 <= lower <= upper <= 1
    if n and m:
        assert lower <= k / n - j / m <= upper
    assert share_lower(n, k, m, j, alpha / 2) <= lower + 1e-6


@pytest.mark.parametrize("counts", [(0, 0, 0, 0), (0, 0, 5, 5), (3, 0, 9, 9), (1, 1, 0, 0), (4, 4, 4, 4)])
def test_nothing_and_extremes_have_bounds(counts: tuple[int, int, int, int]) -> None:
    assert -1 <= share_lower(*counts, 0.05) < 0.5


def test_thousands_of_millions_without_a_failure_are_no_difference() -> None:
    assert share_lower(15_907, 0, 3_189_421_115, 0, 0.05) <= 0


def test_a_canary_that_fails_everything_is_found_after_a_few() -> None:
    assert share_lower(6, 6, 54, 0, 0.0375) > 0.005
    assert share_lower(2, 2, 18, 0, 0.0375) < 0.005  # but not at once


def test_the_bound_of_shares_is_rarely_crossed_ever() -> None:
    alpha, runs, limit, crossed = 0.2, 200, 0.02, 0
    random = np.random.default_rng(5)
    for _ in range(runs):
        is_one = random.random(2000) < 0.3
        fails = random.random(2000) < np.where(is_one, 0.05, 0.03)  # the difference is the limit
        sums = np.cumsum([is_one, is_one & fails, ~is_one, ~is_one & fails], axis=1).T[::10].tolist()
        crossed += any(share_lower(n, k, m, j, alpha) > limit for n, k, m, j in sums)
    assert 0 < crossed <= alpha * runs


def test_the_bound_of_means_is_rarely_crossed_ever() -> None:
    """Of skewed samples of a few sizes of arms, with variances that are estimated."""
    alpha, runs, crossed = 0.2, 500, 0
    random = np.random.default_rng(6)
    for _ in range(runs):
        one, other = random.exponential(size=1000) - 1, random.exponential(size=(1000, 3)) - 1
        crossed += _ever_above_zero(one, other, alpha)
    assert 0.02 * runs < crossed <= alpha * runs


def _ever_above_zero(one: NDArray[np.float64], other: NDArray[np.float64], alpha: float) -> bool:
    for n in range(60, len(one), 20):
        others = other[:n].ravel()
        variance = variance_of_difference(n, float(one[:n].var()), len(others), float(others.var()))
        if mean_lower(float(one[:n].mean() - others.mean()), variance, alpha) > 0:
            return True
    return False


def test_an_arm_that_has_not_met_what_is_rare_is_not_sure_of_itself() -> None:
    """One request in a hundred is a thousand times quicker, on both arms alike."""
    alpha, runs, crossed = 0.05, 200, 0
    random = np.random.default_rng(7)
    for _ in range(runs):
        one, other = (
            np.where(random.random(shape) < 0.01, -7.0, 0.0) + 0.01 * random.standard_normal(shape)
            for shape in ((600,), (600, 9))
        )
        crossed += _ever_above_zero(one, other, alpha)
    assert crossed <= alpha * runs


@given(st.floats(-2, 2), st.floats(1e-8, 1), ALPHAS)
def test_the_bound_of_means_is_below_and_nears_what_was_seen(difference: float, variance: float, alpha: float) -> None:
    lower = mean_lower(difference, variance, alpha)
    assert lower < difference
    assert lower < mean_lower(difference, variance / 2, alpha)
    assert mean_lower(difference, variance, alpha / 2) < lower


def test_the_same_time_twice_says_little() -> None:
    assert variance_of_difference(100, 0.0, 100, 0.0) == pytest.approx(2e-8)
