"""What a sliding window lets through, when, and how it is put right afterwards."""

import pytest

from genkan.store.window import Window

SECOND_US = 1_000_000
NOW_US = 1_800_000_000_000_000


@pytest.fixture
def window() -> Window:
    """Five in a second."""
    return Window(5, SECOND_US)


def fill(window: Window, now_us: int = NOW_US) -> None:
    """One of 1 now, one of 2 after 0.3 s, one of 2 after 0.6 s."""
    for take_id, (after_us, cost) in {"a": (0, 1), "b": (300_000, 2), "c": (600_000, 2)}.items():
        assert window.take(take_id, now_us + after_us, cost)


def test_it_lets_its_limit_through_at_once_and_nothing_more_until_a_window_went_by(window: Window) -> None:
    assert [window.take(n, NOW_US, 1) for n in range(6)] == [True] * 5 + [False]
    assert not window.take("early", NOW_US + SECOND_US - 1, 1)
    assert [window.take(-n, NOW_US + SECOND_US, 1) for n in range(1, 7)] == [True] * 5 + [False]


def test_around_the_boundary_of_a_window_there_is_no_second_limit(window: Window) -> None:
    before_us, after_us = NOW_US + 990_000, NOW_US + 1_010_000
    assert sum(window.take(f"before {n}", before_us, 1) for n in range(5)) == 5
    assert sum(window.take(f"after {n}", after_us, 1) for n in range(5)) == 0


def test_takes_leave_one_by_one(window: Window) -> None:
    fill(window)
    free = {after_us: window.remaining(NOW_US + after_us) for after_us in (600_000, 999_999, 1_000_000, 1_300_000)}
    assert free == {600_000: 0, 999_999: 0, 1_000_000: 1, 1_300_000: 3}


def test_what_it_says_of_retry_is_when_enough_of_the_oldest_have_left(window: Window) -> None:
    fill(window)
    now_us = NOW_US + 700_000
    waits_us = {cost: window.retry_us(now_us, cost) for cost in range(7)}
    assert waits_us == {0: 0, 1: 300_000, 2: 600_000, 3: 600_000, 4: 900_000, 5: 900_000, 6: None}
    assert not window.take("d", now_us + 599_999, 3)
    assert window.take("d", now_us + 600_000, 3)


def test_it_is_as_if_never_used_once_its_reset_is_over(window: Window) -> None:
    fill(window)
    assert window.reset_us(NOW_US + 700_000) == 900_000
    assert not window.is_empty(NOW_US + 1_599_999)
    assert window.is_empty(NOW_US + 1_600_000)
    assert window.reset_us(NOW_US + 1_600_000) == 0
    assert window.total == 0


def test_a_take_that_became_cheaper_keeps_its_time(window: Window) -> None:
    fill(window)
    window.replace("b", NOW_US + 700_000, 1)
    assert window.remaining(NOW_US + 700_000) == 1
    assert window.remaining(NOW_US + 1_300_000) == 3  # what was taken at 0.3 s left, with what it cost in the end


def test_one_that_cost_nothing_is_forgotten(window: Window) -> None:
    assert window.take("a", NOW_US, 5)
    window.replace("a", NOW_US, 0)
    assert window.is_empty(NOW_US)


def test_one_that_became_dearer_leaves_a_debt_until_it_left(window: Window) -> None:
    fill(window)
    window.replace("c", NOW_US + 700_000, 9)
    assert window.remaining(NOW_US + 1_300_000) == 0
    assert window.retry_us(NOW_US + 700_000, 0) == 900_000
    assert window.remaining(NOW_US + 1_600_000) == 5


def test_what_has_left_or_never_came_is_not_put_right(window: Window) -> None:
    fill(window)
    window.replace("a", NOW_US + SECOND_US, 4)
    window.replace("never", NOW_US + SECOND_US, 4)
    assert window.remaining(NOW_US + SECOND_US) == 1


def test_an_id_is_taken_once(window: Window) -> None:
    assert window.take("a", NOW_US, 3)
    assert window.take("a", NOW_US + 1, 3)
    assert window.remaining(NOW_US + 1) == 2


def test_a_take_of_nothing_can_be_put_right_too(window: Window) -> None:
    assert window.take("a", NOW_US, 0)
    window.replace("a", NOW_US, 4)
    assert window.remaining(NOW_US) == 1
