"""Canaries as a worker has them: made from a configuration, shared with other workers, decided for all."""

import asyncio
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from accounts_at_hand import AccountsAtHand
from prometheus_client import CollectorRegistry
from redis_servers import RunningRedis, running_redis
from scripted_upstreams import HANGS, ScriptedUpstream, Told, Turn, forbidden, router_to

from genkan.canaries import Canaries, RouteCanary
from genkan.config import Config, RouteConfig
from genkan.errors import StoreError, UnknownPath
from genkan.gateway.canary.shadow import SHADOW_TENANT
from genkan.gateway.fallback import Fallback
from genkan.gateway.pipeline import Pipeline
from genkan.gateway.router import Router
from genkan.telemetry.canary_metrics import CanaryMetrics
from genkan.telemetry.tally import Tally
from genkan.wire.caller import Caller
from genkan.wire.chat import ChatRequest

pytestmark = pytest.mark.anyio
CLIENT = Caller("req_1", "acme", "key_1")


def configured(*, url: str = "memory", workers: int = 1, **canary: Any) -> Config:
    return Config.model_validate(
        {
            "server": {"workers": workers},
            "redis": {"url": url, "timeout_s": 5.0, "connect_s": 5.0},
            "upstreams": [{"name": name, "kind": "openai", "base_url": "http://h/v1"} for name in ("up-1", "up-2")],
            "models": [{"name": "old", "upstream": "up-1"}, {"name": "new", "upstream": "up-2"}],
            "routes": [
                {"alias": "nick", "chain": ["old"], "canary": {"model": "new", "percent": 100.0, **canary}},
                {"alias": "other", "chain": ["old"], "canary": {"model": "new"}},
                {"alias": "none", "chain": ["old"]},
            ],
        }
    )


class Worker:
    """A gateway's worker, but for its server. ``async with`` it."""

    def __init__(self, config: Config) -> None:
        self.registry = CollectorRegistry()
        self.books = AccountsAtHand(config)
        self.tally = Tally()
        self.canaries = Canaries(config, {}, self.books.clock, CanaryMetrics(self.tally, self.registry))
        self.old, self.new = (ScriptedUpstream(name, self.books.clock) for name in ("up-1", "up-2"))
        made = {deployment.model: deployment for deployment in router_to(config, (self.old, self.new)).deployments}
        router = Router(config, lambda model, place: made[model.name], experiment=self._experiment)
        self.pipeline = Pipeline(router, Fallback(self.books.clock, Told()), self.books.admissions)

    async def __aenter__(self) -> "Worker":
        await self.books.__aenter__()
        await self.canaries.start(self.pipeline)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.canaries.aclose()
        await self.books.__aexit__(*exc_info)

    async def arm(self, route: str = "nick") -> str | None:
        """Whom one more request got."""
        request = ChatRequest.from_object({"model": route, "messages": [{"role": "user", "content": "Hi"}]})
        answer = await self.pipeline.respond(request, CLIENT)
        arm = dict(answer.headers).get(b"x-genkan-arm")
        return None if arm is None else arm.decode()

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"genkan_canary_{name}", {"route": "nick", **labels})

    def _experiment(self, route: RouteConfig) -> RouteCanary:
        return self.canaries.experiment(route)


async def test_what_an_arm_answers_is_reported_and_counted() -> None:
    async with Worker(configured()) as worker:
        assert [await worker.arm() for _ in range(3)] == ["canary"] * 3
        found = await worker.canaries.report("nick")
        assert (found["control_model"], found["canary_model"]) == ("old", "new")
        assert (found["state"], found["control_samples"], found["canary_samples"]) == ("running", 0, 3)
        assert worker.value("state") == 0.0
    worker.tally.flush()
    assert worker.value("requests_total", arm="canary", outcome="ok") == 3.0


