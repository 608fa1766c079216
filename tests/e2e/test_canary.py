"""Canaries through two workers of a real server, in front of two upstreams: decided, told, obeyed, kept."""

import asyncio
import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from e2e.counting_gateway import GENKAN, SOON_S, WORKERS, CountingGateway, Key, running_counting_gateway
from e2e.crowd import Reply, Talk, chat
from e2e.live_server import wait_until
from e2e.paced_upstream import running_paced_upstream

from genkan.gateway.canary.shadow import SHADOW_TENANT
from genkan.gateway.canary.split import drawing
from genkan.wire.caller import Caller
from genkan.wire.chat import ChatRequest

CLIENTS = 32
OBEYED_S = 5.0  # workers look once in 1.2 s at most; the rest is for a slow machine
DECIDED_S = 20.0
USERS = [f"user-{number}" for number in range(12)]
NEVER: Final = 10**7

#: The first model of each route, and its canary, by what they do.
PACES = {
    "slower": ("100ms", "130ms"),
    "failing": ("20ms", "20ms-fails-3"),
    "equal": ("20ms", "20ms"),
    "by/user": ("1ms", "1ms"),
    "shadowed": ("20ms", "60ms"),
    "overridden": ("1ms", "1ms"),
}
SETTINGS: dict[str, dict[str, Any]] = {
    "by/user": {"assign": "user", "min_requests": NEVER},
    "shadowed": {"mode": "shadow", "percent": 100.0, "max_shadows": 1000, "min_requests": 50},
    "overridden": {"percent": 100.0, "min_requests": NEVER},
}


def routes() -> Iterator[dict[str, Any]]:
    for alias, (control, canary) in PACES.items():
        settings = {"percent": 50.0, "min_requests": 100, **SETTINGS.get(alias, {})}
        yield {"alias": alias, "chain": [f"old-{control}"], "canary": {"model": f"new-{canary}", **settings}}


def models() -> Iterator[dict[str, Any]]:
    for place, upstream in enumerate(("old", "new")):
        for pace in sorted({paces[place] for paces in PACES.values()}):
            yield {"name": f"{upstream}-{pace}", "deployments": [{"upstream": upstream, "model": pace}]}


