"""Redis is slow, or dies, while a real server with two workers serves: nobody notices but whoever has a budget."""

import asyncio
import os
import signal
import statistics
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx
import pytest
import redis
from e2e.counting_gateway import SOON_S, TOKENS, WORKERS, CountingGateway, Key, model, running_counting_gateway
from e2e.crowd import Talk, chat
from e2e.live_server import wait_until

PAUSE_S = 2.0
#: What a request may wait for Redis (``redis.request_s``), and what a busy machine adds to anything.
REQUEST_S, SLACK_S = 0.15, 1.0
CLIENTS = 8
LIMIT = 40
Who = Literal["free", "limited", "budgeted"]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Generator[CountingGateway, None, None]:
    with running_counting_gateway(
        tmp_path_factory.mktemp("lost"),
        models=[model("ok")],
        prices={"models": [{"model": "ok", "input": 1, "output": 2}]},
    ) as gateway:
        yield gateway


@dataclass(frozen=True, slots=True)
class Asked:
    """One request and its answer, by this machine's monotonic clock."""

    who: Who
    request_id: str
    began_s: float
    seconds: float
    status: int
    code: str | None


@dataclass(slots=True)
class Load:
    """Clients of three kinds, one request after the other, until told to end."""

    port: int
    keys: dict[Who, Key]
    asked: list[Asked] = field(default_factory=list)
    is_over: bool = False

    async def run(self, story: Callable[[], Any]) -> None:
        """``story`` runs beside it, in a thread; the load ends with it."""
        clients = [
            asyncio.create_task(self._client(who, stream=n % 2 == 0)) for who in self.keys for n in range(CLIENTS)
        ]
        try:
            await asyncio.to_thread(story)
        finally:
            self.is_over = True
            await asyncio.gather(*clients)

    async def _client(self, who: Who, *, stream: bool) -> None:
        talk = await Talk.open(self.port)
        request = chat(self.keys[who].secret, stream=stream)
        while not self.is_over:
            began_s = time.monotonic()
            reply = await talk.ask(request)
            took_s = time.monotonic() - began_s
            self.asked.append(Asked(who, reply.headers["x-request-id"], began_s, took_s, reply.status, reply.code))
            await asyncio.sleep(0.05)
        await talk.aclose()

    def of(self, who: Who, began_s: float = 0.0, ended_s: float = float("inf")) -> list[Asked]:
        """Those asked between two moments."""
        return [one for one in self.asked if one.who == who and began_s <= one.began_s < ended_s]


def new_load(gateway: CountingGateway, limit: int) -> Load:
    limited = {"limits": {"requests": {"limit": limit, "window_s": 3600.0, "algorithm": "sliding_window"}}}
    free, limited_key, budgeted = gateway.keys(
        {"limits": {"requests": {"limit": 10**6}, "concurrent": 1000}},
        limited,
        {"budgets": [{"per": "total", "usd": 1000}, {"per": "day", "tokens": 10**9}]},
    )
    return Load(gateway.port, {"free": free, "limited": limited_key, "budgeted": budgeted})


