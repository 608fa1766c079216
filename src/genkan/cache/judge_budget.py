"""How often a judge may be asked, and for how much. Pure: the time is passed in."""

from collections import deque

_DAY_S = 86_400.0
_MINUTE_S = 60.0
_NANO = 10**9


class JudgeBudget:
    """So many verdicts in any minute, and so much money in a UTC day."""

    def __init__(self, *, per_minute: int, usd_per_day: float) -> None:
        self._per_minute = per_minute
        self._nano_per_day = round(usd_per_day * _NANO)
        self._asked_s: deque[float] = deque()
        self._day = -1
        self._spent_nano = 0

    def take(self, unix_s: float) -> bool:
        """Whether one more may be asked for now; then it counts."""
        self._turn(unix_s)
        while self._asked_s and self._asked_s[0] <= unix_s - _MINUTE_S:
            self._asked_s.popleft()
        if len(self._asked_s) >= self._per_minute or self._spent_nano >= self._nano_per_day:
            return False
        self._asked_s.append(unix_s)
        return True

    def spend(self, cost_nano_usd: int, unix_s: float) -> None:
        """A verdict has cost so much. The last of a day may go beyond the budget, by what one costs."""
        self._turn(unix_s)
        self._spent_nano += cost_nano_usd

    def spent_usd(self, unix_s: float) -> float:
        """Of the UTC day."""
        self._turn(unix_s)
        return self._spent_nano / _NANO

    def _turn(self, unix_s: float) -> None:
        day = int(unix_s // _DAY_S)
        if day != self._day:
            self._day, self._spent_nano = day, 0
