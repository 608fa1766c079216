"""Workers that share their circuits over a real Redis, and go on without it."""

import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis_faults import connected_client, until
from redis_servers import KINDS, RunningRedis, running_redis

from genkan.clock import SystemClock
from genkan.config import BreakerConfig
from genkan.gateway.breaker import Attempt, Breaker, CircuitStore
from genkan.gateway.shared_circuits import SharedCircuits
from genkan.store.address import parse_address
from genkan.store.resp import RespClient

pytestmark = pytest.mark.anyio

#: Half a second open, so that a test need not wait for long.
POLICY = BreakerConfig(open_s=0.5)
SOON_S = 0.05


@pytest.fixture(scope="module", params=KINDS)
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRedis]:
    with running_redis(request.param, tmp_path_factory.mktemp("redis")) as redis:
        yield redis


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RunningRedis]:
    with running_redis("embedded", tmp_path) as running:
        yield running


class Worker:
    """One worker's circuits, and its breaker of the deployment ``primary``."""

    def __init__(self, client: RespClient, circuits: SharedCircuits) -> None:
        self.client = client
        self.circuits = circuits
        self.breaker = Breaker("primary", POLICY, circuits)

    @property
    def state(self) -> str:
        return self.breaker.state(time.monotonic())

    def begin(self) -> Attempt | None:
        return self.breaker.begin(time.monotonic())

    def attempt(self, *, works: bool) -> bool:
        """One attempt that ends at once; False if it was not admitted."""
        attempt = self.begin()
        if attempt is None:
            return False
        (attempt.succeeded if works else attempt.failed)(time.monotonic())
        return True

    def fail(self) -> None:
        """Attempts that fail until the circuit opens."""
        while self.state == "closed":
            self.attempt(works=False)

    async def opens(self) -> None:
        """Wait until it knows that the circuit is open, or half open by now."""
        await until(lambda: self.state != "closed")


async def agree(one: Worker, other: Worker) -> None:
    """Wait until the other knows as much of failures as the one."""
    circuit, told = one.circuits.load("primary"), other.circuits.load("primary")
    await until(lambda: (told.generation, told.consecutive) == (circuit.generation, circuit.consecutive))


@asynccontextmanager
async def worker(redis: RunningRedis, prefix: str) -> AsyncGenerator[Worker, None]:
    async with connected_client(redis.url, timeout_s=0.1) as client:
        circuits = SharedCircuits(
            client, parse_address(redis.url), prefix=prefix, connect_s=0.25, timeout_s=0.1, clock=SystemClock()
        )
        await circuits.start()
        try:
            yield Worker(client, circuits)
        finally:
            await circuits.aclose()


@asynccontextmanager
async def two_workers(redis: RunningRedis, prefix: str = "two") -> AsyncGenerator[tuple[Worker, Worker], None]:
    """Both know that there is nothing to know."""
    async with connected_client(redis.url) as client:
        await client.call("DEL", f"{prefix}:circuits")
    async with worker(redis, prefix) as one, worker(redis, prefix) as other:
        await until(lambda: not one.circuits._is_behind and not other.circuits._is_behind)
        yield one, other


async def test_a_circuit_that_one_opens_is_open_for_all(shared: RunningRedis) -> None:
    async with two_workers(shared) as (one, other):
        one.fail()
        await other.opens()
        assert not other.attempt(works=True)


async def test_others_know_at_once(shared: RunningRedis) -> None:
    """The quickest of a few, as the machine may be busy with something else."""
    async with two_workers(shared) as (one, other):
        circuit, told = one.circuits.load("primary"), other.circuits.load("primary")
        taken_s = []
        for generation in range(1, 6):
            circuit.generation = generation
            began_s = time.monotonic()
            one.circuits.save("primary", circuit)
            await until(lambda: told.generation == circuit.generation)
            taken_s.append(time.monotonic() - began_s)
        assert min(taken_s) < SOON_S


async def test_a_circuit_that_one_closes_is_closed_for_all(shared: RunningRedis) -> None:
    async with two_workers(shared) as (one, other):
        one.fail()
        await other.opens()
        await until(lambda: other.state == "half_open")
        assert other.attempt(works=True)
        assert other.state == "closed"
        await until(lambda: one.state == "closed")
        assert one.circuits.load("primary").generation == other.circuits.load("primary").generation == 2


async def test_workers_in_turn_make_few_attempts_in_vain(shared: RunningRedis) -> None:
    async with two_workers(shared) as (one, other):
        vain = 0
        for asked, told in [(one, other), (other, one)] * 3:
            vain += asked.attempt(works=False)
            await agree(asked, told)
        assert 1 <= vain <= 3
        assert one.state == other.state == "open"


async def test_there_is_one_probe_at_a_time_over_all_workers(shared: RunningRedis) -> None:
    async with two_workers(shared) as (one, other):
        one.fail()
        await other.opens()
        await until(lambda: one.state == other.state == "half_open")
        probe = one.begin()
        assert probe is not None
        await until(lambda: not other.breaker.admits(time.monotonic()))
        assert other.begin() is None
        probe.ignored(time.monotonic())
        await until(lambda: other.breaker.admits(time.monotonic()))


