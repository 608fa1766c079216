"""Limits the phases of one attempt with a single timer.

``asyncio.timeout`` makes and cancels a timer for every block. A stream has a block per read, and a limit of half a
minute that hardly ever matters. This timer is set once and left: when it fires and the phase it was set for is over, it
is set again for the phase that runs now, so a phase costs two readings of the clock.

The deadline of the whole attempt holds between phases as well, while a client takes its time: what the attempt holds is
then given back, and the next phase does not begin.
"""

import asyncio
import math
from collections.abc import Callable
from types import TracebackType

from genkan.errors import Phase, TimedOut


class PhaseTimer:
    """Use it as ``with timer.phase("connect", 2.0): await …``, one phase at a time; ``close`` it at the end.

    A phase that takes too long, or reaches the deadline, is cancelled and becomes TimedOut. Phases need not run in one
    task, but each must end in the task it began in.
    """

    __slots__ = (
        "_cancelling", "_deadline_s", "_expired", "_fires_s", "_handle", "_is_late", "_limit_s", "_loop", "_on_late",
        "_phase", "_task", "_total_s", "_until_s", "_upstream",
    )  # fmt: skip

    def __init__(self, upstream: str, *, total_s: float, on_late: Callable[[], None] | None = None) -> None:
        """The attempt must end ``total_s`` from now, whatever its phases may take.

        ``on_late`` is called if that moment comes between two phases, when a slow client keeps the next from beginning.
        """
        self._loop = loop = asyncio.get_running_loop()
        self._upstream = upstream
        self._on_late = on_late
        self._total_s = self._limit_s = total_s
        self._deadline_s = self._until_s = loop.time() + total_s
        self._handle: asyncio.TimerHandle | None = None
        self._fires_s = math.inf  # not the handle's when(): uvloop's has none if it was due when it was made
        self._task: asyncio.Task[object] | None = None  # of the phase that runs
        self._cancelling = 0
        self._phase: Phase = "total"
        self._expired = self._is_late = False

    def phase(self, phase: Phase, limit_s: float) -> "PhaseTimer":
        """What limits the block under ``with``."""
        until_s = self._loop.time() + limit_s
        if until_s < self._deadline_s:
            self._phase, self._limit_s, self._until_s = phase, limit_s, until_s
        else:
            self._phase, self._limit_s, self._until_s = "total", self._total_s, self._deadline_s
        return self

    def __enter__(self) -> None:
        if self._is_late:
            raise TimedOut(upstream=self._upstream, phase="total", limit_s=self._total_s)
        self._task = task = asyncio.current_task(self._loop)
        assert task is not None
        self._cancelling = task.cancelling()
        if self._until_s < self._fires_s:
            self._set()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        if self._expired:
            self._expired = False
            assert task is not None
            # As asyncio.timeout does: only our own cancellation becomes an exception.
            if task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
                raise TimedOut(upstream=self._upstream, phase=self._phase, limit_s=self._limit_s) from error

    def close(self) -> None:
        """Take the timer back. A second call does nothing."""
        self._on_late = None  # who is told holds this timer, and both would wait for the garbage collector
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
            self._fires_s = math.inf

    def _set(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._fires_s = self._until_s
        self._handle = self._loop.call_at(self._until_s, self._fire)

    def _fire(self) -> None:
        self._handle = None
        self._fires_s = math.inf
        if self._task is None:  # between two phases
            self._look_at_the_deadline()
            return
        if self._loop.time() < self._until_s:
            self._set()
            return
        self._expired = True
        self._task.cancel()

    def _look_at_the_deadline(self) -> None:
        if self._loop.time() < self._deadline_s:
            self._until_s = self._deadline_s
            self._set()
            return
        self._is_late = True
        if self._on_late is not None:
            self._on_late()
