"""The exact tier on real Redis servers that are gone, slow, full, read-only, or hold what nobody put there."""

import time
from collections.abc import AsyncGenerator

import pytest
from cache_notes import CacheNotes
from redis_faults import connected_client, until
from redis_servers import RunningRedis
from stored_answers import SECRET, chat, scope_of, stored

from genkan.cache.exact import ExactTier, Hit
from genkan.cache.sealer import Sealer
from genkan.clock import SystemClock
from genkan.store.redis_answers import RedisAnswers
from genkan.store.resp import RespClient

pytestmark = pytest.mark.anyio
SCOPE = scope_of(chat())
ANSWER = stored(SCOPE)
KEPT = f"genkan-test:answer:{SCOPE.key.hex()}"
S = 5.0  # a timeout that only a broken server reaches


class OnRedis:
    """Two workers' tiers on one Redis."""

    def __init__(self, server: RunningRedis, clients: list[RespClient]) -> None:
        self.server = server
        self.client = clients[0]
        self.notes = CacheNotes()
        self.tier, self.other = (
            ExactTier(
                RedisAnswers(client, prefix="genkan-test"),
                Sealer(SECRET, encrypt=True),
                SystemClock(),
                self.notes,
                max_answer_bytes=1 << 18,
            )
            for client in clients
        )

    async def find(self, tier: ExactTier | None = None, *, timeout_s: float = S) -> Hit | None:
        return await (tier or self.tier).look(SCOPE, tenant="a", route="r", timeout_s=timeout_s).found()

    async def put(self) -> None:
        """Returns when it is there, or was counted."""
        told = len(self.notes.stored_bytes) + len(self.notes.failures)
        look = self.tier.look(SCOPE, tenant="a", route="r", timeout_s=S)
        await look.found()
        look.put(ANSWER, ttl_s=60)
        await until(lambda: len(self.notes.stored_bytes) + len(self.notes.failures) > told)


@pytest.fixture
async def rig(server: RunningRedis | None) -> AsyncGenerator[OnRedis, None]:
    if server is None:
        pytest.skip("for answers in Redis")
    async with connected_client(server.url) as one, connected_client(server.url) as two:
        await one.call("FLUSHALL")
        yield OnRedis(server, [one, two])


async def test_one_worker_finds_what_another_put_and_both_are_purged(rig: OnRedis) -> None:
    await rig.put()
    assert await rig.find(rig.other) == Hit(ANSWER, "exact")
    await rig.other.purge(tenant="a")
    assert await rig.find() is None
    await rig.put()
    assert await rig.find(rig.other) == Hit(ANSWER, "exact")
    assert rig.notes.failures == []


async def test_full_memory_is_counted_and_stores_nothing(rig: OnRedis) -> None:
    await rig.find()
    await rig.client.call("CONFIG", "SET", "maxmemory", "1")
    try:
        await rig.put()
        assert rig.notes.failures == ["put"]
        assert await rig.find() is None
    finally:
        await rig.client.call("CONFIG", "SET", "maxmemory", "0")
    await rig.put()
    assert await rig.find() is not None


async def test_full_memory_before_the_first_epoch_is_a_miss(rig: OnRedis) -> None:
    await rig.client.call("CONFIG", "SET", "maxmemory", "1")
    try:
        assert await rig.find() is None
        assert rig.notes.failures == ["look"]
    finally:
        await rig.client.call("CONFIG", "SET", "maxmemory", "0")


async def test_a_replica_is_read_only_and_a_miss(rig: OnRedis) -> None:
    await rig.put()
    await rig.client.call("REPLICAOF", "127.0.0.1", "1")
    try:
        look = rig.tier.look(SCOPE, tenant="a", route="r", timeout_s=S)
        await look.found()
        look.put(ANSWER, ttl_s=60)
        await until(lambda: rig.notes.failures)
        assert rig.notes.failures == ["put"]
    finally:
        async with connected_client(rig.server.url) as client:
            await client.call("REPLICAOF", "NO", "ONE")


async def test_another_type_or_other_bytes_are_a_miss(rig: OnRedis) -> None:
    await rig.put()
    good: bytes = await rig.client.call("GET", KEPT)
    for odd in (good[:-1], good[:5], b"", good[:4] + good[:3:-1], good + b"x"):
        await rig.client.call("SET", KEPT, odd)
        assert await rig.find() is None
    assert rig.notes.failures == ["unreadable"] * 5
    await rig.client.call("SET", KEPT, good)
    assert await rig.find() is not None
    await rig.client.call("DEL", KEPT)
    await rig.client.call("LPUSH", KEPT, good)
    assert await rig.find() is None


async def test_a_paused_redis_costs_its_timeout_once(rig: OnRedis) -> None:
    await rig.put()
    rig.server.pause()
    try:
        began_s = time.monotonic()
        assert await rig.find(timeout_s=0.05) is None
        first_s = time.monotonic() - began_s
        assert await rig.find(timeout_s=0.05) is None
        rest_s = time.monotonic() - began_s - first_s
    finally:
        rig.server.resume()
    assert rig.notes.failures == ["timeout", "paused"]
    assert 0.04 < first_s < 1.0
    assert rest_s < first_s / 2


async def test_a_killed_redis_is_a_miss_at_once(rig: OnRedis) -> None:
    await rig.put()
    rig.server.kill()
    try:
        await until(lambda: not rig.client.is_connected)
        assert await rig.find() is None
        assert rig.notes.failures == ["look"]
    finally:
        rig.server.start()
    await until(lambda: rig.client.is_connected)
    assert await rig.find() is None  # it kept nothing
    await rig.put()
    assert await rig.find() is not None
