"""Is a request lost while gateways are restarted one by one? ``python -m genkan.bench.rolling``.

Two gateways share a Redis and stand behind a balancer (see `balancer.py`). Requests arrive at a constant rate, half of
them streams of a second, while the gateways take turns: ``genkan drain --wait``, SIGTERM, a new server, ready. Each
request must get its whole answer, and be one row of the ledger, which is told apart by its ``x-request-id``.
"""

import asyncio
import itertools
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import httpx
import uvloop

from genkan.bench import report
from genkan.bench.balancer import Balancer, NoReplica, Replica
from genkan.bench.chat_traffic import Requests, asked, check_stream, check_whole, stream_writes
from genkan.bench.fake_upstream import FakeUpstream
from genkan.bench.gateway_arms import genkan_command
from genkan.bench.http_answer import WrongAnswer
from genkan.bench.server_process import ServerFailed, ServerProcess, interruptible, running
from genkan.bench.timing import percentile
from genkan.store.embedded import EmbeddedRedis

EVENT_S = 0.05  # twenty events: a stream takes a second
NOTICE_S = 2.0
GRACE_S = 10.0
SETTLED_S = 10.0
_READY_S = 60.0
_STOP_S = GRACE_S + 10.0
_PORT = 80  # of requests' host header, which no gateway looks at
_GENKAN = str(Path(sys.executable).with_name("genkan"))
_POLL_S = 0.1


class SlowStreams(FakeUpstream):
    """One connection of an upstream whose streams take their time."""

    __slots__ = ()

    def _answer(self, head: bytes, body: bytes) -> None:
        try:
            number, stream = asked(body)
        except ValueError:
            number, stream = b"", False
        if not stream:
            super()._answer(head, body)
            return
        self._writes = stream_writes(number)[::-1]
        self._write_slowly()

    def _write_slowly(self) -> None:
        if self._transport is None:
            return
        self._transport.write(self._writes.pop())
        if self._writes:
            self._loop.call_later(EVENT_S, self._write_slowly)


@dataclass(slots=True)
class Counts:
    """What became of the requests and of the restarts."""

    sent: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    answered: set[str] = field(default_factory=set)  # ids of requests
    waits_ms: list[float] = field(default_factory=list)  # of requests that are not streamed
    drains_s: list[float] = field(default_factory=list)
    stops_s: list[float] = field(default_factory=list)
    starts_s: list[float] = field(default_factory=list)


