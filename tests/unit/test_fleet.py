"""What the fleet makes of a configuration, and what its probes change."""

import asyncio
import logging
from typing import Any

import pytest
from model_servers import Handler, answering, model_server
from prometheus_client import CollectorRegistry
from scripted_upstreams import Told, VirtualClock, request

from genkan.books import Books
from genkan.config import Config
from genkan.errors import ConnectFailed, UpstreamError, UpstreamQuota, UpstreamUnauthorized
from genkan.fleet import Fleet
from genkan.gateway.deployment import Deployment
from genkan.gateway.router import Router
from genkan.telemetry.account_metrics import AccountMetrics
from genkan.telemetry.tally import Tally
from genkan.upstream.prober import ProbeResult

KEY = "sk-9fQ2mZ7cLxV4tB8nR1wK6yH3"
ENVIRON = {"OUR_KEY": KEY}
WAIT_S = 5.0


class Watched(Fleet):
    """A fleet that says when a probe has told its result."""

    probed: asyncio.Event

    def _probed(self, name: str, result: ProbeResult) -> None:
        super()._probed(name, result)
        self.probed.set()


class Rig:
    """A fleet of ``away``, an upstream of kind openai, and of the engine, if there is one."""

    def __init__(
        self,
        *,
        environ: dict[str, str] | None = None,
        engine: bool = False,
        base_url: str = "https://h.example/v1",
        **more: Any,
    ) -> None:
        upstreams: list[dict[str, Any]] = [
            {"name": "away", "kind": "openai", "base_url": base_url, "api_key_env": "OUR_KEY", **more}
        ]
        models: list[dict[str, Any]] = [
            {"name": "m", "deployments": [{"upstream": "away", "model": "vendor/m", "weight": 5}], "context_tokens": 9}
        ]
        if engine:
            upstreams.append({"name": "e", "kind": "engine", "breaker": {"alone_failures": 1}})
            models.append({"name": "own", "deployments": [{"upstream": "e"}, {"upstream": "away"}]})
        config = Config.model_validate({"redis": {"url": "memory"}, "upstreams": upstreams, "models": models})
        self.clock, self.told = VirtualClock(), Told()
        books = Books(config, {}, self.clock, AccountMetrics(Tally(), CollectorRegistry()))
        environ = ENVIRON if environ is None else environ
        self.fleet = Watched(config, "/nowhere.sock" if engine else None, environ, self.clock, self.told, books)
        self.fleet.probed = asyncio.Event()
        self.deployments = {one.name: one for one in Router(config, self.fleet.deploy).deployments}

    @property
    def away(self) -> Deployment:
        return self.deployments["m@away"]

    @property
    def parked_by(self) -> BaseException | None:
        return self.away.standing.parked_by(self.clock.now_s)

    def probed(self, *results: ProbeResult) -> None:
        for result in results:
            self.fleet._probed("away", result)


# What it makes


def test_a_deployment_is_as_configured() -> None:
    away = Rig().away
    assert (away.name, away.name_there, away.weight, away.context_tokens) == ("m@away", "vendor/m", 5, 9)
    assert away.upstream.name == "away"


def test_without_an_engine_there_is_none() -> None:
    assert Rig().fleet.engine is None


def test_the_engine_is_an_upstream_among_others() -> None:
    rig = Rig(engine=True)
    assert set(rig.deployments) == {"m@away", "own@e", "own@away"}
    assert rig.deployments["own@e"].upstream is rig.fleet.engine
    assert [rig.deployments[name].is_one_process for name in ("own@e", "own@away")] == [True, False]
    assert rig.deployments["own@e"].name_there == "own"


def test_deployments_on_one_upstream_share_its_standing_and_not_a_breaker() -> None:
    rig = Rig(engine=True)
    here, there = rig.away, rig.deployments["own@away"]
    assert (here.upstream, here.standing) == (there.upstream, there.standing)
    while (attempt := here.breaker.begin(0.0)) is not None:
        attempt.failed(0.0)
    assert (here.breaker.state(0.0), there.breaker.state(0.0)) == ("open", "closed")


