"""What stands before several replicas: a round-robin over those that are ready, as a Kubernetes service does.

It asks every replica for ``/readyz`` and sends requests to those that said 200 last. A request that finds its replica's
port closed goes to the next one, as nothing of it was sent; whatever fails after that has failed. Connections are kept
for less long than the replicas keep theirs.
"""

import asyncio
from contextlib import suppress

from genkan.bench.http_answer import Answer, AnswerReader, WrongAnswer

PROBE_EVERY_S = 0.2
KEEP_S = 3.0  # uvicorn keeps idle connections for 5 s
_ANSWER_S = 60.0
_PROBE = b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
_READ_BYTES = 1 << 16


class NoReplica(Exception):
    """No replica is ready, or all that are refuse connections."""


class Connection:
    """One to a replica. ``opened`` first, ``close`` at the end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._answers = AnswerReader()
        self.idle_since_s = 0.0

    @classmethod
    async def opened(cls, port: int) -> "Connection":
        """Raises ConnectionRefusedError."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, request: bytes) -> tuple[Answer, bytes]:
        """The answer and its head in lower case. Raises WrongAnswer and OSError."""
        self._writer.write(request)
        while True:
            data = await self._reader.read(_READ_BYTES)
            if not data:
                raise WrongAnswer("the connection ended before the answer")
            if (answer := self._answers.feed(data)) is not None:
                return answer, self._answers.head

    def close(self) -> None:
        self._writer.close()


class Replica:
    """A server on ``port`` of this machine, which may be none, or another one, from one moment to the next."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = 0
        self.is_ready = False
        self._idle: list[Connection] = []

    async def probe(self) -> None:
        """See whether it is ready."""
        self.is_ready = await _is_ready(self.port) if self.port else False

    def take(self, now_s: float) -> Connection | None:
        """A connection that it has kept for us."""
        while self._idle:
            connection = self._idle.pop()
            if now_s - connection.idle_since_s < KEEP_S:
                return connection
            connection.close()
        return None

    def keep(self, connection: Connection, now_s: float) -> None:
        """For another request."""
        connection.idle_since_s = now_s
        self._idle.append(connection)

    def forget(self) -> None:
        """Close what is kept: another server takes its place."""
        while self._idle:
            self._idle.pop().close()
        self.is_ready = False


class Balancer:
    """Between clients and ``replicas``. Runs while it is entered."""

    def __init__(self, replicas: list[Replica]) -> None:
        self._replicas = replicas
        self._next = 0
        self._task: asyncio.Task[None] | None = None
        self.refused = 0  # connections, of requests that then went to another replica

    async def __aenter__(self) -> "Balancer":
        self._task = asyncio.create_task(self._probe())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        for replica in self._replicas:
            replica.forget()

    async def send(self, request: bytes) -> tuple[Answer, bytes]:
        """The answer of some replica, and its head. Raises NoReplica, WrongAnswer, OSError, TimeoutError."""
        loop = asyncio.get_running_loop()
        for replica in self._in_turn():
            connection = replica.take(loop.time())
            if connection is None:
                try:
                    connection = await Connection.opened(replica.port)
                except ConnectionRefusedError:
                    self.refused += 1
                    continue
            try:
                async with asyncio.timeout(_ANSWER_S):
                    answer, head = await connection.ask(request)
            except BaseException:
                connection.close()
                raise
            if answer.closes:
                connection.close()
            else:
                replica.keep(connection, loop.time())
            return answer, head
        raise NoReplica("no replica takes a connection")

    def _in_turn(self) -> list[Replica]:
        ready = [replica for replica in self._replicas if replica.is_ready]
        if not ready:
            return []
        self._next += 1
        at = self._next % len(ready)
        return ready[at:] + ready[:at]

    async def _probe(self) -> None:
        while True:
            await asyncio.gather(*(replica.probe() for replica in self._replicas))
            await asyncio.sleep(PROBE_EVERY_S)


async def _is_ready(port: int) -> bool:
    with suppress(OSError, WrongAnswer, TimeoutError):
        async with asyncio.timeout(2.0):
            connection = await Connection.opened(port)
            try:
                answer, _ = await connection.ask(_PROBE)
            finally:
                connection.close()
            return answer.status == 200
    return False
