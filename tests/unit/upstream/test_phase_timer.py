"""One timer for all phases of an attempt, in a loop whose clock is the test's own."""

import asyncio
import gc
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from genkan.errors import Phase, TimedOut
from genkan.upstream.phase_timer import PhaseTimer


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time stands still while there is work, and jumps to the next timer when there is none."""

    now_s = 1000.0

    def time(self) -> float:
        return self.now_s

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self.now_s = max(self.now_s, self._scheduled[0].when())  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]

    def pending_timers(self) -> list[asyncio.TimerHandle]:
        return [handle for handle in self._scheduled if not handle.cancelled()]  # type: ignore[attr-defined]


def virtual(test: Callable[[VirtualLoop], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run an async test in a VirtualLoop; at its end no timer may be left."""

    def run() -> None:
        loop = VirtualLoop()
        try:
            loop.run_until_complete(test(loop))
            assert loop.pending_timers() == []
        finally:
            loop.close()

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


async def for_ever() -> None:
    await asyncio.Event().wait()


async def failing_after(seconds: float) -> None:
    await asyncio.sleep(seconds)
    raise ValueError("mine")


async def failing_when_cancelled() -> None:
    try:
        await for_ever()
    except asyncio.CancelledError:
        raise ValueError("mine") from None


async def timed_out(timer: PhaseTimer, phase: Phase, limit_s: float) -> TimedOut:
    with pytest.raises(TimedOut) as caught, timer.phase(phase, limit_s):
        await for_ever()
    return caught.value


@virtual
async def test_a_phase_in_time_leaves_nothing(loop: VirtualLoop) -> None:
    timer = PhaseTimer("up", total_s=300)
    with timer.phase("first_token", 10):
        await asyncio.sleep(9.9)
    timer.close()
    timer.close()


@virtual
async def test_a_phase_that_takes_too_long_is_cut_off_at_its_limit(loop: VirtualLoop) -> None:
    timer = PhaseTimer("up", total_s=300)
    error = await timed_out(timer, "first_token", 10)
    assert (error.upstream, error.phase, error.limit_s, loop.now_s) == ("up", "first_token", 10, 1010)
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]
    timer.close()


@virtual
async def test_the_deadline_ends_a_phase_that_had_time_left(loop: VirtualLoop) -> None:
    timer = PhaseTimer("up", total_s=12)
    with timer.phase("first_token", 10):
        await asyncio.sleep(9)
    error = await timed_out(timer, "between_tokens", 10)
    assert (error.phase, error.limit_s, loop.now_s) == ("total", 12, 1012)
    timer.close()


@virtual
async def test_a_phase_after_the_deadline_ends_at_once(loop: VirtualLoop) -> None:
    timer = PhaseTimer("up", total_s=5)
    await asyncio.sleep(7)
    error = await timed_out(timer, "between_tokens", 10)
    assert (error.phase, loop.now_s) == ("total", 1007)
    timer.close()


@virtual
async def test_every_phase_has_its_own_time_and_all_share_one_timer(loop: VirtualLoop) -> None:
    timer = PhaseTimer("up", total_s=10_000)
    for _ in range(500):
        with timer.phase("between_tokens", 10):
            await asyncio.sleep(7)
        assert len(loop.pending_timers()) == 1
    began_s = loop.now_s
    error = await timed_out(timer, "between_tokens", 10)
    assert (error.phase, loop.now_s) == ("between_tokens", began_s + 10)
    timer.close()


@virtual
async def test_a_phase_that_is_shorter_than_the_one_before_ends_on_time(loop: VirtualLoop) -> None:
    timer = PhaseTimer("up", total_s=300)
    with timer.phase("first_token", 100):
        await asyncio.sleep(1)
    error = await timed_out(timer, "between_tokens", 2)
    assert (error.phase, error.limit_s, loop.now_s) == ("between_tokens", 2, 1003)
    timer.close()


@virtual
async def test_a_phase_that_is_longer_than_the_one_before_is_not_cut_short(loop: VirtualLoop) -> None:
    timer = PhaseTimer("up", total_s=300)
    with timer.phase("connect", 2):
        await asyncio.sleep(1)
    with timer.phase("first_token", 100):
        await asyncio.sleep(99)
    timer.close()