def test_a_breaker_has_its_upstreams_policy_and_tells_the_observer(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(engine=True)
    attempt = rig.deployments["own@e"].breaker.begin(0.0)
    assert attempt is not None
    attempt.failed(0.0)  # one failure opens it
    assert rig.told.changes == [("own@e", "closed", "open")]
    assert caplog.messages == ["the breaker of own@e is open, was closed"]


# Keys


@pytest.mark.parametrize(
    "environ", [{}, {"OUR_KEY": ""}, {"OUR_KEY": "sk-short"}, {"OUR_KEY": "YOUR_API_KEY_GOES_HERE"}]
)
def test_a_key_that_cannot_work_keeps_everyone_away_for_good(environ: dict[str, str]) -> None:
    rig = Rig(environ=environ)
    rig.clock.now_s = 1e9
    assert isinstance(rig.parked_by, UpstreamUnauthorized)
    assert (rig.away.begin(1e9), rig.away.begin_as_last(1e9)) == (None, None)


@pytest.mark.anyio
async def test_a_key_that_cannot_work_is_never_sent() -> None:
    async with model_server(answering(b"{}")) as server:
        rig = Rig(environ={"OUR_KEY": ""}, base_url=server.base_url)
        await rig.fleet.start()
        await rig.fleet.aclose()
    assert server.requests == []


def test_an_upstream_that_wants_no_key_is_asked_without() -> None:
    assert Rig(environ={}, api_key_env=None).parked_by is None


# Probes


def test_a_probe_that_is_refused_has_the_upstream_asked_last_at_once_until_one_is_not() -> None:
    rig = Rig(health={"unhealthy_after": 3})
    rig.probed(ProbeResult.REFUSED_CREDENTIAL)
    assert rig.parked_by is None
    assert rig.away.begin(rig.clock.now_s) is None
    last = rig.away.begin_as_last(rig.clock.now_s)
    assert last is not None
    last.ignored(rig.clock.now_s)
    rig.probed(ProbeResult.HEALTHY)
    assert rig.away.begin(rig.clock.now_s) is not None


@pytest.mark.parametrize("kind", [UpstreamUnauthorized, UpstreamQuota])
def test_what_a_request_was_refused_for_is_not_over_because_a_probe_was_answered(kind: type[UpstreamError]) -> None:
    rig = Rig()
    rig.away.standing.park(kind("no", upstream="away"), rig.clock.now_s + 300.0)
    rig.probed(ProbeResult.HEALTHY)
    assert type(rig.parked_by) is kind
    assert rig.away.begin_as_last(rig.clock.now_s) is None


def test_probes_that_fail_in_a_row_keep_requests_away_and_one_that_does_not_brings_them_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rig = Rig(health={"unhealthy_after": 3})
    caplog.set_level(logging.WARNING)
    rig.probed(ProbeResult.DOWN, ProbeResult.DOWN, ProbeResult.HEALTHY, ProbeResult.DOWN, ProbeResult.DOWN)
    assert rig.away.standing.healthy
    assert caplog.messages == []
    rig.probed(ProbeResult.DOWN, ProbeResult.DOWN)
    assert rig.away.begin(rig.clock.now_s) is None
    rig.probed(ProbeResult.HEALTHY)
    assert rig.away.begin(rig.clock.now_s) is not None
    assert caplog.messages == [
        "away is not well, by its health probes", "away is well again, by its health probes",
    ]  # fmt: skip


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("handler", "unhealthy_after", "healthy"),
    [
        (answering(b'{"data": []}'), 1, True),
        (answering(b"", "503 Busy"), 1, False),
        (answering(b"", "401 No"), 3, False),
        (answering(b"", "403 No"), 3, True),
    ],
    ids=["well", "down", "refuses the key", "forbids the list"],
)
async def test_a_running_fleet_probes(handler: Handler, unhealthy_after: int, healthy: bool) -> None:
    async with model_server(handler) as server:
        rig = Rig(base_url=server.base_url, health={"unhealthy_after": unhealthy_after})
        await rig.fleet.start()
        async with asyncio.timeout(WAIT_S):
            await rig.fleet.probed.wait()
        await rig.fleet.aclose()
        await rig.fleet.aclose()
    assert f"authorization: bearer {KEY}".lower() in server.requests[0].lower()
    assert (rig.away.standing.healthy, rig.parked_by) == (healthy, None)


@pytest.mark.anyio
async def test_a_started_fleet_asks_its_upstreams() -> None:
    rig = Rig(engine=True, health={"interval_s": 0})
    engine = rig.fleet.engine
    assert engine is not None
    await rig.fleet.start()
    with pytest.raises(ConnectFailed):
        await engine.respond(request(), "own", total_s=5.0)
    await rig.fleet.aclose()
