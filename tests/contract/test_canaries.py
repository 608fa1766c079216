"""What workers measured of a canary and what was decided of it, wherever it is kept."""

import asyncio

import pytest
from redis_faults import connected_client
from redis_servers import RunningRedis

from genkan.errors import StoreLost, StoreTimeout
from genkan.store.canaries import AUDITED, Batch, CanaryStore, ExperimentKey, Kept, MemoryCanaries
from genkan.store.redis_canaries import RedisCanaries
from genkan.store.resp import RespClient

pytestmark = pytest.mark.anyio
KEY = ExperimentKey("chat", "00ff")
OTHER = ExperimentKey("chat", "ff00")


@pytest.fixture
def store(client: RespClient | None) -> CanaryStore:
    return MemoryCanaries() if client is None else RedisCanaries(client, prefix="genkan-test")


async def known(store: CanaryStore, key: ExperimentKey = KEY, run: int = 1) -> Kept:
    """What is kept, by a worker that has measured nothing."""
    return await store.exchange(key, run, Batch("looker", 1, {}))


async def test_sums_of_all_workers_are_added_up(store: CanaryStore) -> None:
    assert await known(store) == Kept(1, {}, None)
    await store.exchange(KEY, 1, Batch("a", 1, {"n": 3, "logs": -0.1}))
    await store.exchange(KEY, 1, Batch("b", 1, {"n": 4}))
    kept = await store.exchange(KEY, 1, Batch("a", 2, {"n": 5, "logs": 1e-7}))
    assert kept.sums["n"] == 12
    assert kept.sums["logs"] == pytest.approx(-0.0999999, abs=1e-15)
    assert await known(store) == kept
    assert await known(store, OTHER) == Kept(1, {}, None)


async def test_a_batch_that_is_sent_twice_is_added_once(store: CanaryStore) -> None:
    for _ in range(2):
        await store.exchange(KEY, 1, Batch("a", 1, {"n": 3}))
    await store.exchange(KEY, 1, Batch("a", 2, {"n": 4}))
    kept = await store.exchange(KEY, 1, Batch("a", 1, {"n": 3}))  # it was on its way for long
    assert kept.sums == {"n": 7}
    await store.exchange(OTHER, 1, Batch("a", 1, {"n": 1}))
    assert (await known(store, OTHER)).sums == {"n": 1}  # another experiment has numbers of its own


async def test_the_first_decision_stands_until_it_is_replaced(store: CanaryStore) -> None:
    assert (await store.decide(KEY, 1, b"first", replaces=False)).decision == b"first"
    assert (await store.decide(KEY, 1, b"second", replaces=False)).decision == b"first"
    assert (await store.decide(KEY, 1, b"by an admin", replaces=True)).decision == b"by an admin"
    assert await store.audit("chat") == [b"by an admin", b"first"]
    assert (await known(store)).decision == b"by an admin"
    assert (await known(store, OTHER)).decision is None


async def test_a_restart_begins_another_run_with_nothing(store: CanaryStore) -> None:
    await store.exchange(KEY, 1, Batch("a", 1, {"n": 3}))
    await store.decide(KEY, 1, b"decided", replaces=False)
    assert await store.restart(KEY, 1, b"restarted") == Kept(2, {}, None)
    assert await store.restart(KEY, 1, b"again") == Kept(2, {}, None)  # who asks knew only the first run
    assert await store.audit("chat") == [b"restarted", b"decided"]


async def test_what_is_of_an_earlier_run_is_dropped(store: CanaryStore) -> None:
    await store.restart(KEY, 1, b"restarted")
    assert await store.exchange(KEY, 1, Batch("a", 1, {"n": 3})) == Kept(2, {}, None)
    assert await store.decide(KEY, 1, b"too late", replaces=True) == Kept(2, {}, None)
    assert (await store.exchange(KEY, 2, Batch("a", 2, {"n": 4}))).sums == {"n": 4}


async def test_a_store_that_lost_a_run_goes_on_with_the_callers(store: CanaryStore) -> None:
    await store.exchange(KEY, 1, Batch("a", 1, {"n": 3}))
    await store.decide(KEY, 1, b"of the first run", replaces=False)
    assert await store.exchange(KEY, 7, Batch("a", 2, {"n": 4})) == Kept(7, {"n": 4}, None)


async def test_the_audit_is_a_routes_and_has_an_end(store: CanaryStore) -> None:
    for number in range(AUDITED + 5):
        await store.decide(KEY, 1, str(number).encode(), replaces=True)
    audit = await store.audit("chat")
    assert len(audit) == AUDITED
    assert audit[:2] == [b"104", b"103"]
    await store.decide(OTHER, 1, b"other", replaces=False)
    assert (await store.audit("chat"))[0] == b"other"
    assert await store.audit("another route") == []


async def test_what_is_given_back_is_a_copy(store: CanaryStore) -> None:
    kept = await store.exchange(KEY, 1, Batch("a", 1, {"n": 3}))
    kept.sums["n"] = 99.0
    assert (await known(store)).sums == {"n": 3}


async def test_in_redis_everything_runs_out_by_itself(store: CanaryStore, client: RespClient | None) -> None:
    if client is None:
        pytest.skip("for experiments in Redis")
    await store.exchange(KEY, 1, Batch("a", 1, {"n": 3}))
    await store.decide(KEY, 1, b"decided", replaces=False)
    hash_ = "genkan-test:canary:00ff:chat"
    ttls = [await client.call("TTL", key) for key in (hash_, f"{hash_}:worker:a", "genkan-test:canary-audit:chat")]
    assert [round(ttl / 86_400) for ttl in ttls] == [400, 1, 400]
    assert await client.call("DBSIZE") == 3


async def test_sums_lose_nothing(store: CanaryStore) -> None:
    for number in range(1, 201):
        await store.exchange(KEY, 1, Batch("a", number, {"total": 1e15 / 7, "tiny": 1e-9 / 3}))
    sums = (await known(store)).sums
    assert sums == pytest.approx({"total": 200e15 / 7, "tiny": 200e-9 / 3}, rel=1e-14)


async def test_what_a_paused_redis_does_later_is_not_done_twice(
    store: CanaryStore, server: RunningRedis | None
) -> None:
    if server is None:
        pytest.skip("for experiments in Redis")
    await known(store)  # it has learnt the script
    server.pause()
    try:
        with pytest.raises(StoreTimeout):
            await store.exchange(KEY, 1, Batch("a", 1, {"n": 3}))
    finally:
        server.resume()
    async with asyncio.timeout(10):
        while (await known(store)).sums != {"n": 3}:  # noqa: ASYNC110 (Redis tells nobody)
            await asyncio.sleep(0.001)
    assert (await store.exchange(KEY, 1, Batch("a", 1, {"n": 3}))).sums == {"n": 3}


async def test_without_a_connection_it_fails_at_once() -> None:
    async with connected_client("unix:///nowhere/at/all", connect_s=0.01) as lost:
        store = RedisCanaries(lost, prefix="x")
        with pytest.raises(StoreLost):
            await known(store)
        with pytest.raises(StoreLost):
            await store.audit("chat")
