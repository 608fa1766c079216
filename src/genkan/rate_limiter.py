"""A rate limiter for any program: so much for each client, in memory or on Redis."""

import threading
from dataclasses import dataclass
from typing import Literal, Protocol

from genkan.clock import Clock, SystemClock
from genkan.store.accounts import Line, LineState, Unit
from genkan.store.expiring import Expiring
from genkan.store.memory_lines import MemoryLine, memory_line, microseconds

Algorithm = Literal["token_bucket", "sliding_window"]

_MOST = 10**12
_LONGEST_S = 366 * 86400.0
_DROPPED_ON_THE_WAY = 2  # idle clients, in each call


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimiterStatistics:
    """A snapshot. ``accepted`` and ``rejected`` count the calls of ``allow`` of this object."""

    accepted: int
    rejected: int
    clients: int | None  # that are remembered; None on Redis, which keeps them

    @property
    def rejection_rate(self) -> float:
        """Rejected of all, from 0.0 to 1.0; 0.0 before the first."""
        return self.rejected / max(1, self.accepted + self.rejected)


class Clients(Protocol):
    """What each client has taken of one line."""

    def take(self, client_id: str, cost: int) -> bool:
        """Take it, or nothing if it does not fit."""

    def state(self, client_id: str, cost: int) -> LineState:
        """How the client stands that asks for ``cost``. Changes nothing."""

    def forget(self, client_id: str) -> None:
        """As if the client had never come."""

    def prune(self) -> int:
        """Drop clients that are idle; how many."""

    def count(self) -> int | None:
        """Clients that are remembered; None if that is not known here."""

    def close(self) -> None:
        """Give back connections."""


class RateLimiter:
    """Allows each client ``limit`` in ``window_s``. For any number of threads.

    >>> limiter = RateLimiter(limit=2, window_s=60.0)
    >>> [limiter.allow("alice") for _ in range(3)]
    [True, True, False]
    >>> limiter.remaining("alice"), limiter.remaining("bob")
    (0, 2)
    >>> 29 < limiter.retry_after_s("alice") <= 30 < limiter.reset("alice") <= 60
    True
    >>> limiter.stats.accepted, limiter.stats.rejected, limiter.stats.clients
    (2, 1, 1)

    ``token_bucket`` lets ``burst`` (``limit`` if not given) through at once after a pause, and then one more each
    ``window_s / limit``. ``sliding_window`` never lets more than ``limit`` through in any stretch of ``window_s``, and
    remembers every request in it. Both are exact, however many threads ask at a time.

    In memory, a client is dropped after ``idle_s`` without a call of ``allow``, or as late as nothing that it took
    counts any more: being dropped gives nobody more. Some are dropped in each call, all by ``prune_idle``. A call takes
    a few microseconds.

    With ``redis_url`` (``redis://``, ``rediss://``, ``unix://``) all processes with the same URL and ``prefix`` share
    the limit, in time of Redis; a call is one round trip of at most 0.1 s, never repeated, and raises StoreError
    if it fails. Client ids are kept there as hashes, until nothing that the client took counts any more.

    ValueError: an argument is out of its range. ``clock`` is for tests, and not used on Redis.
    """

    def __init__(
        self,
        limit: int = 100,
        window_s: float = 60.0,
        burst: int | None = None,
        algorithm: Algorithm = "token_bucket",
        *,
        idle_s: float = 300.0,
        redis_url: str | None = None,
        prefix: str = "genkan:rl",
        clock: Clock | None = None,
    ) -> None:
        line = _line(limit, window_s, burst, algorithm)
        _check_span("idle_s", idle_s)
        self._limit = line.limit if algorithm == "sliding_window" else line.burst
        self._lock = threading.Lock()
        self._accepted = self._rejected = 0
        self._clients: Clients
        if redis_url is None:
            self._clients = MemoryClients(line, idle_s, clock or SystemClock())
        else:
            from genkan.store.redis_clients import RedisClients  # loads redis-py

            self._clients = RedisClients(line, redis_url, prefix)

    def allow(self, client_id: str = "default", cost: int = 1) -> bool:
        """Take ``cost`` if it is there; whether it was. More than can ever be there is never."""
        allowed = self._clients.take(client_id, _whole("cost", cost))
        with self._lock:
            if allowed:
                self._accepted += 1
            else:
                self._rejected += 1
        return allowed

    def remaining(self, client_id: str = "default") -> int:
        """What the client could take now."""
        return self._clients.state(client_id, 1).remaining

    def retry_after_s(self, client_id: str = "default", cost: int = 1) -> float:
        """Seconds until ``cost`` is there if nobody takes any before: 0.0 if it is, ``math.inf`` if it never will."""
        return self._clients.state(client_id, _whole("cost", cost)).retry_s

    def reset(self, client_id: str = "default") -> float:
        """Seconds until the client is as if it had never come, if it stays away. Changes nothing; see ``forget``."""
        return self._clients.state(client_id, 1).reset_s

    def forget(self, client_id: str = "default") -> None:
        """Give the client all back that it took."""
        self._clients.forget(client_id)

    def prune_idle(self) -> int:
        """Drop all clients that are idle; how many. On Redis 0: there they go by themselves."""
        return self._clients.prune()

    @property
    def stats(self) -> RateLimiterStatistics:
        """What was allowed so far."""
        with self._lock:
            accepted, rejected = self._accepted, self._rejected
        return RateLimiterStatistics(accepted=accepted, rejected=rejected, clients=self._clients.count())

    def close(self) -> None:
        """Give back connections to Redis, if there are any."""
        self._clients.close()


