"""Stored answers, wherever they are kept."""

import asyncio

import pytest
from hand_clock import HandClock
from redis_faults import connected_client

from genkan.errors import StoreError, StoreRefused
from genkan.store.answers import Answers
from genkan.store.memory_answers import MemoryAnswers
from genkan.store.redis_answers import RedisAnswers
from genkan.store.resp import RespClient

pytestmark = pytest.mark.anyio
KEY, OTHER = b"k" * 16, b"\x00\xff" * 8
EPOCHS = ("all", "t:a", "r:x")
PREFIX = "genkan-test"
KEPT = f"{PREFIX}:answer:{KEY.hex()}"
S = 5.0  # a timeout that only a broken server reaches


@pytest.fixture
def answers(client: RespClient | None) -> Answers:
    if client is None:
        return MemoryAnswers(HandClock(), limit_bytes=1 << 20)
    return RedisAnswers(client, prefix=PREFIX)


async def test_what_was_put_is_found(answers: Answers) -> None:
    before = await answers.look(KEY, EPOCHS, timeout_s=S)
    assert before.value is None
    value = bytes(range(256)) * 50
    await answers.put(KEY, value, ttl_s=60)
    assert await answers.look(KEY, EPOCHS, timeout_s=S) == (value, before.epochs)
    assert (await answers.look(OTHER, EPOCHS, timeout_s=S)).value is None


async def test_what_was_put_last_is_there(answers: Answers) -> None:
    await answers.look(KEY, EPOCHS, timeout_s=S)
    await answers.put(KEY, b"one", ttl_s=60)
    await answers.put(KEY, b"two", ttl_s=60)
    assert (await answers.look(KEY, EPOCHS, timeout_s=S)).value == b"two"


async def test_what_looks_after_a_put_finds_it(answers: Answers) -> None:
    await answers.look(KEY, EPOCHS, timeout_s=S)
    put = answers.put(KEY, b"x", ttl_s=60)  # not awaited
    assert (await answers.look(KEY, EPOCHS, timeout_s=S)).value == b"x"
    await put


async def test_a_look_may_be_left(answers: Answers) -> None:
    answers.look(KEY, EPOCHS, timeout_s=S)
    await answers.put(KEY, b"x", ttl_s=60)
    assert (await answers.look(KEY, EPOCHS, timeout_s=S)).epochs


async def test_a_purge_begins_another_epoch_of_that_name(answers: Answers) -> None:
    seen = {(await answers.look(KEY, EPOCHS, timeout_s=S)).epochs}
    for name in EPOCHS:
        others = (await answers.look(KEY, [each for each in EPOCHS if each != name], timeout_s=S)).epochs
        await answers.purge(name)
        seen.add((await answers.look(KEY, EPOCHS, timeout_s=S)).epochs)
        assert (await answers.look(KEY, [each for each in EPOCHS if each != name], timeout_s=S)).epochs == others
    await answers.purge("t:another")
    seen.add((await answers.look(KEY, EPOCHS, timeout_s=S)).epochs)
    assert len(seen) == 4


async def test_all_who_look_see_one_epoch(answers: Answers) -> None:
    looked = await asyncio.gather(*(answers.look(KEY, EPOCHS, timeout_s=S) for _ in range(20)))
    assert len({each.epochs for each in looked}) == 1


async def test_what_is_kept_is_counted(answers: Answers) -> None:
    assert await answers.statistics() == (0, 0, True)
    await answers.look(KEY, EPOCHS, timeout_s=S)
    await answers.put(KEY, b"12345", ttl_s=60)
    await answers.put(OTHER, b"678", ttl_s=60)
    assert await answers.statistics() == (2, 8, True)


async def test_in_redis_it_runs_out_by_itself(answers: Answers, client: RespClient | None) -> None:
    if client is None:
        pytest.skip("for answers in Redis")
    await answers.put(KEY, b"x", ttl_s=60)
    assert 50_000 < await client.call("PTTL", KEPT) <= 60_000
    await answers.look(KEY, EPOCHS, timeout_s=S)
    assert await client.call("TTL", f"{PREFIX}:answer-epoch:all") > 30 * 86_400


async def test_a_lost_epoch_never_comes_back(answers: Answers, client: RespClient | None) -> None:
    if client is None:
        pytest.skip("for answers in Redis")
    before = (await answers.look(KEY, EPOCHS, timeout_s=S)).epochs
    await answers.put(KEY, b"x", ttl_s=60)
    assert await client.call("DEL", f"{PREFIX}:answer-epoch:t:a") == 1
    after = await answers.look(KEY, EPOCHS, timeout_s=S)
    assert after.value is None  # it cannot be of an epoch that has just begun
    assert after.epochs != before
    assert await answers.look(KEY, EPOCHS, timeout_s=S) == (b"x", after.epochs)


async def test_another_type_under_its_keys_is_no_value(answers: Answers, client: RespClient | None) -> None:
    if client is None:
        pytest.skip("for answers in Redis")
    await answers.look(KEY, EPOCHS, timeout_s=S)
    await client.call("LPUSH", KEPT, "x")
    assert (await answers.look(KEY, EPOCHS, timeout_s=S)).value is None
    await client.call("DEL", f"{PREFIX}:answer-epoch:all")
    await client.call("LPUSH", f"{PREFIX}:answer-epoch:all", "x")
    with pytest.raises(StoreRefused, match="WRONGTYPE"):
        await answers.look(KEY, EPOCHS, timeout_s=S)


async def test_without_a_connection_it_fails_at_once() -> None:
    async with connected_client("unix:///nowhere/at/all", connect_s=0.01) as lost:
        answers = RedisAnswers(lost, prefix="x")
        with pytest.raises(StoreError):
            await answers.look(KEY, EPOCHS, timeout_s=S)
        with pytest.raises(StoreError):
            await answers.put(KEY, b"x", ttl_s=1)
        with pytest.raises(StoreError):
            await answers.purge("all")
