"""Puts load on an HTTP server and checks every answer: clients that ask again as soon as they are answered.

Raw asyncio protocols, because the load shares a core with the upstream and must not be what is measured.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, cast

from genkan.bench.http_answer import Answer, AnswerReader, WrongAnswer
from genkan.bench.timing import percentile

STALL_S = 30.0

Check = Callable[[Answer, int], None]


class Call(NamedTuple):
    """One request, and what must come of it. ``check`` raises WrongAnswer; it is given ``number``.

    With ``leave`` the client does not wait for the whole answer: it leaves when the request is sent or when the first
    bytes of the answer come, and connects anew.
    """

    request: bytes
    number: int
    check: Check
    leave: Literal["sent", "first_bytes"] | None = None


@dataclass(slots=True)
class Measured:
    """What came of a run. Latencies are of answered requests, to the last byte and to the first, in seconds."""

    latency_s: list[float] = field(default_factory=list)
    first_byte_s: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    elapsed_s: float = 0.0
    ended: int = 0  # calls that came to an end, whichever

    def figures(self) -> Mapping[str, float]:
        """``rps``, ``p50_ms``, ``p99_ms`` and ``first_byte_p50_ms``. Raises ValueError when nothing was answered."""
        return {
            "rps": len(self.latency_s) / self.elapsed_s,
            "p50_ms": 1e3 * percentile(self.latency_s, 50),
            "p99_ms": 1e3 * percentile(self.latency_s, 99),
            "first_byte_p50_ms": 1e3 * percentile(self.first_byte_s, 50),
        }

    def raise_for_errors(self) -> None:
        """Raises WrongAnswer that tells how many there were and of what kinds."""
        if self.errors:
            kinds = "; ".join(f"{count} × {kind}" for kind, count in self.errors.most_common(5))
            raise WrongAnswer(f"{self.errors.total()} of {self.ended} requests failed: {kinds}")


class Client(asyncio.Protocol):
    """One connection at a time to one server."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._loop = asyncio.get_running_loop()
        self._reader = AnswerReader()
        self._transport: asyncio.Transport | None = None
        self._connecting: asyncio.Task[None] | None = None  # kept, for the loop forgets tasks
        self._leaving = False  # this side ends the connection, to open another
        self._calls: Iterator[Call] = iter(())
        self._call: Call | None = None  # the one that waits for its answer
        self._into = Measured()
        self._ended = self._loop.create_future()
        self._began_s = self._first_byte_s = 0.0

    async def connect(self) -> None:
        await self._loop.create_connection(lambda: self, "127.0.0.1", self._port)

    def run(self, calls: Iterator[Call], into: Measured) -> "asyncio.Future[None]":
        """Make calls, one after the other, until there are no more or the connection breaks. Done when ended."""
        self._calls, self._into, self._ended = calls, into, self._loop.create_future()
        self._next()
        return self._ended

    def close(self) -> None:
        self._call = None
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are, but do not say so
        self._reader = AnswerReader()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._leaving:
            self._leaving = False
            self._connecting = self._loop.create_task(self._connect_and_go_on())
        elif self._call is not None:
            self._end_call("the server closed the connection")
            self._end()

    def data_received(self, data: bytes) -> None:
        call = self._call
        if call is None:
            return  # an abandoned one's
        if not self._first_byte_s:
            self._first_byte_s = time.perf_counter()
        if call.leave == "first_bytes":
            self._end_call(None)
            self._reconnect()
            return
        try:
            answer = self._reader.feed(data)
        except WrongAnswer as error:
            self._end_call(str(error))
            self._reconnect()
            return
        if answer is not None:
            self._take(call, answer)

    def _take(self, call: Call, answer: Answer) -> None:
        now_s = time.perf_counter()
        try:
            call.check(answer, call.number)
        except WrongAnswer as error:
            self._end_call(str(error))
        else:
            self._into.latency_s.append(now_s - self._began_s)
            self._into.first_byte_s.append(self._first_byte_s - self._began_s)
            self._end_call(None)
        if answer.closes:
            self._reconnect()
        else:
            self._next()

    def _next(self) -> None:
        self._call = call = next(self._calls, None)
        if call is None or self._transport is None:
            self._end()
            return
        self._first_byte_s = 0.0
        self._began_s = time.perf_counter()
        self._transport.write(call.request)
        if call.leave == "sent":
            self._end_call(None)
            self._reconnect()

    def _end_call(self, error: str | None) -> None:
        self._call = None
        self._into.ended += 1
        if error is not None:
            self._into.errors[error] += 1

    def _reconnect(self) -> None:
        assert self._transport is not None
        self._leaving = True
        self._transport.close()  # what was written still goes out, and then connection_lost goes on

    async def _connect_and_go_on(self) -> None:
        try:
            await self.connect()
        except OSError as error:
            self._into.errors[f"cannot connect: {error.strerror}"] += 1
            self._end()
        else:
            self._next()

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)


class Load:
    """Connected clients. ``run`` as often as wanted."""

    def __init__(self, clients: list[Client]) -> None:
        self._clients = clients

    async def run(self, calls: Iterator[Call]) -> Measured:
        """Let the clients share ``calls`` until there are none left.

        Raises WrongAnswer when any answer is wrong or missing, after all calls, or when none comes for 30 s.
        """
        measured = Measured()
        began_s = time.perf_counter()
        running = {client.run(calls, measured) for client in self._clients}
        while running:
            before = measured.ended
            _, running = await asyncio.wait(running, timeout=STALL_S)
            if running and measured.ended == before:
                raise WrongAnswer(f"no answer for {STALL_S:g} s, {measured.ended} requests in")
        measured.elapsed_s = time.perf_counter() - began_s
        measured.raise_for_errors()
        return measured


@asynccontextmanager
async def connected(port: int, clients: int) -> AsyncIterator[Load]:
    """That many clients of the server on ``port`` of this machine. Raises OSError when they cannot connect."""
    some = [Client(port) for _ in range(clients)]
    try:
        for client in some:
            await client.connect()
        yield Load(some)
    finally:
        for client in some:
            client.close()