class MemoryClients:
    """Clients of this process."""

    def __init__(self, line: Line, idle_s: float, clock: Clock) -> None:
        self._line = line
        self._clock = clock
        self._lock = threading.Lock()
        from_empty_s = line.window_s * line.burst / line.limit if line.kind == "bucket" else line.window_s
        self._clients = Expiring[MemoryLine](microseconds(max(idle_s, from_empty_s)) + 1)
        self._takes = 0

    def take(self, client_id: str, cost: int) -> bool:
        with self._lock:
            now_us = self._now_us()
            self._clients.forget(now_us, _DROPPED_ON_THE_WAY)
            client = self._clients.get(client_id, now_us) or memory_line(self._line)
            fits = client.fits(now_us, cost)
            if fits:
                self._takes += 1
                client.take(str(self._takes), now_us, cost)
            if not client.is_idle(now_us):
                self._clients.put(client_id, now_us, client)
            return fits

    def state(self, client_id: str, cost: int) -> LineState:
        with self._lock:
            now_us = self._now_us()
            return (self._clients.get(client_id, now_us) or memory_line(self._line)).state(now_us, cost)

    def forget(self, client_id: str) -> None:
        with self._lock:
            self._clients.pop(client_id)

    def prune(self) -> int:
        with self._lock:
            return self._clients.forget(self._now_us())

    def count(self) -> int:
        with self._lock:
            return len(self._clients)

    def close(self) -> None:
        pass

    def _now_us(self) -> int:
        return microseconds(self._clock.monotonic())


def _line(limit: int, window_s: float, burst: int | None, algorithm: Algorithm) -> Line:
    _whole("limit", limit)
    _check_span("window_s", window_s)
    if algorithm == "token_bucket":
        burst = limit if burst is None else _whole("burst", burst)
        return Line("", "bucket", Unit.REQUESTS, limit, window_s, burst)
    if algorithm != "sliding_window":
        raise ValueError(f"algorithm must be 'token_bucket' or 'sliding_window', not {algorithm!r}")
    if burst is not None:
        raise ValueError("a sliding window has no burst: its limit is what may come at once")
    return Line("", "window", Unit.REQUESTS, limit, window_s)


def _whole(name: str, number: int) -> int:
    if type(number) is not int or not 1 <= number <= _MOST:
        raise ValueError(f"{name} must be a whole number from 1 to {_MOST}, not {number!r}")
    return number


def _check_span(name: str, seconds: float) -> None:
    if type(seconds) not in (int, float) or not 1e-3 <= seconds <= _LONGEST_S:
        raise ValueError(f"{name} must be from 0.001 to {_LONGEST_S:.0f} seconds, not {seconds!r}")
