"""One connection to Redis, on which many calls are under way at once.

Theory. Redis answers the commands of a connection in their order, so a reply belongs to the oldest call that has none
yet, and nothing needs to wait for the reply before it. What is called within one turn of the event loop is written at
once, in one system call. A reply is parsed by hiredis, in C. So a call costs the less CPU the more are under way: 2 to
3 µs with 64, 5 to 9 µs with 8, and 27 to 55 µs alone, as it then pays for the loop's turns by itself. With uvloop 1.4
to 2, 2 to 6, and 9 to 29 µs.

A reply that nobody waits for any more, as its call timed out or was cancelled, still takes its place in the order: it
is dropped when it comes, and never given to another call.

* **Timeouts.** All calls share one timer, which stands at the earliest deadline that was known when it was set; a call
  that is answered leaves it where it is. A call's time runs from when it is written. When it is over the loop is
  given a turn to read what has come already: an event loop that was busy is not a Redis that is slow. (Time is the
  machine's, as uvloop's stands still during a turn.)
* **Giving up.** After five timeouts in a row, or when nothing was read for ``silence_s`` though something was to come,
  the connection is dropped, and every call on it fails with StoreLost. So it is when Redis says that it is not the one
  to ask (`_ELSEWHERE`), and when what it says is no RESP.
* **Bounds.** `MAX_WAITING` calls wait for replies; a reply has at most `MAX_REPLY_BYTES`.

Source: https://redis.io/docs/latest/develop/reference/protocol-spec/ (RESP2).
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import hiredis

from genkan.errors import StoreLost, StoreRefused, StoreTimeout

MAX_WAITING = 10_000
MAX_TIMEOUTS = 5
MAX_REPLY_BYTES = 64 << 20
_TICK_S = 0.005  # timeouts are told in groups, so that looking for them costs little however many wait
#: What a server says when another must be asked, or it must be entered anew.
_ELSEWHERE = ("READONLY", "LOADING", "MASTERDOWN", "NOAUTH")
_MORE = object()

Reply = Any  # bytes, int, None or a list of them; in a list also StoreRefused


class _Call:
    """What waits for one reply, or for ``wanted`` in a row."""

    __slots__ = ("deadline_s", "future", "replies", "wanted")

    def __init__(
        self, future: "asyncio.Future[Reply]", timeout_s: float, wanted: int, replies: list[Reply] | None
    ) -> None:
        self.future = future
        self.deadline_s = timeout_s  # until it is written; then a moment
        self.wanted = wanted
        self.replies = replies  # None: what is wanted is one reply itself, not in a list


class Connection(asyncio.Protocol):
    """A connection, made by its event loop. Nothing of it is tried twice."""

    def __init__(self, *, silence_s: float, on_lost: Callable[[str], None]) -> None:
        """``on_lost`` is called once, with the reason, when nothing can be sent any more."""
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        #: What comes unasked is given to it, as Redis sends it to subscribers; without one it is an error.
        self.on_push: Callable[[Reply], None] | None = None
        self.read_s = 0.0  # when something came last
        self._loop = asyncio.get_running_loop()
        self._silence_s = silence_s
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._problem: str | None = "it is not connected yet"
        self._reader = hiredis.Reader(replyError=StoreRefused, errors="replace", notEnoughData=_MORE)
        self._partial_bytes = 0
        self._unsent: list[_Call] = []
        self._commands: list[bytes] = []
        self._waiting: deque[_Call] = deque()
        self._quiet_since_s = 0.0  # the last reading, or when the calls that wait began to, whichever is later
        self._patient_until_s = 0.0  # a call that may take longer than silence_s
        self._timeouts = 0  # in a row
        self._timer: asyncio.TimerHandle | None = None
        self._fires_s = math.inf

    @property
    def is_open(self) -> bool:
        """Whether calls can be sent."""
        return self._problem is None

    def send(self, command: bytes, timeout_s: float) -> "asyncio.Future[Reply]":
        """The reply to ``command``. Raises StoreLost if it cannot be sent.

        The future raises StoreRefused if the reply is an error, StoreTimeout, or StoreLost.
        """
        return self._begin(command, timeout_s, 1, None)

    def pipeline(self, commands: Sequence[bytes], timeout_s: float) -> "asyncio.Future[list[Reply]]":
        """The replies to ``commands``, errors among them. Raises StoreLost if they cannot be sent.

        The future raises StoreTimeout when a reply is missing, or StoreLost.
        """
        if commands:
            return self._begin(b"".join(commands), timeout_s, len(commands), [])
        nothing: asyncio.Future[list[Reply]] = self._loop.create_future()
        nothing.set_result([])
        return nothing

    def write(self, command: bytes) -> None:
        """Send a command whose reply is to be taken like what comes unasked. Must be open."""
        assert self._transport is not None
        self._transport.write(command)

    def drop(self, reason: str) -> None:
        """Close it at once. What waits fails with StoreLost."""
        if self._problem is not None:
            return
        transport, self._transport, self._problem = self._transport, None, reason
        if transport is not None:
            transport.abort()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        calls = [*((call, True) for call in self._waiting), *((call, False) for call in self._unsent)]
        self._waiting.clear()
        self._unsent.clear()
        self._commands.clear()
        for call, was_sent in calls:
            if not call.future.done():
                lost = StoreLost(f"the connection to Redis was lost: {reason}", was_sent=was_sent)
                call.future.set_exception(lost)
        self._on_lost(reason)

    # asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # it is one for a stream of bytes
        self._problem = None
        self.read_s = time.monotonic()

    def data_received(self, data: bytes) -> None:
        self.read_s = self._quiet_since_s = time.monotonic()
        self._partial_bytes += len(data)
        self._reader.feed(data)
        get, waiting = self._reader.gets, self._waiting
        try:
            while (reply := get()) is not _MORE:
                self._partial_bytes = 0
                if waiting:
                    self._answer(waiting[0], reply)
                elif self.on_push is not None:
                    self.on_push(reply)
                else:
                    self.drop("it said something unasked")
                if self._transport is None:
                    return
        except hiredis.ProtocolError:
            self.drop("it does not speak Redis' protocol")
            return
        if self._partial_bytes > MAX_REPLY_BYTES:
            self.drop(f"a reply has more than {MAX_REPLY_BYTES} bytes")

    def eof_received(self) -> None:
        self.drop("it was closed by the other end")

    def connection_lost(self, error: Exception | None) -> None:
        self.drop("it broke" if error is not None else "it was closed")
        if not self.closed.done():
            self.closed.set_result(None)

    # calls and replies

    def _begin(
        self, command: bytes, timeout_s: float, wanted: int, replies: list[Reply] | None
    ) -> "asyncio.Future[Reply]":
        if self._problem is not None:
            raise StoreLost(f"the connection to Redis was lost: {self._problem}")
        unsent = self._unsent
        if len(self._waiting) + len(unsent) >= MAX_WAITING:
            raise StoreLost(f"{MAX_WAITING} calls wait for Redis already")
        future = self._loop.create_future()
        if not unsent:
            self._loop.call_soon(self._flush)
        unsent.append(_Call(future, timeout_s, wanted, replies))
        self._commands.append(command)
        return future

    def _flush(self) -> None:
        if self._transport is None:
            return
        now_s = time.monotonic()
        if not self._waiting:
            self._quiet_since_s = now_s
        earliest_s = now_s + self._silence_s
        patient_s = earliest_s
        for call in self._unsent:
            call.deadline_s = deadline_s = now_s + call.deadline_s
            if deadline_s < earliest_s:
                earliest_s = deadline_s
            elif deadline_s > patient_s:
                patient_s = self._patient_until_s = max(self._patient_until_s, deadline_s)
        self._waiting += self._unsent
        self._unsent = []
        commands, self._commands = self._commands, []
        if earliest_s < self._fires_s:
            self._set_timer(earliest_s)
        self._transport.write(commands[0] if len(commands) == 1 else b"".join(commands))

    def _answer(self, call: _Call, reply: Reply) -> None:
        if call.replies is not None:
            self._gather(call, call.replies, reply)
            return
        self._waiting.popleft()
        future = call.future
        is_refused = type(reply) is StoreRefused
        if not future.done():
            self._timeouts = 0
            if is_refused:
                future.set_exception(reply)
            else:
                future.set_result(reply)
        if is_refused:
            self._look_elsewhere((reply,))

    def _gather(self, call: _Call, replies: list[Reply], reply: Reply) -> None:
        replies.append(reply)
        if len(replies) < call.wanted:
            return
        self._waiting.popleft()
        if not call.future.done():
            self._timeouts = 0
            call.future.set_result(replies)
        self._look_elsewhere(replies)

    def _look_elsewhere(self, replies: Sequence[Reply]) -> None:
        for reply in replies:
            if type(reply) is StoreRefused and _is_elsewhere(reply):
                self.drop(f"it answered {reply.code}")

    # timeouts

    def _set_timer(self, at_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._fires_s = at_s
        self._timer = self._loop.call_later(at_s - time.monotonic(), self._fire)

    def _fire(self) -> None:
        self._timer, self._fires_s = None, math.inf
        now_s = time.monotonic()
        next_s = self._next_s()
        if next_s > now_s:
            if next_s < math.inf:
                self._set_timer(max(next_s, now_s + _TICK_S))
            return
        # Twice, as what is called soon may run before the loop's next look at its sockets.
        self._loop.call_soon(self._loop.call_soon, self._expire, now_s)

    def _next_s(self) -> float:
        """When there is something to do for want of replies."""
        if not self._waiting:
            return math.inf
        asked_s = min((call.deadline_s for call in self._waiting if not call.future.done()), default=math.inf)
        return min(asked_s, self._silent_s())

    def _silent_s(self) -> float:
        """When the silence of the other end is taken for its end."""
        return max(self._quiet_since_s + self._silence_s, self._patient_until_s)

    def _expire(self, now_s: float) -> None:
        """Tell those whose time was over at ``now_s``."""
        for call in self._waiting:
            if call.deadline_s <= now_s and not call.future.done():
                call.future.set_exception(StoreTimeout("Redis did not answer in time"))
                self._timeouts += 1
        if self._timeouts >= MAX_TIMEOUTS:
            self.drop(f"{MAX_TIMEOUTS} calls in a row were not answered in time")
        elif self._waiting and self._silent_s() <= now_s:
            self.drop("it does not answer")
        elif self._timer is None and (next_s := self._next_s()) < math.inf:
            self._set_timer(max(next_s, now_s + _TICK_S))


def _is_elsewhere(refused: StoreRefused) -> bool:
    """Also when a script was refused: up to 6.2 what it was told stands within Redis' own message."""
    return refused.code in _ELSEWHERE or " -READONLY " in str(refused)
