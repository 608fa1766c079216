"""The lazy queue against keys that change under it."""

from genkan.engine.prefix_page import NamespaceRoot, Page
from genkan.engine.prefix_queue import PageQueue


def pages(*last_used: int) -> list[Page]:
    root = NamespaceRoot(b"", 0.0)
    made = [Page(root, root, (number,), number, 0.0) for number in range(len(last_used))]
    for page, use in zip(made, last_used, strict=True):
        page.last_used = use
    return made


def queue_of(waiting: list[Page]) -> PageQueue:
    queue = PageQueue(lambda page: (page.last_used,))
    for page in waiting:
        queue.push(page)
    return queue


def drained(queue: PageQueue) -> list[Page]:
    found = []
    while (page := queue.pop()) is not None:
        found.append(page)
    return found


def test_the_smallest_key_comes_first_and_of_equal_keys_the_first_pushed() -> None:
    a, b, c, d = pages(5, 3, 5, 4)
    assert drained(queue_of([a, b, c, d])) == [b, d, a, c]


def test_a_key_that_grew_waits_for_its_new_turn() -> None:
    a, b, c = pages(1, 2, 3)
    queue = queue_of([a, b, c])
    a.last_used = 9
    assert drained(queue) == [b, c, a]


def test_a_key_that_shrank_counts_once_it_is_pushed_again() -> None:
    a, b = pages(2, 3)
    queue = queue_of([a, b])
    b.last_used = 1
    assert b not in queue
    queue.push(b)
    assert b in queue
    assert drained(queue) == [b, a]


def test_a_page_waits_once_however_often_it_is_pushed() -> None:
    (a,) = pages(1)
    queue = queue_of([a, a])
    assert len(queue) == 1
    assert drained(queue) == [a]


def test_what_is_beyond_the_limit_stays() -> None:
    a, b = pages(1, 2)
    queue = queue_of([a, b])
    assert queue.pop((1,)) is a
    assert queue.pop((1,)) is None
    assert b in queue


def test_a_discarded_page_is_gone_and_can_come_again() -> None:
    a, b = pages(1, 2)
    queue = queue_of([a, b])
    queue.discard(a)
    queue.discard(a)
    assert a not in queue
    assert queue.pop() is b
    queue.push(a)
    assert drained(queue) == [a]


def test_what_was_discarded_does_not_pile_up() -> None:
    kept, *others = pages(*range(1000))
    queue = queue_of([kept])
    for other in others:
        queue.push(other)
        queue.discard(other)
    assert len(queue._heap) < 100
    assert drained(queue) == [kept]
