"""What is said of an event loop's lag."""

import asyncio
import time

import pytest
from virtual_time import VirtualLoop

from genkan.server.loop_watch import BUSY_EVERY_S, IDLE_EVERY_S, LoopWatch

Look = tuple[float, float, float]


class Clocks:
    """The time, and the processor time of the thread, moved by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = self.worked_s = 100.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now_s)
        monkeypatch.setattr(time, "thread_time", lambda: self.worked_s)

    def pass_(self, seconds: float, *, worked_s: float) -> None:
        self.now_s += seconds
        self.worked_s += worked_s


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    return Clocks(monkeypatch)


def watched(clocks: Clocks, passed: list[tuple[float, float]]) -> list[Look]:
    """What is told when between the looks these times pass, with so much work."""
    looks: list[Look] = []

    async def main() -> None:
        loop, looked = asyncio.get_running_loop(), asyncio.Event()
        watch = LoopWatch([lambda *look: looks.append(look), lambda *_: looked.set()])
        watch.start()
        for seconds, worked_s in passed:
            clocks.pass_(seconds, worked_s=worked_s)
            looked.clear()
            await looked.wait()
        watch.stop()
        assert isinstance(loop, VirtualLoop)
        assert not loop.pending_timers()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())
    return looks


def test_a_loop_in_time_does_not_lag(clocks: Clocks) -> None:
    assert [lag_s for _, lag_s, _ in watched(clocks, [(IDLE_EVERY_S, 0.001)] * 3)] == pytest.approx([0, 0, 0])


def test_lag_by_its_own_work(clocks: Clocks) -> None:
    [(now_s, lag_s, own_s)] = watched(clocks, [(IDLE_EVERY_S + 0.2, 0.24)])
    assert [now_s, lag_s, own_s] == pytest.approx([100.25, 0.2, 0.2])


def test_lag_as_others_have_the_core(clocks: Clocks) -> None:
    [(_, lag_s, own_s)] = watched(clocks, [(IDLE_EVERY_S + 0.2, 0.01)])
    assert [lag_s, own_s] == pytest.approx([0.2, 0.01])


def test_a_busy_loop_is_looked_at_more_often(clocks: Clocks) -> None:
    looks = watched(clocks, [(IDLE_EVERY_S, IDLE_EVERY_S), (BUSY_EVERY_S + 0.01, 0.0), (IDLE_EVERY_S, 0.0)])
    assert [lag_s for _, lag_s, _ in looks] == pytest.approx([0, 0.01, 0])
