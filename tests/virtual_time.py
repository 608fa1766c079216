"""An event loop whose clock is the test's own, and that clock for what is given one."""

import asyncio
import heapq
from collections.abc import Coroutine
from typing import TypeVar

T = TypeVar("T")


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time stands still while there is work, and jumps to the next timer when there is none."""

    now_s = 1000.0

    def time(self) -> float:
        return self.now_s

    def _run_once(self) -> None:
        timers = self._scheduled  # type: ignore[attr-defined]
        while timers and timers[0].cancelled():  # or time would jump to one, and wait in earnest for the next
            heapq.heappop(timers)._scheduled = False
            self._timer_cancelled_count -= 1  # type: ignore[attr-defined]
        if not self._ready and timers:  # type: ignore[attr-defined]
            self.now_s = max(self.now_s, timers[0].when())
        super()._run_once()  # type: ignore[misc]

    def pending_timers(self) -> list[asyncio.TimerHandle]:
        return [handle for handle in self._scheduled if not handle.cancelled()]  # type: ignore[attr-defined]


class LoopClock:
    """The running loop's time."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def unix(self) -> float:
        return self.monotonic() + 1.7e9


def run_virtually(main: Coroutine[object, object, T]) -> T:
    """What ``main`` returns, in virtual time; at its end no timer and no task may be left."""
    loop = VirtualLoop()
    try:
        result = loop.run_until_complete(main)
        assert loop.pending_timers() == []
        assert asyncio.all_tasks(loop) == set()
        return result
    finally:
        loop.close()
