"""How many retries there may be, and how long each waits."""

import itertools
import random

import pytest

from genkan.gateway.retry import Backoff, RetryBudget, wait_s


def taken(budget: RetryBudget, now_s: float) -> int:
    """How many retries the budget gives at once."""
    return sum(1 for _ in itertools.takewhile(bool, (budget.take(now_s) for _ in range(10_000))))


@pytest.mark.parametrize(("requests", "retries"), [(0, 3), (1, 3), (15, 3), (19, 3), (20, 4), (1000, 200)])
def test_a_fifth_of_the_requests_may_be_retries_and_three_in_any_case(requests: int, retries: int) -> None:
    budget = RetryBudget()
    for number in range(requests):
        budget.requested(100.0 + number * 0.001)
    assert taken(budget, 101.0) == retries


def test_what_was_taken_is_free_again_when_the_window_has_passed() -> None:
    budget = RetryBudget()
    assert taken(budget, 100.0) == 3
    assert not budget.take(109.8)
    assert taken(budget, 110.2) == 3


def test_requests_count_no_longer_than_the_window() -> None:
    budget = RetryBudget()
    for _ in range(100):
        budget.requested(100.0)
    assert taken(budget, 110.2) == 3


def test_under_a_steady_load_retries_stay_a_fifth() -> None:
    budget = RetryBudget()
    given = 0
    for number in range(20_000):
        budget.requested(number * 0.01)
        given += budget.take(number * 0.01)
    assert 0.19 * 20_000 < given <= 0.2 * 20_000


def test_a_long_pause_leaves_nothing_behind() -> None:
    budget = RetryBudget()
    for number in range(1000):
        budget.requested(number * 0.01)
    assert taken(budget, 10.0) > 3
    assert taken(budget, 1e6) == 3


def test_ratio_least_and_window_are_settings() -> None:
    budget = RetryBudget(ratio=0.5, at_least=0, window_s=1.0)
    assert not budget.take(5.0)
    for _ in range(10):
        budget.requested(5.0)
    assert taken(budget, 5.5) == 5
    for _ in range(10):
        budget.requested(6.02)
    assert taken(budget, 6.02) == 0  # those of 5.5 still count
    assert taken(budget, 6.6) == 5


def test_backoff_is_at_random_below_a_bound_that_doubles_up_to_the_cap() -> None:
    random.seed(11)
    bounds_s = [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    waits_s = [[backoff.next_s() for _ in bounds_s] for backoff in (Backoff(0.25, 8.0) for _ in range(300))]
    for bound_s, waited_s in zip(bounds_s, zip(*waits_s, strict=True), strict=True):
        assert 0 <= min(waited_s) < 0.05 * bound_s
        assert 0.95 * bound_s < max(waited_s) <= bound_s
        assert sum(waited_s) / len(waited_s) == pytest.approx(bound_s / 2, rel=0.2)


def test_a_cap_below_the_base_is_the_bound() -> None:
    backoff = Backoff(5.0, 1.0)
    assert all(backoff.next_s() <= 1.0 for _ in range(50))


@pytest.mark.parametrize(
    ("retry_after_s", "backoff_s", "left_s", "wait"),
    [
        (None, 0.3, 10.0, 0.3),
        (None, 8.0, 10.0, 8.0),
        (None, 0.3, 0.3, None),
        (None, 0.3, -1.0, None),
        (0.0, 0.3, 10.0, 0.3),
        (1.0, 0.25, 10.0, 1.25),
        (2.0, 0.25, 10.0, 2.25),
        (2.001, 0.25, 10.0, None),
        (300.0, 0.0, 1000.0, None),
        (1.0, 0.25, 1.25, None),
        (1.0, 0.0, 1.25, 1.0),
    ],
)
def test_a_wait_is_as_asked_and_within_what_is_left(
    retry_after_s: float | None, backoff_s: float, left_s: float, wait: float | None
) -> None:
    assert wait_s(retry_after_s, backoff_s, left_s, max_wait_s=2.0) == wait
