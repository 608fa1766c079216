"""The state of one limit in memory, for each kind of limit. No I/O; times are whole microseconds and passed in."""

from abc import ABC, abstractmethod
from dataclasses import replace

from genkan.store.accounts import Line, LineState
from genkan.store.bucket import FULL, Bucket
from genkan.store.expiring import Expiring
from genkan.store.window import Window

_FOR_EVER_US = 10**18


def microseconds(seconds: float) -> int:
    """The nearest whole number of them: integers add up without an error."""
    return round(seconds * 1e6)


class MemoryLine(ABC):
    """What is taken from ``line``. ``take`` does not ask whether it fits. Times must not run backwards."""

    def __init__(self, line: Line) -> None:
        self.line = line

    def change(self, line: Line, now_us: int) -> None:
        """Apply the rule of ``line``, of the same kind, from now on; what was taken stays taken."""
        self.line = line

    @abstractmethod
    def fits(self, now_us: int, cost: int) -> bool:
        """Whether ``cost`` is there."""

    @abstractmethod
    def take(self, request_id: str, now_us: int, cost: int) -> None:
        """Take it."""

    @abstractmethod
    def settle(self, request_id: str, now_us: int, reserved: int, actual: int) -> None:
        """Put a take right."""

    @abstractmethod
    def state(self, now_us: int, cost: int) -> LineState:
        """How it stands for somebody who asks for ``cost``."""

    def read(self, now_us: int) -> LineState:
        """How it stands."""
        return self.state(now_us, 0)

    @abstractmethod
    def is_idle(self, now_us: int) -> bool:
        """Whether it is as if never used, so that nothing is lost with it."""


class BucketLine(MemoryLine):
    """A token bucket of which this process applies a share.

    What fits the whole bucket but not this share of it waits until the share is full, and leaves a debt.
    """

    def __init__(self, line: Line, share: float) -> None:
        super().__init__(line)
        self._share = share
        self._bucket = _bucket(line, share)
        self._full_at = FULL

    def change(self, line: Line, now_us: int) -> None:
        super().change(line, now_us)
        before, self._bucket = self._bucket, _bucket(line, self._share)
        self._full_at = before.as_of(self._bucket, self._full_at, now_us)

    def fits(self, now_us: int, cost: int) -> bool:
        return self._retry_us(now_us, cost) == 0

    def take(self, request_id: str, now_us: int, cost: int) -> None:
        self._full_at = self._bucket.adjust(self._full_at, now_us, cost)

    def settle(self, request_id: str, now_us: int, reserved: int, actual: int) -> None:
        self._full_at = self._bucket.adjust(self._full_at, now_us, actual - reserved)

    def state(self, now_us: int, cost: int) -> LineState:
        bucket, full_at = self._bucket, self._full_at
        retry_us = self._retry_us(now_us, cost)
        return _state(bucket.remaining(full_at, now_us), retry_us, bucket.reset_us(full_at, now_us))

    def is_idle(self, now_us: int) -> bool:
        return self._bucket.is_full(self._full_at, now_us)

    def _retry_us(self, now_us: int, cost: int) -> int | None:
        if cost > self.line.burst:
            return None
        return self._bucket.retry_us(self._full_at, now_us, min(cost, self._bucket.burst))


class WindowLine(MemoryLine):
    """A sliding window of which this process applies a share; what does not fit the share waits until it is empty."""

    def __init__(self, line: Line, share: float) -> None:
        super().__init__(line)
        self._share = share
        self._window = Window(_part(line.limit, share), _window_us(line.window_s))

    def change(self, line: Line, now_us: int) -> None:
        super().change(line, now_us)
        self._window.limit, self._window.window_us = _part(line.limit, self._share), _window_us(line.window_s)

    def fits(self, now_us: int, cost: int) -> bool:
        return self._retry_us(now_us, cost) == 0

    def take(self, request_id: str, now_us: int, cost: int) -> None:
        window = self._window
        window.take(request_id, now_us, min(cost, window.limit))
        if cost > window.limit:
            window.replace(request_id, now_us, cost)

    def settle(self, request_id: str, now_us: int, reserved: int, actual: int) -> None:
        self._window.replace(request_id, now_us, actual)

    def state(self, now_us: int, cost: int) -> LineState:
        window = self._window
        return _state(window.remaining(now_us), self._retry_us(now_us, cost), window.reset_us(now_us))

    def is_idle(self, now_us: int) -> bool:
        return self._window.is_empty(now_us)

    def _retry_us(self, now_us: int, cost: int) -> int | None:
        if cost > self.line.limit:
            return None
        return self._window.retry_us(now_us, min(cost, self._window.limit))


