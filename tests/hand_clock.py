"""A clock moved by hand."""


class HandClock:
    """Both its readings move together, and only when told to."""

    def __init__(self) -> None:
        self._now_s = 1000.0

    def monotonic(self) -> float:
        return self._now_s

    def unix(self) -> float:
        return 1_700_000_000.0 + self._now_s

    def advance(self, seconds: float) -> None:
        self._now_s += seconds