@virtual
async def test_time_between_phases_is_not_limited(loop: VirtualLoop) -> None:
    timer = PhaseTimer("up", total_s=300)
    with timer.phase("first_token", 2):
        await asyncio.sleep(1)
    await asyncio.sleep(50)  # the consumer is slow; the timer fires, and cancels nothing
    error = await timed_out(timer, "between_tokens", 2)
    assert (error.phase, loop.now_s) == ("between_tokens", 1053)
    timer.close()


@virtual
async def test_an_error_of_the_phase_itself_goes_through(loop: VirtualLoop) -> None:
    timer = PhaseTimer("up", total_s=300)
    with pytest.raises(ValueError, match="mine"), timer.phase("first_token", 2):
        await failing_after(1)
    timer.close()


@virtual
async def test_a_cancellation_from_outside_is_never_taken_for_a_timeout(loop: VirtualLoop) -> None:
    timer = PhaseTimer("up", total_s=300)

    async def phase() -> None:
        with timer.phase("first_token", 10):
            await for_ever()

    task = asyncio.create_task(phase())
    loop.call_later(9, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    timer.close()


@virtual
async def test_a_cancellation_in_the_same_moment_as_the_limit_is_kept(loop: VirtualLoop) -> None:
    timer = PhaseTimer("up", total_s=300)

    async def phase() -> None:
        with timer.phase("first_token", 10):
            await for_ever()

    task = asyncio.create_task(phase())
    await asyncio.sleep(0)  # the phase's timer is set before ours, for the same moment
    loop.call_later(10, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert loop.now_s == 1010
    timer.close()


@virtual
async def test_what_ends_although_it_was_cut_off_is_kept(loop: VirtualLoop) -> None:
    timer = PhaseTimer("up", total_s=300)
    with pytest.raises(ValueError, match="mine"), timer.phase("first_token", 10):
        await failing_when_cancelled()
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]
    await asyncio.sleep(0)  # and no cancellation is left over
    timer.close()


@virtual
async def test_phases_may_run_in_tasks_of_their_own(loop: VirtualLoop) -> None:
    timer = PhaseTimer("up", total_s=300)

    async def phase(name: Phase, limit_s: float) -> None:
        with timer.phase(name, limit_s):
            await for_ever()

    with pytest.raises(TimedOut):
        await asyncio.create_task(phase("first_token", 10))
    with pytest.raises(TimedOut):
        await asyncio.create_task(phase("between_tokens", 10))
    assert loop.now_s == 1020
    timer.close()


@virtual
async def test_it_works_inside_another_timeout(loop: VirtualLoop) -> None:
    timer = PhaseTimer("up", total_s=300)

    async def within_5_s() -> None:
        async with asyncio.timeout(5):
            with timer.phase("first_token", 10):
                await for_ever()

    with pytest.raises(TimeoutError):
        await within_5_s()
    async with asyncio.timeout(50):
        error = await timed_out(timer, "first_token", 10)
    assert (error.phase, loop.now_s) == ("first_token", 1015)
    timer.close()


@virtual
async def test_a_deadline_between_two_phases_is_told_once_and_the_next_does_not_begin(loop: VirtualLoop) -> None:
    told: list[float] = []
    timer = PhaseTimer("up", total_s=60, on_late=lambda: told.append(loop.time() - 1000))
    with timer.phase("first_token", 10):
        await asyncio.sleep(1)
    await asyncio.sleep(58)
    with timer.phase("between_tokens", 10):
        pass
    assert told == []
    await asyncio.sleep(100)
    assert told == [60]
    with pytest.raises(TimedOut) as caught, timer.phase("between_tokens", 10):
        told.append(-1)
    assert (caught.value.phase, caught.value.limit_s) == ("total", 60)
    assert told == [60]
    timer.close()


@virtual
async def test_a_closed_timer_lets_go_of_who_it_would_have_told(loop: VirtualLoop) -> None:
    class Holder:
        def __init__(self) -> None:
            self.timer = PhaseTimer("up", total_s=60, on_late=self.late)

        def late(self) -> None: ...

    holder = Holder()
    gone = weakref.ref(holder)
    gc.disable()
    try:
        holder.timer.close()
        del holder
        assert gone() is None
    finally:
        gc.enable()
