"""Flights of several workers that are one, over a real Redis, and each for itself without it."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest
from flight_asks import KEY, USAGE, Client, body_of, client, settled
from flight_asks import asked as request_of
from redis_faults import connected_client, until
from redis_servers import KINDS, RunningRedis, running_redis

from genkan.cache.sealer import Sealer
from genkan.errors import InvalidRequest, RequestError, StreamInterrupted, UpstreamFailed
from genkan.gateway.flight_message import Kind, Message
from genkan.gateway.flight_relay import FlightRelay
from genkan.gateway.flights import Flights
from genkan.store.address import parse_address
from genkan.store.resp import RespClient

pytestmark = pytest.mark.anyio

SILENCE_S = 0.3
PREFIX = "t"
LOCK = f"{PREFIX}:flight:{KEY.hex()}"


@pytest.fixture(scope="module", params=KINDS)
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRedis]:
    with running_redis(request.param, tmp_path_factory.mktemp("redis")) as redis:
        yield redis


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RunningRedis]:
    with running_redis("embedded", tmp_path) as running:
        yield running


class Worker:
    """One worker's flights, and its connections."""

    def __init__(self, redis: RespClient, relay: FlightRelay) -> None:
        self.redis = redis
        self.relay = relay
        self.flights = Flights(relay)

    def client(self, *, stream: bool = True, include_usage: bool = False) -> Client:
        return client(self.flights, request_of(stream=stream, include_usage=include_usage))

    @property
    def is_idle(self) -> bool:
        return self.relay.is_idle and self.flights.count == 0


@asynccontextmanager
async def worker(redis: RunningRedis, *, secret: bytes = b"s" * 32) -> AsyncGenerator[Worker, None]:
    """At its end nothing may be left."""
    async with connected_client(redis.url, timeout_s=0.5) as connection:
        relay = FlightRelay(
            connection,
            parse_address(redis.url),
            Sealer(secret, encrypt=False),
            prefix=PREFIX,
            connect_s=0.25,
            timeout_s=0.5,
            silence_s=SILENCE_S,
        )
        one = Worker(connection, relay)
        await one.flights.start()
        try:
            yield one
            await until(lambda: one.is_idle)
        finally:
            await one.flights.aclose()


@asynccontextmanager
async def two_workers(redis: RunningRedis) -> AsyncGenerator[tuple[Worker, Worker], None]:
    async with worker(redis) as one, worker(redis) as other:
        yield one, other
        await until(lambda: one.is_idle and other.is_idle)
        assert await one.redis.call("EXISTS", LOCK) == 0


async def done(*clients: Client) -> None:
    await until(lambda: all(one.task.done() for one in clients))


async def begun(one: Worker) -> Client:
    """A client of it, that has been asked for."""
    first = one.client()
    await until(lambda: first.line.was_asked)
    return first


async def test_two_workers_ask_once(shared: RunningRedis) -> None:
    async with two_workers(shared) as (one, other):
        first = await begun(one)
        first.line.say("a")
        stream, usage, whole = other.client(), other.client(include_usage=True), other.client(stream=False)
        await until(lambda: stream.payloads)
        first.line.say("b")
        await until(lambda: len(stream.payloads) == 2)  # live
        first.line.finish()
        await done(first, stream, usage, whole)
        assert [each.text for each in (first, stream, usage, whole)] == ["ab"] * 4
        assert [each.is_leader for each in (first, stream, usage, whole)] == [True, False, False, False]
        assert not any(each.line.was_asked for each in (stream, usage, whole))
        assert stream.deployment == whole.deployment == "m@up"
        assert stream.usage == whole.usage == USAGE
        assert orjson.loads(usage.payloads[-1])["usage"]["cached"] is True
        assert len(first.completed) == 1
        assert not stream.completed


async def test_a_hundred_ask_once(shared: RunningRedis) -> None:
    async with two_workers(shared) as (one, other):
        clients = [each.client(stream=n % 2 == 0) for n in range(50) for each in (one, other)]
        while not (asked := [each for each in clients if each.line.was_asked]):
            await settled(1)
        await until(lambda: one.relay._broadcasts or other.relay._broadcasts)
        asked[0].line.say("a")
        clients += [each.client(stream=n % 2 == 0) for n in range(5) for each in (one, other)]
        await settled()
        asked[0].line.finish()
        await done(*clients)
        assert [each.text for each in clients] == ["a"] * 110
        assert sum(each.line.was_asked for each in clients) == 1


async def test_a_whole_answer_goes_over_in_pieces(shared: RunningRedis) -> None:
    async with two_workers(shared) as (one, other):
        first = one.client(stream=False)
        await until(lambda: first.line.was_asked)
        whole, stream = other.client(stream=False), other.client()
        await until(lambda: one.relay._broadcasts)
        text = "word " * 30_000
        first.line.said.put_nowait(body_of(text))
        await done(first, whole, stream)
        assert first.text == whole.text == stream.text == text


