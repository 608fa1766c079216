"""Who is in the next batch, and when it is due: by hand, without threads and without a clock."""

import heapq
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genkan.batching.errors import BatcherFull
from genkan.batching.line import BatchLine, Ticket

WAIT_S = 0.1
Line = BatchLine[int, int]


def a_line(max_batch_size: int = 4, max_queue: int = 100, adaptive: bool = True) -> Line:
    return BatchLine(max_batch_size=max_batch_size, max_wait_s=WAIT_S, max_queue=max_queue, adaptive=adaptive)


def knowing(line: Line, now_s: float = 0.0) -> Line:
    """The line after a lone caller has been waited with in vain, so that nobody else is expected."""
    line.put([0], now_s)
    line.settle(line.take())
    return line


def items(tickets: Iterable[Ticket[int, int]]) -> list[int]:
    return [ticket.item for ticket in tickets]


# When a batch is due


def test_nothing_is_due_while_nobody_waits() -> None:
    assert a_line().due_s(0.0) is None


def test_a_full_batch_is_due_at_once() -> None:
    line = a_line(adaptive=False)
    line.put([1, 2, 3], 5.0)
    assert line.due_s(0.0) == 5.0 + WAIT_S
    line.put([4], 6.0)
    assert line.due_s(0.0) == 5.0


def test_a_queue_that_is_shorter_than_a_batch_is_not_waited_with_when_it_is_full() -> None:
    line = a_line(max_batch_size=32, max_queue=2, adaptive=False)
    line.put([1, 2], 5.0)
    assert line.due_s(0.0) == 5.0


def test_a_wait_counts_from_when_a_worker_is_there_for_it() -> None:
    line = a_line()
    line.put([1], 5.0)
    assert line.due_s(free_since_s=4.0) == 5.0 + WAIT_S
    assert line.due_s(free_since_s=7.0) == 7.0 + WAIT_S


def test_the_first_call_is_not_known_to_be_alone() -> None:
    line = a_line()
    line.put([1], 5.0)
    assert line.due_s(0.0) == 5.0 + WAIT_S


def test_a_lone_caller_is_not_held_up_again_after_a_wait_in_vain() -> None:
    line = knowing(a_line())
    for now_s in (1.0, 2.0, 3.0):
        line.put([1], now_s)
        assert line.due_s(0.0) == now_s
        line.settle(line.take())


def test_unless_it_is_adaptive_every_lone_caller_waits() -> None:
    line = knowing(a_line(adaptive=False))
    line.put([1], 1.0)
    assert line.due_s(0.0) == 1.0 + WAIT_S


def test_a_list_of_items_is_one_caller_until_the_last_is_settled() -> None:
    line = knowing(a_line(max_batch_size=2))
    line.put([1, 2, 3], 1.0)
    first = line.take()
    assert items(first) == [1, 2]
    line.settle(first)
    assert line.due_s(free_since_s=2.0) == 1.0, "nobody else is there, so its rest is not waited with"


def test_callers_that_came_together_are_waited_for_to_come_again() -> None:
    line = knowing(a_line(max_batch_size=8))
    for item in range(3):
        line.put([item], 1.0)
    line.settle(line.take())
    line.put([0], 2.0)
    line.put([1], 2.0)
    assert line.due_s(0.0) == 2.0 + WAIT_S
    line.put([2], 2.0)
    assert line.due_s(0.0) == 2.0


def test_callers_that_stay_away_cost_one_wait() -> None:
    line = knowing(a_line(max_batch_size=8))
    for item in range(3):
        line.put([item], 1.0)
    line.settle(line.take())
    for item in range(2):
        line.put([item], 2.0)
    line.settle(line.take())  # when it is due, without the third
    for item in range(2):
        line.put([item], 3.0)
    assert line.due_s(0.0) == 3.0


# Who is in it


def test_first_come_first_served() -> None:
    line = a_line()
    line.put([1, 2, 3], 1.0)
    line.put([4, 5, 6], 1.0)
    assert [items(line.take()) for _ in range(3)] == [[1, 2, 3, 4], [5, 6], []]


