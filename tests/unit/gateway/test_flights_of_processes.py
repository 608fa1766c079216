"""A worker that is killed while others wait for what it asked for."""

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from flight_asks import Client, body_of, client
from flight_asks import asked as request_of
from flight_worker import SECRET
from redis_faults import connected_client, until
from redis_servers import RunningRedis, running_redis

from genkan.cache.sealer import Sealer
from genkan.errors import StreamInterrupted
from genkan.gateway.flight_relay import FlightRelay
from genkan.gateway.flights import Flights
from genkan.store.address import parse_address

pytestmark = pytest.mark.anyio

PREFIX = "t"
TESTS = Path(__file__).parents[2]


class Other:
    """A worker in another process, that has asked."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def says(self) -> str:
        assert self._process.stdout is not None
        async with asyncio.timeout(20):
            return (await self._process.stdout.readline()).decode().strip()

    async def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())
        await self._process.stdin.drain()

    async def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        await self._process.wait()


@asynccontextmanager
async def two_processes(folder: Path) -> AsyncGenerator[tuple[Other, Flights, FlightRelay], None]:
    with running_redis("embedded", folder) as redis:
        async with other_process(redis) as other, connected_client(redis.url) as connection:
            address, sealer = parse_address(redis.url), Sealer(SECRET, encrypt=False)
            relay = FlightRelay(connection, address, sealer, prefix=PREFIX, connect_s=2.0, timeout_s=0.5, silence_s=0.5)
            flights = Flights(relay)
            await flights.start()
            yield other, flights, relay
            await until(lambda: relay.is_idle and flights.count == 0)
            await flights.aclose()


@asynccontextmanager
async def other_process(redis: RunningRedis) -> AsyncGenerator[Other, None]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(TESTS / "flight_worker.py"),
        redis.url,
        PREFIX,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    other = Other(process)
    try:
        assert await other.says() == "asked"
        yield other
    finally:
        if process.returncode is None:
            await other.kill()


async def finished(one: Client) -> Client:
    """Once it has asked by itself, and has been answered."""
    await until(lambda: one.line.was_asked)
    one.line.say("again")
    one.line.finish()
    await until(one.task.done)
    return one


async def test_processes_ask_once(tmp_path: Path) -> None:
    async with two_processes(tmp_path) as (other, flights, relay):
        stream, whole = client(flights), client(flights, request_of(stream=False))
        await until(lambda: relay._inboxes)
        await other.tell("a")
        await until(lambda: stream.payloads)
        await other.tell("b")
        await other.tell("")
        assert await other.says() == "done ab"
        await until(lambda: stream.task.done() and whole.task.done())
        assert stream.text == whole.text == "ab"
        assert not any(one.line.was_asked for one in (stream, whole))


async def test_one_that_is_killed_before_the_first_word_is_replaced(tmp_path: Path) -> None:
    async with two_processes(tmp_path) as (other, flights, relay):
        stream, whole = client(flights), client(flights, request_of(stream=False))
        await until(lambda: relay._inboxes)
        await other.kill()
        assert (await finished(stream)).text == "again"
        await until(whole.task.done)
        assert whole.text == "again"
        assert not whole.line.was_asked


async def test_one_that_is_killed_in_midst_of_it_is_replaced_for_those_who_have_nothing(tmp_path: Path) -> None:
    async with two_processes(tmp_path) as (other, flights, _):
        stream, whole = client(flights), client(flights, request_of(stream=False))
        await other.tell("a")
        await until(lambda: stream.payloads)
        await other.kill()
        await until(stream.task.done)
        assert isinstance(stream.error, StreamInterrupted)
        assert stream.text == "a"
        await until(lambda: whole.line.was_asked)
        late = client(flights)
        whole.line.said.put_nowait(body_of("again"))
        await until(lambda: whole.task.done() and late.task.done())
        assert whole.text == late.text == "again"
