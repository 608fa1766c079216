"""Two gateways on one Redis: what one of them knows, both do. Of the workers of one, other tests tell."""

import json
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from e2e.counting_gateway import (
    COMPLETION,
    PATIENT,
    PROMPT,
    SOON_S,
    TOKENS,
    CountingGateway,
    Key,
    model,
    there,
)
from e2e.crowd import Reply, chat
from e2e.live_server import LiveServer, wait_until
from faults.process import RunningUpstream, running_upstream
from redis_servers import RunningRedis, running_redis

CROWD, LIMIT, COVERED = 60, 20, 15
INPUT, OUTPUT = 1, 2  # dollars a million tokens
COST_NANO_USD: Final = 1000 * (INPUT * PROMPT + OUTPUT * COMPLETION)
NEVER: Final = 10**7
SECRET: Final = {"GENKAN_KEY_SECRET": "0" * 64}  # the same at all replicas


class Replica(CountingGateway):
    """One of several on a Redis that is none of theirs."""

    shared_url = ""
    workers = 1

    @property
    def redis_url(self) -> str:
        return self.shared_url


class Pair:
    """Both, ready."""

    def __init__(self, first: Replica, second: Replica, upstream: RunningUpstream) -> None:
        self.first = first
        self.second = second
        self.upstream = upstream

    def key(self, **wanted: Any) -> Key:
        """A new key of the first, which both know."""
        key = self.first.key(**wanted)
        wait_until(lambda: self.second._is_known(key.secret), SOON_S, "the other gateway knows the key")
        return key

    def race(self, request: bytes, number: int) -> list[Reply]:
        """So many at both together, half at each."""
        with ThreadPoolExecutor(2) as pool:
            halves = pool.map(lambda one: one.race([request] * (number // 2)), (self.first, self.second))
            return [reply for half in halves for reply in half]


def settings(redis: RunningRedis, upstream: RunningUpstream) -> dict[str, Any]:
    names = ("ok", "500-for-ever")
    return {
        "redis": {**PATIENT, "url": redis.url},
        "server": {"workers": Replica.workers},
        "keys": {"required": "always"},
        "upstreams": [{**there(upstream), "breaker": {"consecutive_failures": 3, "alone_failures": 3, "open_s": 60.0}}],
        "models": [*(model(name, name) for name in names), model("new")],
        "routes": [
            {"alias": "cached", "chain": ["ok"]},
            {"alias": "tried", "chain": ["ok"], "canary": {"model": "new", "percent": 100.0, "min_requests": NEVER}},
            {"alias": "broken", "chain": ["500-for-ever", "ok"]},
        ],
        "prices": {"models": [{"model": name, "input": INPUT, "output": OUTPUT} for name in (*names, "new")]},
    }


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Generator[Pair, None, None]:
    folder = tmp_path_factory.mktemp("replicas")
    with ExitStack() as stack:
        upstream = stack.enter_context(running_upstream())
        redis = stack.enter_context(running_redis("embedded", folder))
        Replica.shared_url = redis.url
        path = folder / "genkan.yaml"
        path.write_text(yaml.safe_dump(settings(redis, upstream)), encoding="utf-8")
        servers = [_server(path) for _ in range(2)]
        for server in servers:
            stack.callback(server.destroy)
            server.start()
        first = _ready(servers[0], path, upstream)
        stack.callback(first.close)
        second = _ready(servers[1], path, upstream, first.admin_key)
        stack.callback(second.close)
        yield Pair(first, second, upstream)
        for server in servers:
            server.stop()


def _server(path: Path) -> LiveServer:
    return LiveServer(env={"GENKAN_CONFIG": str(path), **SECRET})


def _ready(server: LiveServer, path: Path, upstream: RunningUpstream, admin: str | None = None) -> Replica:
    server.wait_ready()
    environ = {
        "GENKAN_CONFIG": str(path),
        "GENKAN__REDIS__DATA_DIR": str(server.folder / "data"),
        **SECRET,
    }
    return Replica(server, upstream, environ, admin)


def statuses(replies: list[Reply]) -> list[int]:
    return sorted(reply.status for reply in replies)


def test_a_key_that_one_revokes_the_other_refuses(pair: Pair) -> None:
    key = pair.key()
    assert [one.ask(chat(key.secret)).status for one in (pair.first, pair.second)] == [200, 200]
    pair.second.admin("DELETE", f"/admin/keys/{key.id}")
    for one in (pair.first, pair.second):
        wait_until(lambda one=one: one.ask(chat(key.secret)).status == 401, SOON_S, "it is refused")  # type: ignore[misc]


def test_a_limit_lets_so_many_in_at_both_together(pair: Pair) -> None:
    window = {"limit": LIMIT, "window_s": 600.0, "algorithm": "sliding_window"}
    key = pair.key(limits={"requests": window})
    replies = pair.race(chat(key.secret), CROWD)
    assert statuses(replies) == [200] * LIMIT + [429] * (CROWD - LIMIT)
    left = sorted(int(reply.headers["x-ratelimit-remaining-requests"]) for reply in replies if reply.status == 200)
    assert left == list(range(LIMIT))
    assert pair.first.limit(f"key {key.id}")["used"] == pair.second.limit(f"key {key.id}")["used"] == LIMIT


def test_a_budget_is_spent_by_both_and_never_overshot(pair: Pair) -> None:
    key = pair.key(budgets=[{"per": "total", "usd": COVERED * COST_NANO_USD / 1e9}])
    served = [reply for reply in pair.race(chat(key.secret, max_tokens=COMPLETION), CROWD) if reply.status == 200]
    pair.first.wait_settled()
    name = f"key {key.id}"
    spent = [one.budget(name)["spent"] for one in (pair.first, pair.second)]
    assert spent == [len(served) * COST_NANO_USD] * 2
    assert 0 < len(served) <= COVERED


def test_a_breaker_that_opens_at_one_is_open_at_the_other(pair: Pair) -> None:
    key = pair.key()
    pair.upstream.reset()
    for _ in range(6):
        assert pair.first.ask(chat(key.secret, "broken")).status == 200

    def is_passed_by() -> bool:
        before = len(pair.upstream.attempts("500-for-ever"))
        replies = pair.second.race([chat(key.secret, "broken")] * 8)
        assert {reply.status for reply in replies} == {200}
        return len(pair.upstream.attempts("500-for-ever")) == before

    wait_until(is_passed_by, SOON_S, "the other gateway asks the broken model no more")


def test_what_is_decided_of_a_canary_both_obey(pair: Pair) -> None:
    key = pair.key()
    for one in (pair.first, pair.second):
        assert one.ask(chat(key.secret, "tried")).headers["x-genkan-model"] == "new"
    pair.first.admin("POST", "/admin/canary/tried", {"action": "rollback"})

    def obeys() -> bool:
        replies = pair.second.race([chat(key.secret, "tried")] * 8)
        return {reply.headers["x-genkan-model"] for reply in replies} == {"ok"}

    wait_until(obeys, SOON_S, "the other gateway asks the canary no more")
    assert pair.second.admin("GET", "/admin/canary/tried")["state"] == "rolled_back"


def test_an_answer_that_one_has_stored_the_other_gives(pair: Pair) -> None:
    key = pair.key()
    request = chat(key.secret, "cached", temperature=0)
    asked = pair.first.ask(request)
    assert (asked.status, asked.headers["x-genkan-cache"]) == (200, "miss")

    def is_hit() -> bool:
        return pair.second.ask(request).headers["x-genkan-cache"] == "hit-exact"

    wait_until(is_hit, SOON_S, "the other gateway has it")


def test_one_ledger_has_every_request_of_both_once(pair: Pair) -> None:
    key = pair.key()
    replies = pair.race(chat(key.secret), CROWD)
    assert set(statuses(replies)) == {200}
    pair.second.wait_settled()
    asked = sorted(reply.headers["x-request-id"] for reply in replies)
    for one in (pair.first, pair.second):
        rows = [row for row in one.ledger() if row["key"] == key.id]
        assert sorted(row["id"] for row in rows) == asked, json.dumps(rows[:3])
    assert len(asked) * TOKENS == sum(row["usage"]["prompt"] + row["usage"]["completion"] for row in rows)
