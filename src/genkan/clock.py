"""Where time comes from, so that a test can be its own clock."""

import time
from typing import Protocol


class Clock(Protocol):
    """Two readings of time; everything that measures or stamps takes one of these."""

    def monotonic(self) -> float:
        """Seconds that never jump, for durations and deadlines."""

    def unix(self) -> float:
        """Seconds since 1970 UTC, for stamps that others read."""


class SystemClock:
    """The machine's clock."""

    def monotonic(self) -> float:
        return time.monotonic()

    def unix(self) -> float:
        return time.time()