def test_a_call_is_accepted_whole_or_not_at_all() -> None:
    line = a_line(max_queue=5)
    line.put([1, 2, 3], 1.0)
    with pytest.raises(BatcherFull, match="At most 5 items may wait to be in a batch; 3 do, and 3 more came") as caught:
        line.put([4, 5, 6], 1.0)
    assert caught.value.limit == 5
    assert items(line.take()) == [1, 2, 3]


def test_who_is_refused_is_not_expected() -> None:
    line = knowing(a_line(max_batch_size=8, max_queue=1))
    line.put([1], 1.0)
    with pytest.raises(BatcherFull):
        line.put([2], 1.0)
    line.settle(line.take())
    line.put([1], 2.0)
    assert line.due_s(0.0) == 2.0


@pytest.mark.parametrize("told", [True, False], ids=["told", "not yet told"])
def test_what_is_cancelled_has_no_place(told: bool) -> None:
    line = a_line(max_batch_size=2)
    first, second, third = (line.put([item], 1.0)[0].answer for item in (1, 2, 3))
    assert second.cancel()
    if told:
        line.drop(second)
        assert len(line) == 2
    assert items(line.take()) == [1, 3]
    line.drop(second)
    assert not line
    assert (first.cancel(), third.cancel()) == (False, False)


def expecting_two() -> Line:
    line = knowing(a_line(max_batch_size=8))
    for item in (1, 2):
        line.put([item], 1.0)
    line.settle(line.take())
    return line


def test_who_has_cancelled_is_not_taken_for_one_who_is_there() -> None:
    line = expecting_two()
    leaver = line.put([1], 2.0)[0].answer
    leaver.cancel()
    line.drop(leaver)
    line.put([2], 2.0)
    assert line.due_s(0.0) == 2.0 + WAIT_S


def test_nor_is_one_of_whom_the_line_was_not_told_in_time() -> None:
    line = expecting_two()
    leaver = line.put([1], 2.0)[0].answer
    line.put([2], 2.0)
    leaver.cancel()
    line.settle(line.take())
    line.put([3], 3.0)
    assert line.due_s(0.0) == 3.0 + WAIT_S


# However they come


def run(
    callers: int, rounds: int, *, compute_s: float, think_s: float, max_batch_size: int
) -> tuple[list[int], list[float]]:
    """Sizes of batches, and when they ended: of one worker, and callers that come back again and again.

    Each does so ``think_s`` after its answer, one a millisecond after the other.
    """
    line, sizes, ends_s = a_line(max_batch_size=max_batch_size), list[int](), list[float]()
    now_s = came_s = 0.0
    arrivals = [(0.001 * caller, caller) for caller in range(callers)]
    while len(sizes) < rounds:
        free_since_s, due_s = now_s, line.due_s(now_s)
        while due_s is None or (arrivals and arrivals[0][0] < due_s):
            came_s, caller = heapq.heappop(arrivals)
            line.put([caller], came_s)
            due_s = line.due_s(free_since_s)
        batch = line.take()
        now_s = max(due_s, came_s, free_since_s) + compute_s
        line.settle(batch)
        sizes.append(len(batch))
        ends_s.append(now_s)
        for place, ticket in enumerate(batch):
            heapq.heappush(arrivals, (now_s + think_s + 0.001 * place, ticket.item))
    return sizes, ends_s


@settings(deadline=None)
@given(
    callers=st.integers(1, 24),
    compute_s=st.floats(0.0001, 1.0),
    think_s=st.floats(0.0, 0.05),
    max_batch_size=st.integers(24, 32),
)
def test_callers_that_come_back_are_soon_all_in_every_batch_and_nobody_waits_for_more(
    callers: int, compute_s: float, think_s: float, max_batch_size: int
) -> None:
    sizes, ends_s = run(callers, 12, compute_s=compute_s, think_s=think_s, max_batch_size=max_batch_size)
    assert sizes[2:] == [callers] * 10
    all_back_s = think_s + 0.001 * (callers - 1)
    assert [after_s - before_s for before_s, after_s in pairwise(ends_s[2:])] == [
        pytest.approx(all_back_s + compute_s)
    ] * 9


def test_more_callers_than_a_batch_has_room_for_fill_every_one() -> None:
    sizes, _ = run(40, 12, compute_s=0.02, think_s=0.001, max_batch_size=16)
    assert sizes == [16] * 12