async def test_a_success_ends_the_row_of_failures_for_all(shared: RunningRedis) -> None:
    async with two_workers(shared) as (one, other):
        one.attempt(works=False)
        await until(lambda: other.circuits.load("primary").consecutive == 1)
        one.attempt(works=True)
        await until(lambda: other.circuits.load("primary").consecutive == 0)
        other.attempt(works=False)
        assert other.state == "closed"


async def test_successes_are_not_told(shared: RunningRedis) -> None:
    async with two_workers(shared, "silent") as (one, other):
        for _ in range(100):
            one.attempt(works=True)
        one.attempt(works=False)  # what is told comes in order, so nothing comes after this
        await until(lambda: other.circuits.load("primary").consecutive == 1)
        assert await other.client.call("HLEN", "silent:circuits") == 1
        assert other.circuits.load("primary").in_flight == 0
        assert not one.circuits._changed


async def test_who_starts_later_begins_with_what_all_know(shared: RunningRedis) -> None:
    async with two_workers(shared, "late") as (one, _other):
        one.fail()
        await until(lambda: not one.circuits._changed)
        while not await one.client.call("HLEN", "late:circuits"):
            pass
        async with worker(shared, "late") as late:
            await late.opens()
            theirs, ours = one.circuits.load("primary"), late.circuits.load("primary")
            assert ours.generation == theirs.generation
            assert abs(ours.open_until_s - theirs.open_until_s) < POLICY.open_s / 2


async def test_prefixes_are_apart(shared: RunningRedis) -> None:
    async with two_workers(shared, "here") as (one, other), worker(shared, "there") as stranger:
        one.fail()
        await other.opens()
        assert stranger.state == "closed"


async def test_what_others_left_in_the_hash_is_no_matter_and_goes(shared: RunningRedis) -> None:
    old_ms = int((time.time() - 90_000) * 1000)
    async with connected_client(shared.url) as client:
        await client.call("DEL", "odd:circuits")
        now_ms = int(time.time() * 1000)
        await client.call("HSET", "odd:circuits", "a", "junk", "b", f"1 {old_ms} {{}}", "primary", f"9 {now_ms} [1]")
        async with worker(shared, "odd") as one:
            await until(lambda: not one.circuits._is_behind)
            while await client.call("HLEN", "odd:circuits") != 1:
                pass
            await client.call("PUBLISH", "odd:circuits", b"\xff{")
            one.attempt(works=False)
            assert one.attempt(works=False)
            assert one.state == "open"


async def test_the_hash_goes_when_nothing_was_told_for_a_day(shared: RunningRedis) -> None:
    async with two_workers(shared, "gone") as (one, other):
        one.attempt(works=False)
        await until(lambda: other.circuits.load("primary").consecutive == 1)
        assert 86_000 < await one.client.call("TTL", "gone:circuits") <= 86_400


# Without Redis


async def test_while_redis_is_gone_each_goes_on_by_itself_and_they_agree_when_it_is_back(
    redis: RunningRedis, caplog: pytest.LogCaptureFixture
) -> None:
    async with two_workers(redis) as (one, other):
        redis.kill()
        await until(lambda: not one.client.is_connected and not other.client.is_connected)
        one.fail()
        assert other.attempt(works=True)
        redis.start()
        await until(lambda: other.circuits.load("primary").generation == one.circuits.load("primary").generation == 1)
        assert other.circuits.load("primary").is_open
        assert [record.name for record in caplog.records] == ["genkan.store"] * 2  # each that Redis is not there


async def test_a_redis_that_lost_everything_is_told_again(redis: RunningRedis) -> None:
    async with two_workers(redis) as (one, other):
        one.fail()
        await other.opens()
        redis.restart()  # without a file
        async with connected_client(redis.url) as client:
            while not await client.call("HLEN", "two:circuits"):
                pass


async def test_who_missed_something_takes_it_from_what_is_known(shared: RunningRedis) -> None:
    async with two_workers(shared, "missed") as (one, other):
        one.fail()
        await other.opens()
        circuit = other.circuits.load("primary")
        circuit.generation, circuit.is_open, circuit.consecutive = 0, False, 0  # as if it had never heard of it
        other.attempt(works=False)
        await other.opens()
        assert other.circuits.load("primary").generation == 1


async def test_a_refusal_is_logged_once(redis: RunningRedis, caplog: pytest.LogCaptureFixture) -> None:
    async with two_workers(redis) as (one, _other):
        await one.client.call("SET", "two:circuits", "not a hash")
        one.attempt(works=False)
        await until(lambda: caplog.records)
        refused = await refusals(one.client)
        while await refusals(one.client) < refused + 2:
            pass  # until it has tried again
        assert len(caplog.records) == 1
        await one.client.call("DEL", "two:circuits")
        while not await one.client.call("EXISTS", "two:circuits"):
            pass  # until it is told again


async def refusals(client: RespClient) -> int:
    """Scripts that failed so far."""
    stats = await client.call("INFO", "commandstats")
    return int(stats.partition(b"cmdstat_evalsha:")[2].partition(b"failed_calls=")[2].split()[0])


def test_it_is_a_circuit_store(redis: RunningRedis) -> None:
    client = RespClient(parse_address(redis.url), connect_s=1, timeout_s=1)
    store: CircuitStore = SharedCircuits(
        client, parse_address(redis.url), prefix="x", connect_s=1, timeout_s=1, clock=SystemClock()
    )
    circuit = store.load("a")
    circuit.consecutive = 3
    store.save("a", circuit)
    assert store.load("a").consecutive == 3
