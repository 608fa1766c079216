import logging
from pathlib import Path

import pytest
from redis_servers import running_redis

from genkan.store.address import parse_address
from genkan.store.eviction import EvictionCheck, evicting_policy
from genkan.store.resp import RespClient


@pytest.mark.parametrize(
    ("info", "policy"),
    [
        (b"# Memory\r\nmaxmemory:4194304\r\nmaxmemory_policy:volatile-lru\r\n", "volatile-lru"),
        (b"maxmemory:4194304\r\nmaxmemory_policy:noeviction\r\n", None),
        (b"maxmemory:0\r\nmaxmemory_human:0B\r\nmaxmemory_policy:allkeys-lfu\r\n", None),
        (b"maxmemory_policy:allkeys-lru\r\n", None),
        (b"", None),
    ],
)
def test_what_info_says(info: bytes, policy: str | None) -> None:
    assert evicting_policy(info) == policy


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]


@pytest.mark.anyio
async def test_a_redis_that_evicts_is_told_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with running_redis("embedded", tmp_path, "--maxmemory-policy", "volatile-lru") as redis:
        address = parse_address(redis.url)
        client = RespClient(address, connect_s=5.0, timeout_s=5.0)
        check = EvictionCheck(client, address)
        await check.run()  # it is not connected yet
        await client.start()
        await check.run()  # it has all the memory it wants
        assert told(caplog) == []
        await client.call("CONFIG", "SET", "maxmemory", "8mb")
        for _ in range(2):
            await check.run()
        assert len(told(caplog)) == 1
        assert "volatile-lru" in told(caplog)[0]
        await client.aclose()


@pytest.mark.anyio
async def test_a_redis_that_does_not_say_is_believed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with running_redis("embedded", tmp_path, "--maxmemory", "8mb", "--maxmemory-policy", "allkeys-lru") as redis:
        address = parse_address(redis.url)
        client = RespClient(address, connect_s=5.0, timeout_s=5.0)
        await client.start()
        await client.call("ACL", "SETUSER", "default", "-info")
        await EvictionCheck(client, address).run()
        await client.aclose()
    assert told(caplog) == []
