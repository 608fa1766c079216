"""When something takes too long, by a clock that is moved by hand."""

import threading

import pytest
from hand_clock import HandClock

from genkan.engine.watchdog import Watchdog


def watchdog(clock: HandClock, timeout_s: float | None = 2.0) -> Watchdog:
    return Watchdog(timeout_s, clock, lambda: None)


def test_nothing_hangs_that_is_not_watched() -> None:
    clock = HandClock()
    dog = watchdog(clock)
    clock.advance(100)
    assert not dog.hangs()
    with dog:
        pass
    clock.advance(100)
    assert not dog.hangs()


def test_what_takes_longer_hangs() -> None:
    clock = HandClock()
    dog = watchdog(clock)
    for _ in range(2):
        with dog:
            clock.advance(2)
            assert not dog.hangs()
            clock.advance(0.5)
            assert dog.hangs()


def test_what_raises_has_ended() -> None:
    clock = HandClock()
    dog = watchdog(clock)
    with pytest.raises(KeyError), dog:
        raise KeyError
    clock.advance(100)
    assert not dog.hangs()


def test_without_a_timeout_nothing_hangs() -> None:
    clock = HandClock()
    dog = watchdog(clock, None)
    with dog:
        clock.advance(1e9)
        assert not dog.hangs()


def test_it_is_told_once() -> None:
    clock, told = HandClock(), threading.Semaphore(0)
    dog = Watchdog(0.01, clock, told.release)
    dog.start()
    with dog:
        clock.advance(1)
        assert told.acquire(timeout=10)
        dog._thread.join(timeout=10)
        assert not dog._thread.is_alive()
    assert not told.acquire(blocking=False)


def test_a_stopped_one_ends() -> None:
    dog = Watchdog(0.01, HandClock(), lambda: None)
    dog.start()
    dog.stop()
    dog._thread.join(timeout=10)
    assert not dog._thread.is_alive()


def test_the_wait_for_others_does_not_count() -> None:
    clock = HandClock()
    dog = watchdog(clock)
    with dog:
        clock.advance(1.5)
        dog.pause()
        clock.advance(100)
        assert not dog.hangs()
        dog.resume()
        clock.advance(1.5)
        assert not dog.hangs()
        clock.advance(1)
        assert dog.hangs()
    clock.advance(100)
    assert not dog.hangs()
