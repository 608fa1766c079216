"""Listening to a channel, and finding it again."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from byte_servers import BOTH_LOOPS
from redis_faults import connected_client, until
from redis_servers import RunningRedis, running_redis

from genkan.store import subscription as subscription_module
from genkan.store.address import parse_address
from genkan.store.subscription import Subscription

pytestmark = pytest.mark.anyio


@pytest.fixture(params=BOTH_LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RunningRedis]:
    with running_redis("embedded", tmp_path) as running:
        yield running


class Listener:
    """A subscription to ``news``, and what came of it."""

    def __init__(self, redis: RunningRedis, *, connect_s: float = 2.0) -> None:
        self.heard: list[bytes] = []
        self.joined: list[bool] = []
        self.subscription = Subscription(
            parse_address(redis.url),
            "news",
            connect_s=connect_s,
            timeout_s=0.1,
            on_message=self.heard.append,
            on_connected=self.joined.append,
        )

    async def __aenter__(self) -> "Listener":
        await self.subscription.start()
        return self

    async def __aexit__(self, *_raised: object) -> None:
        await self.subscription.aclose()


async def test_messages_come_in_order_and_those_of_other_channels_do_not(redis: RunningRedis) -> None:
    async with connected_client(redis.url) as client, Listener(redis) as listener:
        assert listener.subscription.is_connected
        for number in range(100):
            await client.call("PUBLISH", "news", number)
            await client.call("PUBLISH", "gossip", number)
        await until(lambda: len(listener.heard) == 100)
        assert listener.heard == [str(number).encode() for number in range(100)]


async def test_after_a_restart_it_listens_again_and_says_so(redis: RunningRedis) -> None:
    async with Listener(redis) as listener:
        await until(lambda: listener.joined == [False])
        redis.restart()
        await until(lambda: listener.joined == [False, True])
        async with connected_client(redis.url) as client:
            assert await client.call("PUBLISH", "news", "x") == 1
        await until(lambda: listener.heard == [b"x"])


async def test_a_redis_that_went_silent_is_noticed_though_nobody_speaks(
    redis: RunningRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription_module, "PING_EVERY_S", 0.05)
    async with Listener(redis, connect_s=0.2) as listener:
        redis.pause()
        try:
            await until(lambda: not listener.subscription.is_connected)
        finally:
            redis.resume()
        await until(lambda: listener.joined == [False, False])


async def test_a_quiet_channel_keeps_its_connection(redis: RunningRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscription_module, "PING_EVERY_S", 0.005)
    async with Listener(redis) as listener, connected_client(redis.url) as client:
        while b"cmdstat_ping:calls=2" not in await client.call("INFO", "commandstats"):
            pass  # until it was asked 20 times and more
        assert listener.joined == [False]
        assert listener.heard == []


async def test_the_log_hears_only_that_listening_is_refused(
    redis: RunningRedis, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected_client(redis.url) as client, Listener(redis) as listener:
        await client.call("ACL", "SETUSER", "default", "resetchannels")
        await client.call("CLIENT", "KILL", "TYPE", "pubsub")
        await until(lambda: caplog.records)
        assert "NOPERM" in caplog.text
        await client.call("ACL", "SETUSER", "default", "allchannels")
        await until(lambda: listener.subscription.is_connected)
        caplog.clear()
        await client.call("CLIENT", "KILL", "TYPE", "pubsub")
        await until(lambda: len(listener.joined) == 3)
        assert caplog.records == []


async def test_a_closed_one_hears_nothing_more(redis: RunningRedis) -> None:
    async with connected_client(redis.url) as client:
        async with Listener(redis) as listener:
            pass
        while await client.call("PUBLISH", "news", "x"):
            pass  # until Redis has noticed
        assert listener.heard == []
        assert not listener.subscription.is_connected
