"""When `genkan drain --wait` returns."""

import os
from collections.abc import Callable

import pytest
from hand_clock import HandClock

from genkan.server.drain import DrainPage, Report
from genkan.server.draining import POLL_S, Wait, wait_until_idle

NOTICE_S, WAIT_S = 2.0, 10.0
PID = os.getpid()


class Rig:
    """A page, and what happens to it while somebody waits: by the number of the sleep."""

    def __init__(self, happens: Callable[["Rig", int], None] = lambda rig, nth: None) -> None:
        self.clock = HandClock()
        self.page = DrainPage.private()
        self.page.begin(self.clock.unix())
        self._happens = happens
        self._sleeps = 0

    def report(self, requests: int, *, is_draining: bool = True) -> None:
        self.page.report(0, Report(PID, requests, requests, is_draining))

    def wait(self) -> Wait:
        return wait_until_idle(self.page, notice_s=NOTICE_S, wait_s=WAIT_S, clock=self.clock.unix, sleep=self._sleep)

    def _sleep(self, seconds: float) -> None:
        self._sleeps += 1
        self.clock.advance(seconds)
        self._happens(self, self._sleeps)


def test_an_idle_server_is_waited_for_as_long_as_balancers_take_to_notice() -> None:
    rig = Rig()
    rig.report(0)
    wait = rig.wait()
    assert wait.is_idle
    assert NOTICE_S <= wait.waited_s <= NOTICE_S + 3 * POLL_S


def test_time_since_the_flag_was_set_counts() -> None:
    rig = Rig()
    rig.report(0)
    rig.clock.advance(60)
    assert rig.wait().waited_s == pytest.approx(POLL_S)


def test_it_returns_when_the_last_request_has_ended() -> None:
    rig = Rig(lambda rig, nth: rig.report(0 if nth >= 50 else 2))
    rig.report(2)
    wait = rig.wait()
    assert wait.is_idle
    assert wait.waited_s == pytest.approx(51 * POLL_S)


def test_a_worker_that_has_not_seen_the_flag_is_waited_for() -> None:
    rig = Rig(lambda rig, nth: rig.report(0, is_draining=nth >= 40))
    rig.report(0, is_draining=False)
    assert rig.wait().waited_s == pytest.approx(41 * POLL_S)


def test_nothing_under_way_for_a_moment_is_not_enough() -> None:
    rig = Rig(lambda rig, nth: rig.report(nth % 2))  # as one comes whenever another has gone
    rig.report(1)
    assert rig.wait().waited_s >= WAIT_S


def test_it_gives_up_and_says_what_is_left() -> None:
    rig = Rig()
    rig.report(3)
    wait = rig.wait()
    assert (wait.is_idle, wait.requests) == (False, 3)
    assert wait.waited_s == pytest.approx(WAIT_S, abs=POLL_S)


def test_without_the_time_to_notice_it_is_not_idle() -> None:
    rig = Rig()
    rig.report(0)
    wait = wait_until_idle(rig.page, notice_s=NOTICE_S, wait_s=0.5, clock=rig.clock.unix, sleep=rig.clock.advance)
    assert (wait.is_idle, wait.requests) == (False, 0)
    assert wait.waited_s == pytest.approx(0.5)
