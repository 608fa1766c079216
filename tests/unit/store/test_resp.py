"""The client on real Redis servers: replies, scripts, pauses, restarts, and a loop that is busy."""

import asyncio
import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from byte_servers import BOTH_LOOPS
from redis_faults import connected_client, until
from redis_servers import KINDS, RunningRedis, running_redis

from genkan.errors import StoreLost, StoreRefused, StoreTimeout
from genkan.store.resp import RespClient, Script, packed

pytestmark = pytest.mark.anyio


@pytest.fixture(params=BOTH_LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="module", params=KINDS)
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRedis]:
    """One that tests leave as it is."""
    with running_redis(request.param, tmp_path_factory.mktemp("redis")) as redis:
        yield redis


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RunningRedis]:
    """One to be stopped, killed and misused."""
    with running_redis("embedded", tmp_path) as running:
        yield running


async def test_replies_are_bytes_numbers_nothing_and_lists(shared: RunningRedis) -> None:
    async with connected_client(shared.url) as client:
        assert client.is_connected
        assert await client.call("SET", "a", b"\x00\r\n\xff") == b"OK"
        assert await client.call("GET", "a") == b"\x00\r\n\xff"
        assert await client.call("GET", "b") is None
        assert await client.call("INCRBY", "c", 7) == 7
        assert await client.call("MGET", "b", "c") == [None, b"7"]
        with pytest.raises(StoreRefused) as raised:
            await client.call("LPUSH", "a", 1)
        assert raised.value.code == "WRONGTYPE"
        assert await client.call("DEL", "a", "c") == 2


async def test_each_of_many_callers_gets_its_own_reply(shared: RunningRedis) -> None:
    async with connected_client(shared.url) as client:

        async def ask(caller: int) -> None:
            for number in range(50):
                assert await client.call("ECHO", f"{caller}:{number}") == f"{caller}:{number}".encode()

        await asyncio.gather(*(ask(caller) for caller in range(100)))


async def test_cancelled_callers_disturb_nobody(shared: RunningRedis) -> None:
    async with connected_client(shared.url) as client:

        async def ask(number: int) -> bytes:
            reply: bytes = await client.call("ECHO", number)
            return reply

        calls = [asyncio.ensure_future(ask(number)) for number in range(300)]
        for turn, call in enumerate(calls):
            if turn % 3 == 0:
                call.cancel()
            if turn % 7 == 0:
                await asyncio.sleep(0)
        replies = await asyncio.gather(*calls, return_exceptions=True)
        for number, reply in enumerate(replies):
            assert reply == str(number).encode() or isinstance(reply, asyncio.CancelledError)
        assert replies.count(b"299") == 1


async def test_a_pipeline_is_answered_in_order(shared: RunningRedis) -> None:
    async with connected_client(shared.url) as client:
        echo, wrong, last = await client.pipeline([packed("ECHO", 1), packed("NONSENSE"), packed("ECHO", 2)])
        assert (echo, last) == (b"1", b"2")
        assert isinstance(wrong, StoreRefused)


async def test_a_script_that_redis_does_not_know_is_told_and_run_once(shared: RunningRedis) -> None:
    script = Script.of("return {redis.call('INCR', KEYS[1]), ARGV[1]}")
    async with connected_client(shared.url) as client:
        await client.call("DEL", "runs")
        assert await client.run(script, ["runs"], ["x"]) == [1, b"x"]
        assert await client.run(script, ["runs"], [b"\xff"]) == [2, b"\xff"]
        await client.call("SCRIPT", "FLUSH")
        assert await client.run(script, ["runs"], [3]) == [3, b"3"]
        assert await client.call("SCRIPT", "LOAD", script.text) == script.sha.encode()


@pytest.mark.parametrize("text", ["this is no Lua", "return redis.call('NONSENSE')"])
async def test_a_script_that_fails_is_refused(shared: RunningRedis, text: str) -> None:
    async with connected_client(shared.url) as client:
        with pytest.raises(StoreRefused):
            await client.run(Script.of(text), [], [])
        assert await client.call("PING") == b"PONG"


async def test_databases_are_apart(shared: RunningRedis) -> None:
    async with connected_client(f"{shared.url}?db=3") as third, connected_client(shared.url) as first:
        await third.call("SET", "where", "third")
        assert await first.call("GET", "where") is None
        assert await third.call("GET", "where") == b"third"


async def test_a_database_that_is_not_there_is_none(shared: RunningRedis) -> None:
    async with connected_client(f"{shared.url}?db=999") as client:
        assert not client.is_connected


async def test_replies_that_were_read_leave_no_memory_behind(shared: RunningRedis) -> None:
    async with connected_client(shared.url) as client:
        await client.call("SET", "large", b"x" * 200_000)
        for _ in range(20):
            await client.call("GET", "large")
        before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(100):
            await asyncio.gather(*(client.call("GET", "large") for _ in range(5)))
        grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb
        assert grown_kb < 20_000  # of 100 MB that were read