class LeaseLine(MemoryLine):
    """Requests that run at the same time, of which this process applies a share.

    Unless it ``runs_out``, a place is held until it is settled; that it may take the line's window is then a guess.
    """

    def __init__(self, line: Line, share: float, *, runs_out: bool) -> None:
        super().__init__(line)
        self._share = share
        self._runs_out = runs_out
        self._held = Expiring[None](_window_us(line.window_s) if runs_out else _FOR_EVER_US)

    def change(self, line: Line, now_us: int) -> None:
        super().change(line, now_us)
        if self._runs_out:
            self._held.kept_us = _window_us(line.window_s)

    def fits(self, now_us: int, cost: int) -> bool:
        return self._free(now_us) > 0

    def take(self, request_id: str, now_us: int, cost: int) -> None:
        self._held.put(request_id, now_us, None)

    def settle(self, request_id: str, now_us: int, reserved: int, actual: int) -> None:
        self._held.pop(request_id)

    def renew(self, request_id: str, now_us: int) -> None:
        """Hold its place for another while."""
        self._held.renew(request_id, now_us)

    def state(self, now_us: int, cost: int) -> LineState:
        free = self._free(now_us)
        retry_us = 0 if free >= cost else self._held.fewer_us(now_us, cost - free)
        reset_us = self._held.last_us(now_us)
        if not self._runs_out:
            window_us = _window_us(self.line.window_s)
            retry_us, reset_us = min(retry_us, window_us), min(reset_us, window_us)
        return _state(max(0, free), retry_us, reset_us)

    def is_idle(self, now_us: int) -> bool:
        self._held.forget(now_us)
        return len(self._held) == 0

    def _free(self, now_us: int) -> int:
        self._held.forget(now_us)
        return _part(self.line.limit, self._share) - len(self._held)


class BudgetLine(MemoryLine):
    """What was spent, kept for ``window_s`` from when the first of it was. A budget has no shares."""

    def __init__(self, line: Line) -> None:
        super().__init__(line)
        self._spent = 0
        self._until_us = 0

    def fits(self, now_us: int, cost: int) -> bool:
        return self._left(now_us) >= cost

    def take(self, request_id: str, now_us: int, cost: int) -> None:
        if self.is_idle(now_us):
            self._spent, self._until_us = 0, now_us + _window_us(self.line.window_s)
        # A refund for what was reserved before all was forgotten makes no more of it than there was.
        self._spent = max(0, self._spent + cost)

    def settle(self, request_id: str, now_us: int, reserved: int, actual: int) -> None:
        self.take(request_id, now_us, actual - reserved)

    def state(self, now_us: int, cost: int) -> LineState:
        left = self._left(now_us)
        return _state(max(0, left), 0 if left >= cost else None, 0)

    def read(self, now_us: int) -> LineState:
        """Less than 0 remains where more was spent than allowed."""
        return replace(self.state(now_us, 0), remaining=self._left(now_us))

    def is_idle(self, now_us: int) -> bool:
        return self._spent == 0 or self._until_us <= now_us

    def _left(self, now_us: int) -> int:
        return self.line.limit - (0 if self.is_idle(now_us) else self._spent)


def memory_line(line: Line, share: float = 1.0, *, leases_run_out: bool = True) -> MemoryLine:
    """The state of ``line``, not used yet. ``share`` is what is applied of rates and leases; of budgets it is all."""
    if line.kind == "bucket":
        return BucketLine(line, share)
    if line.kind == "window":
        return WindowLine(line, share)
    if line.kind == "lease":
        return LeaseLine(line, share, runs_out=leases_run_out)
    return BudgetLine(line)


def _bucket(line: Line, share: float) -> Bucket:
    return Bucket(line.limit, _window_us(line.window_s / share), _part(line.burst, share))


def _part(limit: int, share: float) -> int:
    return max(1, int(limit * share))


def _window_us(window_s: float) -> int:
    return max(1, microseconds(window_s))


def _state(remaining: int, retry_us: int | None, reset_us: int) -> LineState:
    return LineState(remaining, -1 if retry_us is None else retry_us, reset_us)