async def test_a_route_without_one_is_as_it_was_and_is_not_reported() -> None:
    async with Worker(configured()) as worker:
        assert [await worker.arm("none"), await worker.arm("old")] == [None, None]
        assert [one["route"] for one in await worker.canaries.reports()] == ["nick", "other"]
        with pytest.raises(UnknownPath, match="no canary on a route with the name 'none'"):
            await worker.canaries.report("none")
        with pytest.raises(UnknownPath):
            await worker.canaries.override("none", "promote", "ops")


async def test_a_shadow_is_asked_by_the_same_pipeline_and_both_are_compared() -> None:
    async with Worker(configured(mode="shadow")) as worker:
        assert await worker.arm() == "control"
        await asyncio.wait(worker.canaries._routes["nick"].shadows._tasks, timeout=10)
        found = await worker.canaries.report("nick")
        assert (found["control_samples"], found["canary_samples"]) == (1, 1)
        tenants = {row.tenant: [one.deployment for one in row.attempts] for row in await worker.books.rows()}
        assert tenants == {"acme": ["old@up-1"], SHADOW_TENANT: ["new@up-2"]}


async def test_a_copy_that_fails_is_asked_of_nobody_else_and_is_no_request_of_the_route() -> None:
    async with Worker(configured(mode="shadow")) as worker:
        worker.new._turns = [Turn(error=forbidden)]
        await worker.arm()
        await asyncio.wait([*worker.canaries._routes["nick"].shadows._tasks], timeout=10)
        rows = {row.tenant: row for row in await worker.books.rows()}
        copied = rows[SHADOW_TENANT]
        assert (copied.route, [one.deployment for one in copied.attempts]) == ("new", ["new@up-2"])
        assert (rows["acme"].route, [one.deployment for one in rows["acme"].attempts]) == ("nick", ["old@up-1"])


async def test_at_the_end_copies_end_too() -> None:
    async with Worker(configured(mode="shadow")) as worker:
        worker.new._turns = [HANGS]
        await worker.arm()
        await worker.new.entered.wait()
    assert worker.new.open == 0
    assert not worker.canaries._routes["nick"].shadows._tasks


@pytest.fixture
def redis(tmp_path: Path) -> Generator[RunningRedis, None, None]:
    with running_redis("embedded", tmp_path) as running:
        yield running


async def test_workers_add_up_what_they_measure_and_obey_what_one_is_told(redis: RunningRedis) -> None:
    config = configured(url=redis.url, workers=2)
    async with Worker(config) as one, Worker(config) as other:
        assert [await one.arm(), await other.arm(), await other.arm()] == ["canary"] * 3
        await other.canaries.report("nick")
        assert (await one.canaries.report("nick"))["canary_samples"] == 3

        await one.canaries.override("nick", "rollback", "key_9")
        assert await one.arm() == "control"
        found = await other.canaries.report("nick")
        assert await other.arm() == "control"
        assert (found["state"], found["decision"], found["share"]) == (
            "rolled_back", (await one.canaries.report("nick"))["decision"], 0.0,
        )  # fmt: skip
        assert (one.value("state"), other.value("state")) == (4.0, 4.0)
    for worker, counted in ((one, 1.0), (other, None)):
        worker.tally.flush()
        assert worker.value("decisions_total", state="rolled_back", by="admin") == counted


async def test_a_worker_that_begins_later_knows_before_its_first_request(redis: RunningRedis) -> None:
    config = configured(url=redis.url)
    async with Worker(config) as before:
        await before.canaries.override("nick", "rollback", "key_9")
    async with Worker(config) as after:
        assert await after.arm() == "control"
        assert after.value("state") == 4.0
        assert await after.arm("other") is not None


async def test_without_redis_it_goes_on_and_says_that_it_does_not_know(redis: RunningRedis) -> None:
    async with Worker(configured(url=redis.url)) as worker:
        assert await worker.arm() == "canary"
        redis.kill()
        assert await worker.arm() == "canary"
        assert (await worker.canaries.report("nick"))["is_current"] is False
        with pytest.raises(StoreError):
            await worker.canaries.override("nick", "promote", "ops")
