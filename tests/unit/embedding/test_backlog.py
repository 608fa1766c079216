"""Who may wait for the embedder."""

from hypothesis import given
from hypothesis import strategies as st

from genkan.embedding.backlog import Backlog


def test_no_more_than_the_limit_wait() -> None:
    backlog = Backlog(2)
    assert backlog.enter(10, 1.0)
    assert backlog.enter(10, 1.0)
    assert not backlog.enter(10, 1.0)
    backlog.leave(10)
    assert backlog.enter(10, 1.0)


def test_one_that_would_come_too_late_does_not_wait() -> None:
    backlog = Backlog(1000)
    backlog.computed(1000, 1.0)
    assert backlog.enter(500, 0.1)
    assert backlog.wait_s == 0.5
    assert not backlog.enter(1, 0.4)
    assert backlog.enter(1, 0.6)


def test_the_first_in_an_empty_line_is_let_in_whatever_its_patience() -> None:
    backlog = Backlog(1000)
    backlog.computed(1000, 1.0)
    assert backlog.enter(10_000, 0.0)


def test_a_small_batch_says_nothing_of_what_a_byte_costs() -> None:
    backlog = Backlog(1000)
    backlog.computed(20, 0.005)
    backlog.enter(4000, 1.0)
    assert backlog.wait_s == 0


def test_what_a_byte_costs_follows_the_batches() -> None:
    backlog = Backlog(1000)
    backlog.enter(1000, 1.0)
    backlog.computed(1000, 1.0)
    for _ in range(50):
        backlog.computed(1000, 2.0)
    assert 1.9 < backlog.wait_s <= 2.0


@given(st.lists(st.integers(0, 10_000), max_size=50))
def test_when_all_have_left_nothing_waits(sizes: list[int]) -> None:
    backlog = Backlog(40)
    backlog.computed(1000, 1.0)
    entered = [size for size in sizes if backlog.enter(size, 1e9)]
    assert backlog.requests == len(entered) == min(len(sizes), 40)
    for size in entered:
        backlog.leave(size)
    assert (backlog.requests, backlog.wait_s) == (0, 0)
