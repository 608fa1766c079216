"""Where keys' records are kept: the same in memory and in every Redis."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis_servers import KINDS, Kind, RunningRedis, running_redis

from genkan.errors import StoreLost, StoreRefused
from genkan.store.address import parse_address
from genkan.store.keys import Edit, KeyStore, KeyTable, MemoryKeyStore, RedisKeyStore
from genkan.store.resp import RespClient

pytestmark = pytest.mark.anyio
OURS = "0123456789abcdef"


async def connected(redis: RunningRedis) -> RespClient:
    client = RespClient(parse_address(redis.url), connect_s=5, timeout_s=5)
    await client.start()
    return client


@pytest.fixture(params=["memory", *KINDS])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[KeyStore]:
    if request.param == "memory":
        yield MemoryKeyStore()
        return
    kind: Kind = request.param
    with running_redis(kind, tmp_path) as redis:
        client = await connected(redis)
        yield RedisKeyStore(client, "test")
        await client.aclose()


async def test_at_first_there_is_nothing(store: KeyStore) -> None:
    assert await store.table() == KeyTable(0, "", {})
    assert await store.version() == 0


async def test_edits_add_change_and_drop_records(store: KeyStore) -> None:
    binary = b'{"name":"Zo\xc3\xab\\u0000 \xff"}'
    assert await store.edit([Edit("d1", None, b"one"), Edit("d2", None, binary)], OURS)
    assert (await store.table()).records == {"d1": b"one", "d2": binary}
    assert await store.edit([Edit("d1", b"one", b"uno"), Edit("d2", binary, None)], OURS)
    table = await store.table()
    assert (table.records, table.fingerprint) == ({"d1": b"uno"}, OURS)


async def test_every_change_is_a_later_version_also_when_nothing_is_left(store: KeyStore) -> None:
    seen = [await store.version()]
    for edit in (Edit("d", None, b"1"), Edit("d", b"1", b"2"), Edit("d", b"2", None), Edit("d", None, b"1")):
        assert await store.edit([edit], OURS)
        seen.append(await store.version())
        assert (await store.table()).version == seen[-1]
    assert seen == sorted(set(seen))


async def test_an_edit_of_what_is_no_longer_so_changes_nothing(store: KeyStore) -> None:
    await store.edit([Edit("d", None, b"1")], OURS)
    before = await store.table()
    for stale in (Edit("d", b"0", b"2"), Edit("d", None, b"2"), Edit("e", b"1", b"2"), Edit("d", b"0", None)):
        assert not await store.edit([Edit("new", None, b"n"), stale], OURS)
    assert await store.table() == before


async def test_of_those_who_change_one_record_at_once_one_does(store: KeyStore) -> None:
    await store.edit([Edit("d", None, b"0")], OURS)
    done = await asyncio.gather(*(store.edit([Edit("d", b"0", b"%d" % n)], OURS) for n in range(1, 21)))
    assert sum(done) == 1
    assert (await store.table()).records == {"d": b"%d" % (done.index(True) + 1)}


async def test_records_made_under_another_secret_are_left_alone(store: KeyStore) -> None:
    await store.edit([Edit("d", None, b"1")], OURS)
    with pytest.raises(StoreRefused) as caught:
        await store.edit([Edit("e", None, b"2")], "another")
    assert caught.value.code == "OTHERSECRET"
    assert (await store.table()).records == {"d": b"1"}


async def test_where_no_records_are_left_another_secret_may_begin(store: KeyStore) -> None:
    await store.edit([Edit("d", None, b"1")], OURS)
    await store.edit([Edit("d", b"1", None)], OURS)
    assert await store.edit([Edit("e", None, b"2")], "another")
    assert (await store.table()).fingerprint == "another"


async def test_a_redis_that_lost_its_last_changes_never_repeats_a_version(tmp_path: Path) -> None:
    with running_redis("embedded", tmp_path) as redis:
        client = await connected(redis)
        store = RedisKeyStore(client, "test")
        await store.edit([Edit("d", None, b"1")], OURS)
        seen = await store.version()
        await client.call("FLUSHALL")
        await store.edit([Edit("e", None, b"2")], OURS)
        assert await store.version() > seen
        await client.aclose()


async def test_a_dead_redis_is_told_apart_from_an_empty_one(tmp_path: Path) -> None:
    with running_redis("embedded", tmp_path) as redis:
        client = await connected(redis)
        store = RedisKeyStore(client, "test")
        redis.kill()
        for call in (store.version, store.table, lambda: store.edit([Edit("d", None, b"1")], OURS)):
            with pytest.raises(StoreLost):
                await call()
        await client.aclose()


async def test_prefixes_do_not_meet(tmp_path: Path) -> None:
    with running_redis("embedded", tmp_path) as redis:
        client = await connected(redis)
        await RedisKeyStore(client, "a").edit([Edit("d", None, b"1")], OURS)
        assert await RedisKeyStore(client, "b").table() == KeyTable(0, "", {})
        assert sorted(await client.call("KEYS", "*")) == [b"a:keys", b"a:keys:secret", b"a:keys:version"]
        await client.aclose()
