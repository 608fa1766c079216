"""The accounts that every contract test is run against."""

from collections.abc import AsyncGenerator, Generator

import pytest
from account_rigs import MemoryRig, RedisRig, Rig
from redis_servers import KINDS, RunningRedis, running_redis


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
