"""What one worker knows, all know: soon after, after a restart, and after Redis lost it."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from byte_servers import BOTH_LOOPS
from index_rigs import TTL_S, Noted, entry, name, vectors, worker
from redis_faults import connected_client, until
from redis_servers import RunningRedis, running_redis

from genkan.cache.index import feed as feed_module
from genkan.cache.index.memory import MemoryIndex
from genkan.cache.sealer import Sealer
from genkan.store.command import packed
from genkan.store.resp import RespClient

pytestmark = pytest.mark.anyio

KEY = "genkan:questions"
VECTORS = vectors(1000)


@pytest.fixture(params=BOTH_LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RunningRedis]:
    with running_redis("embedded", tmp_path) as running:
        yield running


@asynccontextmanager
async def started(index: MemoryIndex) -> AsyncGenerator[MemoryIndex, None]:
    await index.start()
    try:
        await until(lambda: index.is_ready)
        yield index
    finally:
        await index.aclose()


@asynccontextmanager
async def two_workers(redis: RunningRedis) -> AsyncGenerator[tuple[RespClient, MemoryIndex, MemoryIndex], None]:
    async with (
        connected_client(redis.url) as client,
        started(worker(client, redis.url)) as one,
        started(worker(client, redis.url)) as other,
    ):
        yield client, one, other


async def texts(index: MemoryIndex, number: int, *, partition: str = "p", k: int = 1) -> list[str]:
    found = await index.search(name(partition), VECTORS[number], k=k, timeout_s=1.0)
    return [near.text for near in found]


async def test_another_worker_finds_an_entry_within_100_ms(redis: RunningRedis) -> None:
    async with two_workers(redis) as (_, one, other):
        took_s = []
        for number in range(20):
            began_s = time.perf_counter()
            await one.add(entry(str(number), VECTORS[number]))
            assert await texts(one, number) == [str(number)]
            await until(lambda number=number: other.size == number + 1)  # type: ignore[misc]  # a loop's lambda
            took_s.append(time.perf_counter() - began_s)
            assert await texts(other, number) == [str(number)]
        assert sorted(took_s)[10] < 0.1


async def test_removals_purges_and_observations_reach_all_once(redis: RunningRedis) -> None:
    async with two_workers(redis) as (_, one, other):
        for number, tenant in enumerate(["acme", "acme", "globex"]):
            await one.add(entry(str(number), VECTORS[number], tenant=tenant, partition=tenant))
        await other.saw(name("0"), name("acme"), 0.5, True)
        await other.saw(name("0"), name("acme"), 0.25, False)
        for index in (one, other):
            await until(lambda index=index: len(index.seen(name("0"))) == 2)  # type: ignore[misc]  # a loop's lambda
            assert index.seen(name("0")) == ((0.5, True), (0.25, False))
        await other.remove(name("0"), name("acme"))
        await until(lambda: one.size == 2)
        await one.purge(tenant="acme")
        await until(lambda: other.size == 1)
        assert await texts(other, 2, partition="globex") == ["2"]
        await other.purge()
        await until(lambda: one.size == 0)


async def test_a_worker_that_starts_knows_what_others_stored(redis: RunningRedis) -> None:
    async with connected_client(redis.url) as client:
        async with started(worker(client, redis.url)) as one:
            for number in range(2 * feed_module.PAGE + 7):
                await one.add(entry(str(number), VECTORS[number]))
            await one.saw(name("3"), name("p"), 0.75, True)
            await one.remove(name("4"), name("p"))
        async with started(worker(client, redis.url)) as later:
            assert later.size == 2 * feed_module.PAGE + 6
            assert await texts(later, 500) == ["500"]
            assert await texts(later, 4) != ["4"]
            assert later.seen(name("3")) == ((0.75, True),)


async def test_while_it_reads_much_others_run(redis: RunningRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected_client(redis.url) as client:
        async with started(worker(client, redis.url)) as one:
            for number in range(200):
                await one.add(entry(str(number), VECTORS[number]))
        monkeypatch.setattr(feed_module, "_SLICE_S", 0.0)
        later = worker(client, redis.url)
        await later.start()
        try:
            sizes = set()
            while not later.is_ready:
                sizes.add(later.size)
                await asyncio.sleep(0)
            assert len(sizes) > 100
        finally:
            await later.aclose()


async def test_what_expired_meanwhile_is_not_taken_in(redis: RunningRedis) -> None:
    async with connected_client(redis.url) as client:
        async with started(worker(client, redis.url)) as one:
            await one.add(entry("over", VECTORS[0], ttl_s=-1.0))
            await one.add(entry("not over", VECTORS[1]))
        async with started(worker(client, redis.url)) as later:
            assert later.size == 1


async def test_one_that_may_have_missed_something_begins_anew(redis: RunningRedis) -> None:
    async with two_workers(redis) as (client, one, other):
        for number in range(3):
            await one.add(entry(str(number), VECTORS[number]))
        await until(lambda: other.size == 3)
        stream = await client.call("XRANGE", KEY, "-", "+", "COUNT", 1)
        # All connections but this one end, and before they are back the stream is cut past what they have read.
        await client.pipeline(
            [
                packed("CLIENT", "KILL", "TYPE", "normal"),
                packed("XADD", KEY, "*", *stream[0][1]),
                packed("XTRIM", KEY, "MAXLEN", 1),
            ]
        )
        for index in (one, other):
            await until(lambda index=index: index.size == 1)  # type: ignore[misc]  # a loop's lambda
            await until(lambda index=index: index.is_ready)  # type: ignore[misc]  # a loop's lambda
            assert await texts(index, 0, k=3) == ["0"]


async def test_one_that_missed_nothing_goes_on_from_where_it_was(redis: RunningRedis) -> None:
    async with two_workers(redis) as (client, one, other):
        await one.add(entry("0", VECTORS[0]))
        await until(lambda: other.size == 1)
        stream = await client.call("XRANGE", KEY, "-", "+")
        await client.pipeline([packed("CLIENT", "KILL", "TYPE", "normal"), packed("DEL", "nothing")])
        await one.add(entry("1", VECTORS[1]))
        await until(lambda: other.size == 2)
        assert (await client.call("XRANGE", KEY, "-", "+"))[0] == stream[0]
        assert await texts(other, 0) == ["0"]


async def test_without_redis_it_goes_on_with_what_it_has_and_with_another_it_begins_anew(redis: RunningRedis) -> None:
    async with connected_client(redis.url) as client:
        noted = Noted()
        async with started(worker(client, redis.url, observer=noted)) as index:
            await index.add(entry("0", VECTORS[0]))
            redis.kill()
            await until(lambda: not client.is_connected)
            await index.add(entry("1", VECTORS[1]))
            await index.saw(name("1"), name("p"), 0.5, True)
            assert noted.failures["index"] >= 2
            assert await texts(index, 0) == ["0"]
            assert await texts(index, 1) == ["1"]
            assert index.seen(name("1")) == ((0.5, True),)
            redis.restart()
            await until(lambda: index.size == 0 and index.is_ready and client.is_connected)
            await index.add(entry("2", VECTORS[2]))
            assert await texts(index, 2) == ["2"]


async def test_it_starts_without_redis_and_is_ready_once_it_is_there(redis: RunningRedis) -> None:
    async with connected_client(redis.url) as client, started(worker(client, redis.url)) as one:
        await one.add(entry("0", VECTORS[0]))
    redis.kill()
    async with connected_client(redis.url, connect_s=0.05) as client:
        index = worker(client, redis.url)
        await index.start()
        try:
            assert not index.is_ready
            assert await texts(index, 0) == []
            redis.restart()
            await until(lambda: index.is_ready)
        finally:
            await index.aclose()


async def test_what_others_put_into_the_stream_is_counted_and_passed_over(redis: RunningRedis) -> None:
    async with connected_client(redis.url) as client:
        noted = Noted()
        stranger = worker(client, redis.url, sealer=Sealer(b"another secret", encrypt=False))
        async with started(worker(client, redis.url, observer=noted)) as index, started(stranger):
            await stranger.add(entry("theirs", VECTORS[0]))
            await client.call("XADD", KEY, "*", "r", b"nonsense")
            await client.call("XADD", KEY, "*", "x", "")
            await index.add(entry("ours", VECTORS[1]))
            await until(lambda: noted.failures["index"] == 3)
            assert index.size == 1


async def test_a_key_that_is_no_stream_is_a_failure_until_it_is_gone(redis: RunningRedis) -> None:
    async with connected_client(redis.url) as client:
        await client.call("SET", KEY, "x")
        noted = Noted()
        index = worker(client, redis.url, observer=noted)
        await index.start()
        try:
            await until(lambda: noted.failures["index"] >= 2)
            assert not index.is_ready
            await client.call("DEL", KEY)
            await until(lambda: index.is_ready)
        finally:
            await index.aclose()


async def test_the_stream_is_cut_and_expires(redis: RunningRedis) -> None:
    async with connected_client(redis.url) as client:
        await client.pipeline([packed("XADD", KEY, f"{number}-1", "r", "old") for number in range(1, 1001)])
        async with started(worker(client, redis.url)) as index:
            await index.add(entry("0", VECTORS[0]))
            assert await client.call("XLEN", KEY) <= 101  # it is cut by whole nodes, of 100 records
            assert TTL_S - 10 < await client.call("PTTL", KEY) / 1000 < TTL_S + 100


async def test_more_than_the_stream_may_hold_is_cut_too(redis: RunningRedis) -> None:
    async with connected_client(redis.url) as client:
        now_ms = int(time.time() * 1000)
        records = [packed("XADD", KEY, f"{now_ms}-{number}", "r", "x") for number in range(1, 3001)]
        await client.pipeline(records)
        async with started(worker(client, redis.url)) as index:
            await index.add(entry("0", VECTORS[0]))
            assert 2000 <= await client.call("XLEN", KEY) <= 2101
