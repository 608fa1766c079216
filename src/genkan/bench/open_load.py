"""Load that does not wait for answers: requests at a fixed rate, each timed from when it was meant to be sent.

Clients that ask again once they are answered ask less of a server that is slow, and so hide what overload does to it
("coordinated omission"). Here a request is due when it is due. It takes a connection that is free, or opens one; where
it must wait for that, the wait is part of its latency.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

from genkan.bench.http_answer import Answer, AnswerReader, WrongAnswer
from genkan.bench.http_load import Call

MOST_CONNECTIONS = 2_000
_TICK_S = 0.001
_LAST_ANSWERS_S = 15.0

#: Whether an answer, whose head in lower case it is given too, is a refusal. Raises WrongAnswer for one that is not
#: what a refusal must be.
IsRefusal = Callable[[Answer, bytes], bool]


@dataclass(slots=True)
class Outcomes:
    """What came of the requests. Latencies are from the intended time to the last byte, in seconds."""

    duration_s: float = 0.0
    answered_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)
    late_s: list[float] = field(default_factory=list)  # how late each was sent: the load's own fault, or no connection
    errors: Counter[str] = field(default_factory=Counter)
    answered_in_time: int = 0  # answers that were complete within ``duration_s``
    connections: int = 0

    @property
    def sent(self) -> int:
        return len(self.late_s)


class _Connection(asyncio.Protocol):
    def __init__(self, load: "OpenLoad") -> None:
        self._load = load
        self._reader = AnswerReader()
        self._call: Call | None = None
        self._due_s = 0.0
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are, but do not say so

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        call, self._call = self._call, None
        self._load.lost(self, was_busy=call is not None)

    def send(self, call: Call, due_s: float) -> None:
        assert self.transport is not None
        self._call, self._due_s = call, due_s
        self.transport.write(call.request)

    def data_received(self, data: bytes) -> None:
        call = self._call
        if call is None:
            return
        try:
            answer = self._reader.feed(data)
        except WrongAnswer as error:
            self._load.failed(str(error))
            self._end()
            return
        if answer is not None:
            self._load.answered(call, answer, self._reader.head, self._due_s)
            if answer.closes:
                self._end()
            else:
                self._call = None
                self._load.free(self)

    def _end(self) -> None:
        self._call = None
        if self.transport is not None:
            self.transport.close()


class OpenLoad:
    """Sends at a fixed rate, over as many connections as that takes."""

    def __init__(self, port: int, is_refusal: IsRefusal) -> None:
        self._port = port
        self._is_refusal = is_refusal
        self._all: set[_Connection] = set()
        self._free: deque[_Connection] = deque()  # the one that waited longest first: none is closed for its silence
        self._opening: set[asyncio.Task[None]] = set()
        self._waiting: deque[tuple[Call, float]] = deque()
        self._into = Outcomes()
        self._end_s = 0.0
        self._under_way = 0

    async def run(self, calls: Iterator[Call], rate: float, duration_s: float) -> Outcomes:
        """Send ``rate`` calls a second and wait for the last answers. An error is counted, never raised."""
        into = self._into = Outcomes(duration_s)
        began_s = time.perf_counter()
        self._end_s = began_s + duration_s
        number = 0
        while number < rate * duration_s:
            now_s = time.perf_counter()
            while number < rate * duration_s and (due_s := began_s + number / rate) <= now_s:
                self._dispatch(next(calls), due_s)
                number += 1
            await asyncio.sleep(_TICK_S)
        give_up_s = time.perf_counter() + _LAST_ANSWERS_S
        while (self._under_way or self._waiting) and time.perf_counter() < give_up_s:  # noqa: ASYNC110 - as above
            await asyncio.sleep(_TICK_S)
        if missing := self._under_way + len(self._waiting):
            into.errors[f"no answer {_LAST_ANSWERS_S:g} s after the end"] += missing
            self._waiting.clear()
        return into

    def close(self) -> None:
        for task in self._opening:
            task.cancel()
        for connection in self._all:
            if connection.transport is not None:
                connection.transport.abort()

    def answered(self, call: Call, answer: Answer, head: bytes, due_s: float) -> None:
        now_s = time.perf_counter()
        self._under_way -= 1
        try:
            if self._is_refusal(answer, head):
                self._into.refused_s.append(now_s - due_s)
                return
            call.check(answer, call.number)
        except WrongAnswer as error:
            self._into.errors[str(error)] += 1
        else:
            self._into.answered_s.append(now_s - due_s)
            self._into.answered_in_time += now_s <= self._end_s

    def failed(self, why: str) -> None:
        self._under_way -= 1
        self._into.errors[why] += 1

    def free(self, connection: _Connection) -> None:
        if self._waiting:
            self._send(connection, *self._waiting.popleft())
        else:
            self._free.append(connection)

    def lost(self, connection: _Connection, *, was_busy: bool) -> None:
        self._all.discard(connection)
        if was_busy:
            self.failed("the server closed the connection")
        elif connection in self._free:
            self._free.remove(connection)

    def _dispatch(self, call: Call, due_s: float) -> None:
        if self._free:
            self._send(self._free.popleft(), call, due_s)
            return
        self._waiting.append((call, due_s))
        if len(self._opening) < len(self._waiting) and len(self._all) + len(self._opening) < MOST_CONNECTIONS:
            task = asyncio.get_running_loop().create_task(self._open())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    def _send(self, connection: _Connection, call: Call, due_s: float) -> None:
        self._into.late_s.append(time.perf_counter() - due_s)
        self._under_way += 1
        connection.send(call, due_s)

    async def _open(self) -> None:
        connection = _Connection(self)
        try:
            await asyncio.get_running_loop().create_connection(lambda: connection, "127.0.0.1", self._port)
        except OSError as error:
            self._into.errors[f"cannot connect: {error.strerror}"] += 1
            return
        self._all.add(connection)
        self._into.connections = max(self._into.connections, len(self._all))
        self.free(connection)


@asynccontextmanager
async def open_load(port: int, is_refusal: IsRefusal) -> AsyncIterator[OpenLoad]:
    """Load for the server on ``port`` of this machine; its connections are closed afterwards."""
    load = OpenLoad(port, is_refusal)
    try:
        yield load
    finally:
        load.close()
