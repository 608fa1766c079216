"""The accounts that every contract test is run against."""

from collections.abc import AsyncGenerator, Generator

import pytest
from account_rigs import MemoryRig, RedisRig, Rig
from redis_faults import connected_client
from redis_servers import KINDS, RunningRedis, running_redis

from genkan.store.resp import RespClient


@pytest.fixture(scope="module", params=["memory", *KINDS])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Generator[RunningRedis | None, None, None]:
    """A Redis of each kind; None for accounts that need none."""
    if request.param == "memory":
        yield None
        return
    with running_redis(request.param, tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
async def client(server: RunningRedis | None) -> AsyncGenerator[RespClient | None, None]:
    """For what is kept in Redis besides accounts; it is empty at first."""
    if server is None:
        yield None
        return
    async with connected_client(server.url) as connected:
        await connected.call("FLUSHALL")
        yield connected


@pytest.fixture
async def rig(server: RunningRedis | None) -> AsyncGenerator[Rig, None]:
    if server is None:
        yield MemoryRig()
        return
    on_redis = RedisRig(server.url)
    await on_redis.start()
    yield on_redis
    await on_redis.aclose()


@pytest.fixture
def redis(rig: Rig) -> RedisRig:
    """For what can only happen in Redis."""
    if not isinstance(rig, RedisRig):
        pytest.skip("for accounts in Redis")
    return rig
