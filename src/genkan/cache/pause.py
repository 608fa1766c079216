"""Leaves alone for a moment what did not answer in time. Pure, the clock's reading is passed in.

A slow Redis then costs one request its timeout, and not all of them.
"""

PAUSE_S = 1.0


class Pause:
    """Whether to ask. After a timeout nobody does for ``seconds``; then one does, and if that is answered, all do."""

    __slots__ = ("_seconds", "_until_s")

    def __init__(self, seconds: float = PAUSE_S) -> None:
        self._seconds = seconds
        self._until_s: float | None = None

    def permits(self, now_s: float) -> bool:
        """Whether to ask now. Whoever is told so in a pause that is over is alone in it for as long again."""
        if self._until_s is None:
            return True
        if now_s < self._until_s:
            return False
        self._until_s = now_s + self._seconds
        return True

    def timed_out(self, now_s: float) -> None:
        """What was asked was not answered in time."""
        self._until_s = now_s + self._seconds

    def answered(self) -> None:
        """What was asked was answered."""
        self._until_s = None