class Replicas:
    """The gateways, by their places behind the balancer; the server at a place may be replaced."""

    def __init__(self, upstream: str, redis_url: str, count: int) -> None:
        settings: dict[str, Any] = {
            "redis": {"url": redis_url},
            "server": {"workers": 2, "drain": {"notice_s": NOTICE_S, "grace_s": GRACE_S}},
            "prices": {"models": [{"model": "fake-model", "input": 2, "output": 8}]},
        }
        self.command = genkan_command("a gateway", upstream, settings)
        self.places = [Replica(f"gateway {index + 1}") for index in range(count)]
        self._servers: list[ServerProcess | None] = [None] * count
        self._stack = ExitStack()
        self._cores = frozenset(os.sched_getaffinity(0))

    def close(self) -> None:
        """End all servers."""
        self._stack.close()

    async def start(self, index: int) -> None:
        """A new server at this place; returns when the balancer has seen it ready. Raises ServerFailed."""
        server = self._servers[index] = self._stack.enter_context(running(self.command, self._cores))
        place = self.places[index]
        place.port = server.port
        try:
            async with asyncio.timeout(_READY_S):
                await _until(lambda: place.is_ready)
        except TimeoutError:
            raise ServerFailed(f"{place.name} is not ready; its log:\n{server.log_tail}") from None

    async def drain(self, index: int) -> None:
        """What a preStop hook does. Raises ServerFailed."""
        server = self._server(index)
        environ = {**os.environ, "GENKAN_CONFIG": str(server.folder / "genkan.yaml")}
        environ["GENKAN__REDIS__DATA_DIR"] = str(server.folder / "data")
        hook = await asyncio.create_subprocess_exec(
            _GENKAN, "drain", "--wait", env=environ, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        said, _ = await hook.communicate()
        if hook.returncode != 0:
            raise ServerFailed(f"genkan drain ended with {hook.returncode}: {said.decode()}")

    async def stop(self, index: int) -> None:
        """SIGTERM; returns when all of it has ended. Raises ServerFailed."""
        server = self._server(index)
        server.terminate()
        try:
            async with asyncio.timeout(_STOP_S):
                await _until(lambda: not server.processes())
        except TimeoutError:
            raise ServerFailed(f"{server.name} does not end; its log:\n{server.log_tail}") from None
        self.places[index].forget()

    def ledger(self) -> list[str]:
        """The ids of all rows, from any gateway that serves."""
        port = next(place.port for place in self.places if place.is_ready)
        ids: list[str] = []
        cursor = ""
        while True:
            reply = httpx.get(f"http://127.0.0.1:{port}/admin/ledger?limit=10000&after={cursor}", trust_env=False)
            reply.raise_for_status()
            if reply.headers["x-genkan-rows"] == "0":
                return ids
            ids += [json.loads(line)["id"] for line in reply.text.splitlines()]
            cursor = reply.headers["x-genkan-cursor"]

    def _server(self, index: int) -> ServerProcess:
        server = self._servers[index]
        assert server is not None, "start() comes first"
        return server


async def arrive(balancer: Balancer, rate: float, counts: Counts, until: asyncio.Event) -> None:
    """Send requests at ``rate`` a second, whatever becomes of those before, and return when all have ended."""
    loop = asyncio.get_running_loop()
    kinds = (Requests(_PORT, stream=False), Requests(_PORT, stream=True))
    began_s = loop.time()
    async with asyncio.TaskGroup() as group:
        for number in itertools.count(1):
            if until.is_set():
                return
            await asyncio.sleep(max(0.0, began_s + number / rate - loop.time()))
            group.create_task(_one(balancer, kinds[number % 2](number), number, counts))


async def _one(balancer: Balancer, request: bytes, number: int, counts: Counts) -> None:
    counts.sent += 1
    began_s = time.monotonic()
    try:
        answer, head = await balancer.send(request)
        (check_stream if number % 2 else check_whole)(answer, number)
    except (NoReplica, WrongAnswer, OSError, TimeoutError) as error:
        counts.failures[f"{type(error).__name__}: {error}"] += 1
        return
    counts.answered.add(_request_id(head))
    if not number % 2:
        counts.waits_ms.append(1000 * (time.monotonic() - began_s))


async def roll(replicas: Replicas, restarts: int, counts: Counts, *, ends_with_stop: bool = False) -> None:
    """Restart one replica after the other, ``restarts`` in all; the last only to its stop if it so ends."""
    for number in range(restarts):
        index = number % len(replicas.places)
        counts.drains_s.append(await _timed(replicas.drain(index)))
        counts.stops_s.append(await _timed(replicas.stop(index)))
        if number < restarts - 1 or not ends_with_stop:
            counts.starts_s.append(await _timed(replicas.start(index)))


async def run(
    redis_url: str, restarts: int, rate: float, *, ends_with_stop: bool = False
) -> tuple[Counts, Balancer, list[str]]:
    """All of it: what was counted, the balancer, and the ids of the ledger's rows. Raises ServerFailed."""
    async with _upstream() as upstream:
        replicas = Replicas(upstream, redis_url, 2)
        try:
            counts, done = Counts(), asyncio.Event()
            async with Balancer(replicas.places) as balancer:
                await asyncio.gather(replicas.start(0), replicas.start(1))
                load = asyncio.create_task(arrive(balancer, rate, counts, done))
                try:
                    await roll(replicas, restarts, counts, ends_with_stop=ends_with_stop)
                finally:
                    done.set()
                    await load
                rows = await _settled(replicas, len(counts.answered))
            return counts, balancer, rows
        finally:
            replicas.close()


async def _settled(replicas: Replicas, rows: int) -> list[str]:
    """The ledger, once it has so many rows, or as it is after ten seconds: what was not yet written is written then."""
    deadline_s = time.monotonic() + SETTLED_S
    while True:
        found = await asyncio.to_thread(replicas.ledger)
        if len(found) >= rows or time.monotonic() > deadline_s:
            return found
        await asyncio.sleep(_POLL_S)


def result_of(counts: Counts, refused: int, rows: Sequence[str]) -> dict[str, Any]:
    """The figures, rows that are missing, too many or of nobody's request among them."""
    written = Counter(rows)
    return {
        "requests": counts.sent,
        "failed": counts.failures.total(),
        "refused_and_retried": refused,
        "restarts": len(counts.stops_s),
        "rows": len(rows),
        "rows_missing": len(counts.answered - written.keys()),
        "rows_twice": sum(number > 1 for number in written.values()),
        "rows_of_no_answer": len(written.keys() - counts.answered),
        "whole_p50_ms": percentile(counts.waits_ms, 50),
        "whole_p99_ms": percentile(counts.waits_ms, 99),
        "drain_s": max(counts.drains_s),
        "stop_s": max(counts.stops_s),
        "start_s": max(counts.starts_s),
    }


def is_lossless(result: dict[str, Any]) -> bool:
    return not any(result[name] for name in ("failed", "rows_missing", "rows_twice", "rows_of_no_answer"))


@contextmanager
def shared_redis() -> Iterator[str]:
    """The URL of a Redis of its own."""
    with tempfile.TemporaryDirectory(prefix="genkan-redis-") as folder:
        redis = EmbeddedRedis(Path(folder))
        try:
            yield redis.start()
        finally:
            redis.stop()


@asynccontextmanager
async def _upstream() -> AsyncIterator[str]:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SlowStreams(loop), "127.0.0.1", 0, backlog=1024)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - other processes set no event
        await asyncio.sleep(_POLL_S)


async def _timed(work: Awaitable[None]) -> float:
    began_s = time.monotonic()
    await work
    return time.monotonic() - began_s


def _request_id(head: bytes) -> str:
    return head.partition(b"\r\nx-request-id: ")[2].partition(b"\r\n")[0].decode()


@click.command()
@click.option("--restarts", type=click.IntRange(min=1), default=10, show_default=True)
@click.option("--rate", type=click.FloatRange(min=0.1), default=50.0, show_default=True, help="Requests a second.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default="bench/out", show_default=True)
def main(restarts: int, rate: float, out: Path) -> None:
    """Restart two gateways in turn under load; fails when a request is lost, or billed other than once."""
    try:
        with interruptible(), shared_redis() as url:
            counts, balancer, rows = uvloop.run(run(url, restarts, rate))
    except ServerFailed as error:
        raise click.ClickException(str(error)) from None
    result = result_of(counts, balancer.refused, rows)
    for name, value in result.items():
        print(f"{name:>20}  {report.number(value) if isinstance(value, float) else f'{value:,}'}")
    for failure, number in counts.failures.most_common(10):
        print(f"{number} x {failure}", file=sys.stderr)
    report.finish(out, "rolling", result)
    if not is_lossless(result):
        sys.exit(1)


if __name__ == "__main__":
    main()