async def test_a_lasting_error_is_told_to_all_workers(shared: RunningRedis) -> None:
    async with two_workers(shared) as (one, other):
        first = await begun(one)
        stream, whole = other.client(), other.client(stream=False)
        await until(lambda: one.relay._broadcasts)
        first.line.fail(InvalidRequest("no such thing", param="x"))
        await done(first, stream, whole)
        for each in (stream, whole):
            assert isinstance(each.error, RequestError)
            assert (each.error.status, each.error.message, each.error.param) == (400, "no such thing", "x")
            assert not each.line.was_asked


async def test_after_bad_luck_another_worker_asks(shared: RunningRedis) -> None:
    async with two_workers(shared) as (one, other):
        first = await begun(one)
        second, third = other.client(), other.client(stream=False)
        await until(lambda: one.relay._broadcasts)
        first.line.fail(UpstreamFailed(upstream="up", status_there=500))
        await until(lambda: second.line.was_asked)
        second.line.say("a")
        second.line.finish()
        await done(first, second, third)
        assert isinstance(first.error, UpstreamFailed)
        assert second.text == third.text == "a"
        assert not third.line.was_asked


async def test_when_a_whole_worker_has_left_the_other_goes_on(shared: RunningRedis) -> None:
    async with two_workers(shared) as (one, other):
        first = await begun(one)
        follower = other.client()
        first.line.say("a")
        await until(lambda: follower.payloads)
        await first.leave()
        assert first.line.is_open
        first.line.say("b")
        first.line.finish()
        await done(follower)
        assert follower.text == "ab"


async def test_when_all_have_left_everywhere_it_is_cancelled(shared: RunningRedis) -> None:
    async with two_workers(shared) as (one, other):
        first = await begun(one)
        follower = other.client()
        first.line.say("a")
        await until(lambda: follower.payloads)
        await first.leave()
        await follower.leave()
        await until(lambda: not first.line.is_open)
        assert first.line.was_cancelled
        assert first.line.closes == 1


async def test_a_silence_of_the_upstream_is_none_of_the_leader(shared: RunningRedis) -> None:
    async with two_workers(shared) as (one, other):
        first = await begun(one)
        follower = other.client()
        await until(lambda: one.relay._broadcasts)
        (inbox,) = other.relay._inboxes.values()
        await until(lambda: inbox._number > 6)  # alive, for more than two silences
        assert not follower.line.was_asked
        first.line.say("a")
        first.line.finish()
        await done(first, follower)
        assert follower.text == "a"


async def test_a_worker_that_stops_hands_over(shared: RunningRedis) -> None:
    async with worker(shared) as other:
        async with worker(shared) as one:
            first = await begun(one)
            follower = other.client()
            await until(lambda: one.relay._broadcasts)
            await one.flights.aclose()
            await done(first)
        await until(lambda: follower.line.was_asked)
        follower.line.say("a")
        follower.line.finish()
        await done(follower)
        assert follower.text == "a"


async def test_a_worker_that_stops_is_no_bad_luck(shared: RunningRedis) -> None:
    async with worker(shared) as other:
        async with worker(shared) as one:
            await begun(one)
            first, second = other.client(), other.client()
            await until(lambda: one.relay._broadcasts)
            await one.flights.aclose()
        await until(lambda: first.line.was_asked)
        first.line.fail(UpstreamFailed(upstream="up", status_there=500))
        await until(lambda: second.line.was_asked)
        second.line.say("a")
        second.line.finish()
        await done(first, second)
        assert second.text == "a"


async def test_what_was_lost_on_the_way_is_asked_for_again(shared: RunningRedis) -> None:
    async with two_workers(shared) as (one, other):
        first = await begun(one)
        stream, whole = other.client(), other.client(stream=False)
        first.line.say("a")
        await until(lambda: stream.payloads)
        (inbox,) = other.relay._inboxes.values()
        inbox._number -= 1  # what comes next is not the one that is due
        first.line.say("b")
        await done(stream)
        assert isinstance(stream.error, StreamInterrupted)
        assert stream.text == "a"
        await until(lambda: other.relay._inboxes)
        first.line.finish()
        await done(first, whole)
        assert whole.text == "ab"
        assert not whole.line.was_asked


async def test_a_lock_whose_holder_does_not_listen_is_taken_over_at_once(shared: RunningRedis) -> None:
    async with worker(shared) as one:
        await one.redis.call("SET", LOCK, "f" * 24, "PX", 60_000)
        first = await begun(one)
        first.line.say("a")
        first.line.finish()
        await done(first)
        await until(lambda: one.is_idle)
        assert await one.redis.call("EXISTS", LOCK) == 0


