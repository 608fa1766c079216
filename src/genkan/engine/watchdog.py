"""Notices a step that hangs: the engine's thread cannot, as it is in it."""

import math
import threading
from collections.abc import Callable

from genkan.clock import Clock

_CHECKS_A_TIMEOUT = 8


class Watchdog:
    """Watches what one thread does inside ``with watchdog:``, from another of its own."""

    def __init__(self, timeout_s: float | None, clock: Clock, on_hang: Callable[[], None]) -> None:
        """``on_hang`` is called once, in the watchdog's thread, when something watched takes longer than ``timeout_s``:
        an eighth of that later at most. After it nothing is watched. Without a timeout nothing ever is.
        """
        self._timeout_s = math.inf if timeout_s is None else timeout_s
        self._clock = clock
        self._on_hang = on_hang
        self._began_s: float | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="engine-watchdog", daemon=True)

    def start(self) -> None:
        if self._timeout_s < math.inf:
            self._thread.start()

    def stop(self) -> None:
        self._stopped.set()

    def __enter__(self) -> None:
        """What is inside the ``with`` may take ``timeout_s``. Cost: under a microsecond."""
        self._began_s = self._clock.monotonic()

    def __exit__(self, *_: object) -> None:
        self._began_s = None

    def pause(self) -> None:
        """What is watched waits for others, as long as they take."""
        self._began_s = None

    def resume(self) -> None:
        """It goes on, and may take ``timeout_s`` from now."""
        self._began_s = self._clock.monotonic()

    def hangs(self) -> bool:
        """Whether what is watched now takes too long."""
        began_s = self._began_s
        return began_s is not None and self._clock.monotonic() - began_s > self._timeout_s

    def _run(self) -> None:
        while not self._stopped.wait(self._timeout_s / _CHECKS_A_TIMEOUT):
            if self.hangs():
                self._on_hang()
                return