async def test_a_busy_loop_is_not_taken_for_a_slow_redis(shared: RunningRedis) -> None:
    async with connected_client(shared.url, timeout_s=0.05) as client:
        calls = [asyncio.ensure_future(client.call("ECHO", number)) for number in range(20)]
        await asyncio.sleep(0)  # they begin
        await asyncio.sleep(0)  # they are written
        time.sleep(0.3)  # noqa: ASYNC251 (this is the loop being busy)
        assert await asyncio.gather(*calls) == [str(number).encode() for number in range(20)]
        assert client.is_connected


async def test_calls_that_the_loop_was_too_busy_to_write_lose_no_time(shared: RunningRedis) -> None:
    async with connected_client(shared.url, timeout_s=0.05) as client:
        call = asyncio.ensure_future(client.call("PING"))
        asyncio.get_running_loop().call_soon(time.sleep, 0.3)
        assert await call == b"PONG"


async def test_while_redis_is_paused_calls_time_out_then_fail_at_once_and_it_is_found_again(
    redis: RunningRedis,
) -> None:
    async with connected_client(redis.url, connect_s=0.1, timeout_s=0.05) as client:
        redis.pause()
        try:
            with pytest.raises(StoreTimeout):
                await client.call("INCR", "runs")
            failures = await asyncio.gather(*(client.call("PING") for _ in range(9)), return_exceptions=True)
            assert {type(failure) for failure in failures} == {StoreTimeout, StoreLost} or not client.is_connected
            assert not client.is_connected
            assert await seconds_to_fail(client) < 0.02
        finally:
            redis.resume()
        await until(lambda: client.is_connected)
        # Not sent again: what Redis had read before it was stopped is done once, and nothing else.
        assert await client.call("GET", "runs", timeout_s=2.0) == b"1"


async def seconds_to_fail(client: RespClient) -> float:
    began_s = time.monotonic()
    with pytest.raises(StoreLost):
        await client.call("PING")
    return time.monotonic() - began_s


async def test_a_redis_that_was_killed_is_found_again_and_known_to_be_another(redis: RunningRedis) -> None:
    told: list[bool] = []
    async with connected_client(redis.url, on_connected=told.append) as client:
        await until(lambda: told == [False])
        redis.kill()
        await until(lambda: not client.is_connected)
        assert await seconds_to_fail(client) < 0.02
        redis.start()
        await until(lambda: client.is_connected)
        assert await client.call("PING") == b"PONG"
        assert told == [False, True]


async def test_a_connection_that_redis_ended_is_made_again_with_the_same_redis(redis: RunningRedis) -> None:
    told: list[bool] = []
    async with connected_client(redis.url, on_connected=told.append) as client:
        async with connected_client(redis.url) as other:
            await other.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await until(lambda: told == [False, False])
        assert await client.call("PING") == b"PONG"


async def test_a_call_that_is_cut_off_is_lost_and_not_sent_again(redis: RunningRedis) -> None:
    async with connected_client(redis.url) as client, connected_client(redis.url) as other:
        waiting = asyncio.ensure_future(client.call("BLPOP", "list", 0))
        await asyncio.sleep(0)
        number = await client_waiting_in_blpop(other)
        await other.call("CLIENT", "KILL", "ID", number)
        with pytest.raises(StoreLost):
            await waiting
        await until(lambda: client.is_connected)
        await other.call("RPUSH", "list", "x")
        assert await client.call("LLEN", "list") == 1


async def client_waiting_in_blpop(other: RespClient) -> bytes:
    while True:
        for line in (await other.call("CLIENT", "LIST")).splitlines():
            if b"cmd=blpop" in line:
                return bytes(line.split()[0].partition(b"=")[2])


async def test_a_redis_that_became_a_replica_refuses_and_is_left(redis: RunningRedis) -> None:
    told: list[bool] = []
    async with connected_client(redis.url, on_connected=told.append) as client:
        await client.call("REPLICAOF", "127.0.0.1", 1)
        with pytest.raises(StoreRefused) as raised:
            await client.run(Script.of("return redis.call('SET', 'a', 1)"), [], [])
        assert "READONLY" in str(raised.value)
        await until(lambda: len(told) == 2)


async def test_what_still_waits_when_it_is_closed_is_lost(redis: RunningRedis) -> None:
    async with connected_client(redis.url) as client:
        waiting = asyncio.ensure_future(client.call("BLPOP", "list", 0))
        await asyncio.sleep(0)
        await client.aclose()
        with pytest.raises(StoreLost):
            await waiting
        with pytest.raises(StoreLost):
            await client.call("PING")


async def test_no_descriptor_is_left_open(shared: RunningRedis) -> None:
    async with connected_client(shared.url):
        pass
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        async with connected_client(shared.url) as client:
            await client.call("PING")
    await until(lambda: len(os.listdir("/proc/self/fd")) <= before)