async def test_one_that_listens_and_says_nothing_is_not_waited_for_for_long(shared: RunningRedis) -> None:
    """Such as one that hangs; or another secret, with which nothing that is said can be read."""
    async with worker(shared) as one, worker(shared, secret=b"t" * 32) as stranger:
        first = await begun(stranger)
        other = await begun(one)
        for each in (first, other):
            each.line.say("a")
            each.line.finish()
        await done(first, other)
        assert first.text == other.text == "a"


async def test_a_lock_is_renewed_while_it_flies(shared: RunningRedis) -> None:
    async with two_workers(shared) as (one, other):
        first = await begun(one)
        assert 0 < await one.redis.call("PTTL", LOCK) <= 3000
        await one.redis.call("PEXPIRE", LOCK, 10_000)
        await one.redis.call("DEL", LOCK)  # as an eviction does
        while (holder := await one.redis.call("GET", LOCK)) is None:
            await settled()
        assert holder.decode().startswith(one.relay.worker)
        follower = other.client()
        await until(lambda: one.relay._broadcasts)
        first.line.say("a")
        first.line.finish()
        await done(first, follower)


async def test_without_time_for_redis_it_is_not_asked(shared: RunningRedis) -> None:
    async with two_workers(shared) as (one, other):
        clients = [client(each.flights, timeout_s=0.0) for each in (one, other)]
        await settled()
        assert all(each.line.was_asked for each in clients)
        assert await one.redis.call("EXISTS", LOCK) == 0
        for each in clients:
            each.line.say("a")
            each.line.finish()
        await done(*clients)


async def test_nobody_can_make_a_message_up(shared: RunningRedis) -> None:
    async with two_workers(shared) as (one, other):
        first = await begun(one)
        follower = other.client()
        await until(lambda: other.relay._inboxes)
        (inbox,) = other.relay._inboxes.values()
        forged = Message(Kind.END, KEY, one.relay.worker, inbox.following, inbox._number, b'["x","y",null]')
        channel = f"{PREFIX}:flights:{other.relay.worker}"
        for data in (forged.sealed(Sealer(b"guess" * 8, encrypt=False)), b"", b"1e" + bytes(200)):
            assert await one.redis.call("PUBLISH", channel, data) == 1
        first.line.say("a")
        first.line.finish()
        await done(first, follower)
        assert follower.text == "a"


async def test_without_redis_each_flies_by_itself(redis: RunningRedis) -> None:
    async with worker(redis) as one, worker(redis) as other:
        redis.kill()
        await until(lambda: not one.redis.is_connected and not other.redis.is_connected)
        clients = [one.client(), other.client(), other.client()]
        await settled()
        assert [each.line.was_asked for each in clients] == [True, True, False]
        for each in clients[:2]:
            each.line.say("a")
            each.line.finish()
        await done(*clients)
        assert [each.text for each in clients] == ["a"] * 3


async def test_a_redis_that_hangs_costs_the_time_that_it_may_take(redis: RunningRedis) -> None:
    async with worker(redis) as one:
        redis.pause()
        first = await begun(one)
        first.line.say("a")
        first.line.finish()
        await done(first)
        assert first.text == "a"
        redis.resume()


async def test_who_leaves_while_the_lock_is_asked_for_does_not_keep_it(redis: RunningRedis) -> None:
    async with worker(redis) as one:
        await (await begun(one)).leave()  # from now on Redis knows the script
        await until(lambda: one.is_idle)
        redis.pause()
        first = one.client()
        await settled()
        await first.leave()
        redis.resume()
        assert not first.line.was_asked
        await until(lambda: one.is_idle)
        assert await one.redis.call("EXISTS", LOCK) == 0


async def test_who_leaves_while_another_worker_is_asked_to_tell_is_not_told(shared: RunningRedis) -> None:
    async with two_workers(shared) as (one, other):
        first = await begun(one)
        for turns in range(0, 60, 3):
            follower = other.client()
            await settled(turns)
            await follower.leave()
            await until(lambda: other.is_idle)
        await until(lambda: not one.relay._broadcasts)
        first.line.say("a")
        first.line.finish()
        await done(first)
        assert first.text == "a"


async def test_redis_lost_in_midst_of_it(redis: RunningRedis) -> None:
    async with worker(redis) as one, worker(redis) as other:
        first = await begun(one)
        stream, whole = other.client(), other.client(stream=False)
        first.line.say("a")
        await until(lambda: stream.payloads)
        redis.kill()
        await done(stream)
        assert isinstance(stream.error, StreamInterrupted)
        await until(lambda: whole.line.was_asked)
        whole.line.said.put_nowait(body_of("b"))
        first.line.finish()
        await done(first, whole)
        assert (first.text, whole.text) == ("a", "b")