@contextmanager
def stopped(pid: int) -> Generator[None, None, None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_redis_that_stands_still_fails_only_those_with_budgets_and_delays_hardly_anyone(
    gateway: CountingGateway,
) -> None:
    gateway.upstream.reset()
    load = new_load(gateway, LIMIT)
    moments: list[float] = []

    def story() -> None:
        def runs() -> bool:
            usual = load.of("free", ended_s=time.monotonic() - REQUEST_S)
            return len(usual) > 20 and len(load.of("budgeted")) > 20

        wait_until(runs, SOON_S, "the load runs, and has for a while")
        with stopped(gateway.redis_pid):
            moments.append(time.monotonic())
            time.sleep(PAUSE_S)
            moments.append(time.monotonic())
        wait_until(lambda: any(one.status == 200 for one in load.of("budgeted", moments[1])), SOON_S, "all is well")

    asyncio.run(load.run(story))
    stopped_s, resumed_s = moments

    assert {one.status for one in load.of("free")} == {200}
    assert {(one.status, one.code) for one in load.of("budgeted")} == {(200, None), (503, "accounts_unavailable")}
    assert {one.status for one in load.of("budgeted") if one.began_s + one.seconds < stopped_s} == {200}
    during = load.of("free", stopped_s, resumed_s)
    usual_s = statistics.median(one.seconds for one in load.of("free", ended_s=stopped_s - REQUEST_S))
    assert max(one.seconds for one in during) < usual_s + REQUEST_S + SLACK_S
    # After half a second of silence nobody waits for it any more.
    later = load.of("free", stopped_s + 1.0, resumed_s)
    assert len(later) > CLIENTS
    assert statistics.median(one.seconds for one in later) < usual_s + REQUEST_S / 2

    # Each worker let in its share by itself, besides what Redis had let in before.
    admitted = [one for one in load.of("limited") if one.status == 200]
    assert {(one.status, one.code) for one in load.of("limited")} == {(200, None), (429, "rate_limit_exceeded")}
    assert LIMIT <= len(admitted) <= LIMIT + WORKERS * (LIMIT // WORKERS)
    assert_ledger_is_what_the_upstream_saw(gateway, load)


def test_limits_are_local_meanwhile(gateway: CountingGateway) -> None:
    key = gateway.key(limits={"requests": {"limit": LIMIT, "window_s": 3600.0}, "concurrent": LIMIT})
    statuses = Counter[int]()
    with stopped(gateway.redis_pid):
        workers = Counter[int]()
        while len(workers) < WORKERS or min(workers.values()) < LIMIT:
            statuses.update(reply.status for reply in gateway.race([chat(key.secret)] * LIMIT, workers))
    # Each worker its share, however many came to it.
    assert set(statuses) == {200, 429}
    assert statuses[200] == WORKERS * (LIMIT // WORKERS)


def assert_ledger_is_what_the_upstream_saw(gateway: CountingGateway, load: Load) -> None:
    """Row for row: what it answered, what clients got, and what budgets were charged."""
    ids = {one.request_id for one in load.asked if one.status == 200}
    seen = {attempt["headers"]["x-client-request-id"] for attempt in gateway.upstream.attempts()}

    def is_settled() -> bool:
        with suppress(httpx.HTTPStatusError):  # a worker that has not found Redis yet
            return ids <= {row["id"] for row in gateway.ledger()}
        return False

    wait_until(is_settled, SOON_S, "everything is in the ledger")
    gateway.wait_settled()
    names = {key.id for key in load.keys.values()}
    rows = [row for row in gateway.ledger() if row["key"] in names]
    assert Counter(row["state"] for row in rows) == {"ok": len(ids)}
    assert {row["id"] for row in rows} == ids
    attempts = [one for one in gateway.ledger(attempts=True) if one["key"] in names]
    assert Counter(one["id"] for one in attempts) == Counter(dict.fromkeys(seen, 1))
    assert sum(row["usage"]["prompt"] + row["usage"]["completion"] for row in rows) == TOKENS * len(seen)
    paid = [row for row in rows if row["key"] == load.keys["budgeted"].id]
    budgets = {one["unit"]: one["spent"] for one in gateway.group(f"key {load.keys['budgeted'].id}")["budgets"]}
    assert budgets == {"nano_usd": sum(row["cost_nano_usd"] for row in paid), "tokens": TOKENS * len(paid)}


def test_a_redis_that_was_killed_is_started_again_and_knows_what_it_knew(gateway: CountingGateway) -> None:
    gateway.upstream.reset()
    load = new_load(gateway, 10**6)
    before = gateway.ledger()
    pid = gateway.redis_pid
    moments: list[float] = []

    def story() -> None:
        wait_until(lambda: len(load.of("free")) > 20 and len(load.of("budgeted")) > 20, SOON_S, "the load runs")
        os.kill(pid, signal.SIGKILL)
        moments.append(time.monotonic())
        wait_until(lambda: is_another(gateway, pid), SOON_S, "Redis was started again")
        wait_until(
            lambda: any(one.status == 200 for one in load.of("budgeted", moments[0] + 0.2)), SOON_S, "it is used"
        )

    asyncio.run(load.run(story))

    assert {one.status for one in load.of("free")} == {200}
    assert {one.status for one in load.of("limited")} == {200}
    assert {one.code for one in load.of("budgeted")} <= {None, "accounts_unavailable"}
    assert_ledger_is_what_the_upstream_saw(gateway, load)
    assert gateway.ledger()[: len(before)] == before


def is_another(gateway: CountingGateway, pid: int) -> bool:
    with suppress(redis.RedisError):
        return gateway.redis_pid != pid
    return False