def upstream(name: str, url: str) -> dict[str, Any]:
    room = {"limit": 400, "queue": 400}
    return {"name": name, "kind": "openai", "base_url": url, "connections": room, "health": {"interval_s": 0.0}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("canary")


@pytest.fixture(scope="module")
def gateway(folder: Path) -> Generator[CountingGateway, None, None]:
    with (
        running_paced_upstream() as old,
        running_paced_upstream() as new,
        running_counting_gateway(
            folder,
            redis_settings={"timeout_s": 1.0, "request_s": 2.0},  # slow machines are no fault of Redis here
            upstreams=[upstream("old", old), upstream("new", new)],
            models=[*models()],
            routes=[*routes()],
        ) as gateway,
    ):
        yield gateway


def asked(gateway: CountingGateway, requests: Iterable[bytes], clients: int = CLIENTS) -> list[Reply]:
    """The replies, of so many clients that ask one after the other."""
    left = iter(requests)

    async def client() -> list[Reply]:
        talk = await Talk.open(gateway.port)
        try:
            return [await talk.ask(request) for request in left]
        finally:
            await talk.aclose()

    async def run() -> list[list[Reply]]:
        return await asyncio.gather(*(client() for _ in range(clients)))

    return [reply for replies in asyncio.run(run()) for reply in replies]


def some(key: Key, route: str, number: int) -> list[bytes]:
    """Requests, every other one for a stream."""
    return [chat(key.secret, route, stream=nth % 2 == 0) for nth in range(number)]


def until_decided(gateway: CountingGateway, key: Key, route: str) -> list[Reply]:
    """Go on asking until its canary no longer runs."""
    replies, began_s = [], time.monotonic()
    while report(gateway, route)["state"] == "running":
        assert time.monotonic() - began_s < DECIDED_S, report(gateway, route)
        replies += asked(gateway, some(key, route, 200))
    return replies


def report(gateway: CountingGateway, route: str) -> dict[str, Any]:
    return dict(gateway.admin("GET", f"/admin/canary/{route}"))


def arms(replies: Iterable[Reply]) -> Counter[str]:
    """What the header says, of answers that are whole."""
    counted = Counter[str]()
    for reply in replies:
        assert reply.status == 200, reply
        assert b"All is well." in reply.body
        counted[reply.headers["x-genkan-arm"]] += 1
    return counted


def is_obeyed(gateway: CountingGateway, key: Key, route: str, arm: str) -> bool:
    """Whether both workers give everybody this arm."""
    return set(arms(gateway.race_at_both([chat(key.secret, route)] * 16))) == {arm}


def told(folder: Path, gateway: CountingGateway, route: str) -> str:
    """What ``genkan canary report`` prints, as JSON."""
    environ = {
        **os.environ,
        "GENKAN_CONFIG": str(folder / "genkan.yaml"),
        "GENKAN__REDIS__DATA_DIR": str(gateway.server.folder / "data"),
    }
    line = [str(GENKAN), "canary", "report", route, "--json"]
    return subprocess.run(line, env=environ, capture_output=True, check=True, text=True).stdout


def rows(gateway: CountingGateway, route: str) -> list[dict[str, Any]]:
    """What the ledger has of a route, its canary's copies included."""
    gateway.wait_settled()
    return [row for row in gateway.ledger() if row["route"] == route or row["tenant"] == SHADOW_TENANT]


@pytest.mark.parametrize(
    ("route", "guards"), [("slower", {"latency_ratio", "ttft_ratio"}), ("failing", {"error_rate"})]
)
def test_a_worse_canary_is_rolled_back_and_all_that_tell_of_it_agree(
    gateway: CountingGateway, route: str, guards: set[str]
) -> None:
    key = gateway.key()
    replies = until_decided(gateway, key, route)
    assert set(arms(replies)) == {"control", "canary"}
    found = report(gateway, route)
    assert found["state"] == "rolled_back"
    wait_until(lambda: is_obeyed(gateway, key, route, "control"), OBEYED_S, "both workers ask the canary no more")
    assert (found["decision"]["action"], found["decision"]["by"]) == ("rollback", "auto")
    assert found["decision"]["guard"] in guards
    ledgered = Counter(row["arm"] for row in rows(gateway, route))
    assert ledgered["canary"] >= arms(replies)["canary"]  # one worker may have asked it still while we looked
    metrics = gateway.metrics()
    assert metrics.value("canary_decisions_total", route=route, state="rolled_back", by="auto") == 1
    assert metrics.value("canary_state", route=route) == 4
    assert metrics.value("canary_requests_total", route=route, arm="canary") == ledgered["canary"]


def test_an_equal_canary_is_not_rolled_back(gateway: CountingGateway) -> None:
    key = gateway.key()
    replies = asked(gateway, some(key, "equal", 1200))
    counted = arms(replies)
    assert min(counted["control"], counted["canary"]) > 1200 * 0.4
    wait_until(lambda: _samples(report(gateway, "equal")) == 1200, SOON_S, "both workers have told all")
    found = report(gateway, "equal")
    assert found["state"] != "rolled_back"
    assert gateway.metrics().value("canary_decisions_total", route="equal", state="rolled_back") == 0


def _samples(found: dict[str, Any]) -> int:
    return int(found["control_samples"] + found["canary_samples"])


def test_a_user_has_one_arm_at_every_worker_and_time(gateway: CountingGateway) -> None:
    one, other = gateway.keys({}, {})
    draw = drawing("user", "by/user")
    requests = [chat(key.secret, "by/user", user=user) for user in USERS for key in (one, other) for _ in range(3)]
    replies = gateway.race_at_both(requests)
    body = {"model": "by/user", "messages": [{"role": "user", "content": "Count."}]}
    expected = [
        "canary" if draw(ChatRequest.from_object({**body, "user": user}), Caller("", "acme")) < 0.5 else "control"
        for user in USERS
        for _ in range(6)
    ]
    assert len(replies) % len(expected) == 0
    assert [reply.headers["x-genkan-arm"] for reply in replies] == expected * (len(replies) // len(expected))
    assert set(arms(replies)) == {"control", "canary"}


def test_a_shadow_is_measured_and_nobody_sees_it(gateway: CountingGateway) -> None:
    key = gateway.key()
    replies = until_decided(gateway, key, "shadowed")
    assert set(arms(replies)) == {"control"}
    assert {reply.headers["x-genkan-model"] for reply in replies} == {"old-20ms"}
    found = report(gateway, "shadowed")
    assert found["state"] == "rolled_back"
    assert found["canary_avg_ms"] > found["control_avg_ms"] + 20
    ledgered = Counter((row["tenant"], row["arm"]) for row in rows(gateway, "shadowed"))
    assert ledgered["acme", "control"] == len(replies)
    assert 50 <= ledgered[SHADOW_TENANT, "canary"] <= len(replies)
    assert set(ledgered) == {("acme", "control"), (SHADOW_TENANT, "canary")}


def test_an_administrator_decides_for_all_workers_and_it_is_audited(gateway: CountingGateway) -> None:
    key = gateway.key()
    assert is_obeyed(gateway, key, "overridden", "canary")
    for action, state, arm in (
        ("rollback", "rolled_back", "control"),
        ("restart", "running", "canary"),
        ("promote", "promoted", "canary"),
        ("rollback", "rolled_back", "control"),
    ):
        found = gateway.admin("POST", "/admin/canary/overridden", {"action": action})
        assert found["state"] == state
        took_s = wait_until(lambda arm=arm: is_obeyed(gateway, key, "overridden", arm), SOON_S, "both workers obey")  # type: ignore[misc]  # a bound default
        assert took_s < OBEYED_S
    audited = [record["action"] for record in report(gateway, "overridden")["audit"]]
    assert audited == ["rollback", "promote", "restart", "rollback"]


def test_what_was_decided_outlives_the_workers_and_is_told_without_them(gateway: CountingGateway, folder: Path) -> None:
    """The last one: it kills."""
    key = gateway.key()
    before = states(gateway)
    assert set(before.values()) >= {"running", "rolled_back"}
    workers = Counter[int]()

    def both_have_clients() -> bool:
        gateway.race([chat(key.secret, "slower")] * 16, workers)
        return len(workers) == WORKERS

    wait_until(both_have_clients, SOON_S, "each worker has had a client")
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    kept = json.loads(told(folder, gateway, "slower"))
    assert (kept["state"], kept["decision"]["action"]) == ("rolled_back", "rollback")
    wait_until(gateway.server.ready, SOON_S, "other workers have come")
    assert set(arms(gateway.race([chat(key.secret, "slower")] * 16))) == {"control"}
    assert states(gateway) == before


def states(gateway: CountingGateway) -> dict[str, str]:
    return {one["route"]: one["state"] for one in gateway.admin("GET", "/admin/canary")["data"]}
