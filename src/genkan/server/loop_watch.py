"""How far an event loop lags behind: how much later than asked for it runs what is due."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

#: Is told when the loop was looked at (seconds of one clock), its lag, and how much of that was its own work.
Observe = Callable[[float, float, float], None]

IDLE_EVERY_S: Final = 0.05
BUSY_EVERY_S: Final = 0.005
_BUSY_SHARE: Final = 0.2  # of a core


class LoopWatch:
    """Looks at the running loop 20 times a second, and 200 times while it is busy, as far as its turns allow.

    The loop's own work is the processor time of its thread: where other processes have the core, the loop lags as well,
    but has not too much to do. Cost: 3 µs a look.
    """

    def __init__(self, observers: Sequence[Observe]) -> None:
        self._observers = observers
        self._handle: asyncio.TimerHandle | None = None
        self._looked_s = self._busy_s = self._every_s = 0.0

    def start(self) -> None:
        """Begin; in the loop's own thread."""
        self._looked_s, self._busy_s = time.perf_counter(), time.thread_time()
        self._again(IDLE_EVERY_S)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _again(self, every_s: float) -> None:
        self._every_s = every_s
        self._handle = asyncio.get_running_loop().call_later(every_s, self._look)

    def _look(self) -> None:
        now_s, busy_s = time.perf_counter(), time.thread_time()
        passed_s, worked_s = now_s - self._looked_s, busy_s - self._busy_s
        self._looked_s, self._busy_s = now_s, busy_s
        lag_s = max(0.0, passed_s - self._every_s)
        self._again(BUSY_EVERY_S if worked_s > _BUSY_SHARE * passed_s else IDLE_EVERY_S)
        for observe in self._observers:
            observe(now_s, lag_s, min(lag_s, worked_s))
