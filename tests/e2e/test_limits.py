"""Limits over two workers of a real server: exact, told to clients, and gone when nobody needs them any more."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Generator
from contextlib import suppress
from typing import Any

import openai
import pytest
from e2e.counting_gateway import (
    PATIENT,
    SOON_S,
    TOKENS,
    WORKERS,
    CountingGateway,
    Key,
    model,
    running_counting_gateway,
)
from e2e.crowd import Reply, Talk, chat
from e2e.live_server import wait_until
from e2e.redis_watch import most_within, watching
from e2e.worker_connections import connections
from faults.canonical import TEXT

CROWD, LIMIT, RUNS = 200, 50, 10
LEASE_S = 2.0
#: What the upstream of these models allows us.
METERED = {"requests": {"limit": 5, "window_s": 0.5, "algorithm": "sliding_window"}}
NARROW = {"requests": {"limit": 1, "window_s": 60.0, "algorithm": "sliding_window"}}
SIX = {f"x-ratelimit-{what}-{unit}" for what in ("limit", "remaining", "reset") for unit in ("requests", "tokens")}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Generator[CountingGateway, None, None]:
    models = [
        model("ok"),
        model("slow", "slow-ok"),
        model("broken", "500-for-ever"),
        model("metered", limits=METERED),
        model("narrow", limits=NARROW, limit_wait_s=0.2),
        model("narrow-alone", limits=NARROW, limit_wait_s=0.2),
    ]
    with running_counting_gateway(
        tmp_path_factory.mktemp("limits"),
        redis_settings=PATIENT,
        models=models,
        routes=[{"alias": "narrow-then-ok", "chain": ["narrow", "ok"]}],
        limits={"lease_s": LEASE_S},
    ) as gateway:
        yield gateway


def requests(limit: int, window_s: float = 60.0, algorithm: str = "sliding_window") -> dict[str, Any]:
    return {"limits": {"requests": {"limit": limit, "window_s": window_s, "algorithm": algorithm}}}


def statuses(replies: list[Reply]) -> Counter[int]:
    return Counter(reply.status for reply in replies)


def test_of_200_clients_50_get_into_a_sliding_window(gateway: CountingGateway) -> None:
    workers = Counter[int]()
    for key in gateway.keys(*[requests(LIMIT)] * RUNS):
        gateway.upstream.reset()
        replies = gateway.race([chat(key.secret)] * CROWD, workers)
        assert statuses(replies) == {200: LIMIT, 429: CROWD - LIMIT}
        left = sorted(int(reply.headers["x-ratelimit-remaining-requests"]) for reply in replies if reply.status == 200)
        assert left == list(range(LIMIT))
        assert len(gateway.upstream.attempts()) == LIMIT  # who is refused costs it nothing
        assert gateway.limit(f"key {key.id}")["used"] == LIMIT
    # Both took part, or it would prove little.
    assert len(workers) == WORKERS
    assert min(workers.values()) > CROWD * RUNS / 10


def test_of_200_clients_50_get_out_of_a_bucket_and_what_was_refilled_meanwhile(gateway: CountingGateway) -> None:
    window_s = 0.5
    per_us = window_s * 1e6 / LIMIT
    for key in gateway.keys(*[requests(LIMIT, window_s, "token_bucket")] * RUNS):
        with watching(gateway.redis_url) as watch:
            admitted = statuses(gateway.race([chat(key.secret)] * CROWD))[200]
        drawn_us = watch.written(f"genkan:gcra:k:{key.id}:requests:bucket")
        assert len(drawn_us) == admitted >= LIMIT
        # So for any beginning and any end, and not only for the first and the last.
        for first, began_us in enumerate(drawn_us):
            for last, ended_us in enumerate(drawn_us[first:], first):
                assert last - first + 1 <= LIMIT + int((ended_us - began_us) / per_us)


def test_in_no_window_are_there_more_than_its_limit_wherever_it_begins(gateway: CountingGateway) -> None:
    window_s = 0.3
    key = gateway.key(**requests(LIMIT, window_s))
    window = f"genkan:window:k:{key.id}:requests:window"
    with watching(gateway.redis_url) as watch:
        admitted = asyncio.run(come_again(gateway.port, key, windows=RUNS, window_s=window_s))
    taken = watch.taken(window)
    assert {request_id for _, request_id in taken} == set(admitted)
    assert len(taken) == len(admitted) > LIMIT * (RUNS - 1)
    assert most_within([at_us for at_us, _ in taken], window_s) == LIMIT


async def come_again(port: int, key: Key, *, windows: int, window_s: float) -> list[str]:
    """The ids of those admitted, when 200 clients come again as soon as they are told to; for so many windows."""
    admitted: list[str] = []

    async def client() -> None:
        talk = await Talk.open(port)
        while len(admitted) < LIMIT * windows:
            reply = await talk.ask(chat(key.secret))
            if reply.status == 200:
                admitted.append(reply.headers["x-request-id"])
            else:
                assert reply.status == 429
                assert 0 < reply.retry_s <= window_s
                await asyncio.sleep(reply.retry_s)
        await talk.aclose()

    await asyncio.gather(*(client() for _ in range(CROWD)))
    return admitted


@pytest.mark.parametrize("algorithm", ["sliding_window", "token_bucket"])
def test_tokens_are_reserved_for_all_that_are_under_way_and_then_are_what_they_were(
    gateway: CountingGateway, algorithm: str
) -> None:
    limit = 1000
    key = gateway.key(limits={"tokens": {"limit": limit, "window_s": 3600.0, "algorithm": algorithm}})
    replies = gateway.race([chat(key.secret)] * CROWD)
    gateway.wait_settled()
    admitted = statuses(replies)[200]
    # An estimate has the answer's 60 and some of the prompt: each holds at least 61, before it is known and after.
    assert 0 < admitted <= limit // 61
    refilled = limit * SOON_S / 3600.0 if algorithm == "token_bucket" else 0
    used = gateway.limit(f"key {key.id}", "tokens")["used"]
    assert TOKENS * admitted - refilled <= used <= TOKENS * admitted
    # What was reserved and not used is there for others.
    while gateway.ask(chat(key.secret)).status == 200:
        admitted += 1
    assert admitted >= (limit - 2 * TOKENS) // TOKENS


def test_no_more_are_at_the_upstream_at_once_than_a_key_may_have(gateway: CountingGateway) -> None:
    at_once, wanted = 8, 80
    key = gateway.key(limits={"concurrent": at_once})
    gateway.upstream.reset()
    asyncio.run(until_answered(gateway.port, key, wanted))
    attempts = gateway.upstream.attempts()
    assert len(attempts) == wanted
    changes = sorted([(one["began_at_s"], 1) for one in attempts] + [(one["ended_at_s"], -1) for one in attempts])
    there, most = 0, 0
    for _, change in changes:
        there += change
        most = max(most, there)
    assert most == at_once
    wait_until(lambda: gateway.limit(f"key {key.id}")["used"] == 0, SOON_S, "all is given back")


async def until_answered(port: int, key: Key, wanted: int) -> None:
    """Forty clients, half of them with streams, that ask until they have so many answers together."""
    left = wanted

    async def client(*, stream: bool) -> None:
        nonlocal left
        talk = await Talk.open(port)
        while left > 0:
            left -= 1
            reply = await talk.ask(chat(key.secret, "slow", x_delay_ms=1, stream=stream))
            if reply.status == 429:
                left += 1
                assert reply.headers["retry-after"] == "1" or float(reply.headers["retry-after"]) <= LEASE_S
                await asyncio.sleep(0.02)
            else:
                assert reply.status == 200
        await talk.aclose()

    await asyncio.gather(*(client(stream=number % 2 == 0) for number in range(40)))


def test_six_headers_are_on_every_answer(gateway: CountingGateway) -> None:
    limits = {"requests": {"limit": 4}, "tokens": {"limit": 1000, "algorithm": "sliding_window"}}
    key = gateway.key(limits=limits)
    asked = [
        (chat(key.secret), 200),
        (chat(key.secret, stream=True), 200),
        (chat(key.secret, "broken"), 502),
        (too_long(key), 400),
        (chat(key.secret), 200),
        (chat(key.secret), 429),
    ]
    for place, (request, status) in enumerate(asked):
        reply = gateway.ask(request)
        assert reply.status == status, (place, reply)
        assert reply.headers.keys() >= SIX, place
        assert (reply.headers["x-ratelimit-limit-requests"], reply.headers["x-ratelimit-limit-tokens"]) == ("4", "1000")
    assert reply.headers["x-ratelimit-remaining-requests"] == "0"
    assert 0 < int(reply.headers["x-ratelimit-remaining-tokens"]) < 1000 - TOKENS
    assert 0 < reply.retry_s <= 60.0 / 4
    assert int(reply.headers["retry-after"]) == -(-int(reply.headers["retry-after-ms"]) // 1000)


def test_what_can_never_fit_is_refused_for_good(gateway: CountingGateway) -> None:
    key = gateway.key(limits={"tokens": {"limit": 100}})
    gateway.upstream.reset()
    reply = gateway.ask(too_long(key))
    assert (reply.status, reply.code) == (400, "request_exceeds_limit")
    assert reply.headers["x-should-retry"] == "false"
    assert "retry-after" not in reply.headers
    assert gateway.limit(f"key {key.id}", "tokens")["used"] == 0
    assert gateway.ask(chat(key.secret)).status == 200
    assert len(gateway.upstream.attempts()) == 1


def too_long(key: Key) -> bytes:
    """Whose prompt is more tokens than any limit here, by any estimate."""
    return chat(key.secret, messages=[{"role": "user", "content": "Count. " * 10_000}])


def test_openais_client_raises_rate_limit_error_and_comes_again_when_it_is_told_to(gateway: CountingGateway) -> None:
    slow, quick = gateway.keys(requests(1, 60.0), requests(1, 0.5))
    question: Any = {"model": "ok", "messages": [{"role": "user", "content": "Count."}]}
    with client(gateway, slow, max_retries=0) as sdk:
        sdk.chat.completions.create(**question)
        with pytest.raises(openai.RateLimitError) as caught:
            sdk.chat.completions.create(**question)
    assert (caught.value.code, caught.value.type) == ("rate_limit_exceeded", "requests")
    assert 0 < int(caught.value.response.headers["retry-after-ms"]) <= 60_000
    with client(gateway, quick, max_retries=2) as sdk:
        began_s = time.monotonic()
        for _ in range(3):
            assert sdk.chat.completions.create(**question).choices[0].message.content == TEXT
        assert time.monotonic() - began_s >= 2 * 0.5 - 0.05


def client(gateway: CountingGateway, key: Key, *, max_retries: int) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{gateway.server.base_url}/v1", api_key=key.secret, max_retries=max_retries, timeout=SOON_S
    )


def test_what_an_upstream_allows_us_is_waited_for(gateway: CountingGateway) -> None:
    key = gateway.key()
    with watching(gateway.redis_url) as watch:
        assert statuses(gateway.race([chat(key.secret, "metered")] * 14)) == {200: 14}
    taken = watch.taken("genkan:window:d:metered@there:requests:window")
    assert len(taken) == 14
    assert most_within([at_us for at_us, _ in taken], 0.5) == 5


def test_what_an_upstream_does_not_allow_in_time_goes_on_to_the_next(gateway: CountingGateway) -> None:
    key = gateway.key()
    replies = gateway.race([chat(key.secret, "narrow-then-ok")] * 10)
    assert statuses(replies) == {200: 10}
    assert Counter(reply.headers["x-genkan-model"] for reply in replies) == {"narrow": 1, "ok": 9}
    assert {reply.headers.get("x-genkan-fallback") for reply in replies} == {None, "limited"}
    assert statuses(gateway.race([chat(key.secret, "narrow-alone")] * 10)) == {200: 1, 429: 9}
    late = gateway.ask(chat(key.secret, "narrow-alone"))
    assert 1 <= int(late.headers["retry-after"]) <= 60
    assert gateway.limit("deployment narrow-alone@there")["used"] == 1


def test_clients_that_are_idle_leave_nothing_in_redis(gateway: CountingGateway) -> None:
    rate = {"limit": 1000, "window_s": 1.0}
    window = {**rate, "algorithm": "sliding_window"}
    both = [
        {"requests": rate, "tokens": window, "concurrent": 9},
        {"requests": window, "tokens": rate, "concurrent": 9},
    ]
    keys = gateway.keys(*({"limits": limits} for limits in both * 10))
    assert statuses(gateway.race([chat(key.secret) for key in keys * 3])) == {200: 3 * len(keys)}

    def kept() -> list[str]:
        return [name for name in gateway.redis.scan_iter(count=1000) if any(key.id in name for key in keys)]

    wait_until(lambda: not kept(), SOON_S, "nothing of them is left")
    # What was settled is remembered for two minutes.
    marks = list(gateway.redis.scan_iter(match="genkan:s:*", count=1000))
    assert marks
    assert all(-2 < gateway.redis.pttl(mark) != -1 for mark in marks)
    assert {name for name in gateway.redis.scan_iter(count=1000) if gateway.redis.ttl(name) == -1} <= {
        f"genkan:{name}" for name in ("ledger", "keys", "keys:version", "keys:secret", "reserved", "leases")
    }


def test_what_a_worker_held_that_was_killed_is_free_after_its_lease(gateway: CountingGateway) -> None:
    """The last one: it kills."""
    at_once = 6
    key = gateway.key(limits={"concurrent": at_once})

    async def hold_kill_and_wait() -> tuple[float, int]:
        talks = await asyncio.gather(*(Talk.open(gateway.port) for _ in range(at_once)))
        for talk in talks:
            talk.write(chat(key.secret, "slow", stream=True, x_delay_ms=250))
        assert {(await talk.head())[0] for talk in talks} == {200}
        holders = connections(gateway.server)
        victim, held = holders.most_common(1)[0]
        os.kill(victim, signal.SIGKILL)
        began_s = time.monotonic()
        while (reply := await asked_again(gateway.port, key)).status == 429:
            assert time.monotonic() - began_s < LEASE_S + SOON_S
            await asyncio.sleep(0.05)
        assert reply.status == 200
        freed_s = time.monotonic() - began_s
        for talk in talks:
            await talk.aclose()
        return freed_s, held

    freed_s, held = asyncio.run(hold_kill_and_wait())
    assert held >= 1
    assert freed_s < LEASE_S + 2.0
    wait_until(lambda: gateway.limit(f"key {key.id}")["used"] == 0, SOON_S, "the others gave theirs back")


async def asked_again(port: int, key: Key) -> Reply:
    """On a connection of its own, again if it was one to the killed worker."""
    while True:
        with suppress(OSError, asyncio.IncompleteReadError):
            talk = await Talk.open(port)
            try:
                return await talk.ask(chat(key.secret))
            finally:
                await talk.aclose()
