"""Engines that share the cores compute in turn."""

import threading
from collections.abc import Callable

from genkan.engine.turns import Turns

WAIT_S = 20


def in_thread(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_turns_are_had_one_at_a_time_in_the_order_they_were_asked_for() -> None:
    turns, had = Turns(), []

    def take(number: int) -> Callable[[], None]:
        def work() -> None:
            with turns.turn():
                had.append(number)

        return work

    with turns.turn():
        threads = []
        for number in range(5):
            threads.append(in_thread(take(number)))
            while len(turns) < number + 2:  # it waits in line
                pass
        assert had == []
    for thread in threads:
        thread.join(WAIT_S)
    assert had == [0, 1, 2, 3, 4]
    assert len(turns) == 0


def test_who_comes_back_at_once_waits_behind_who_waited() -> None:
    turns, other_had_it = Turns(), threading.Event()

    def once() -> None:
        with turns.turn():
            other_had_it.set()

    with turns.turn():
        thread = in_thread(once)
        while len(turns) < 2:
            pass
    with turns.turn():
        assert other_had_it.is_set()
    thread.join(WAIT_S)


def test_a_step_that_raises_gives_its_turn_on() -> None:
    turns = Turns()
    try:
        with turns.turn():
            raise ValueError
    except ValueError:
        pass
    with turns.turn():
        assert len(turns) == 1
