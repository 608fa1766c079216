"""``genkan canary report``, on a real Redis."""

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from redis import Redis
from redis_servers import running_redis

from genkan.cli import main
from genkan.clock import SystemClock
from genkan.config import load
from genkan.gateway.answering_identity import answering_identities
from genkan.gateway.arm import Sample
from genkan.gateway.canary.configured import experiment_of
from genkan.gateway.canary.experiment import Experiment
from genkan.store.address import parse_address
from genkan.store.redis_canaries import RedisCanaries
from genkan.store.resp import RespClient

Use = Callable[[Experiment], Coroutine[None, None, None]]


class Served:
    """A Redis, the file of a configuration with two canaries, and what a server would tell it of the first."""

    def __init__(self, url: str, config: Path) -> None:
        self.url = url
        self.environ = {"GENKAN_CONFIG": str(config)}
        self._config = load(config, {})

    def use(self, what: Use) -> None:
        asyncio.run(self._use(what))

    def report(self, *arguments: str) -> Result:
        return CliRunner().invoke(main, ["canary", "report", *arguments], env=self.environ)

    async def _use(self, what: Use) -> None:
        client = RespClient(parse_address(self.url), connect_s=10, timeout_s=10)
        await client.start()
        try:
            store = RedisCanaries(client, prefix="genkan")
            route = self._config.routes[0]
            await what(experiment_of(route, answering_identities(self._config), store, SystemClock()))
        finally:
            await client.aclose()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with running_redis("embedded", tmp_path) as redis:
        config = tmp_path / "genkan.yaml"
        canary = {"model": "new", "min_requests": 60, "guards": {"ttft_ratio": None}}
        settings = {
            "redis": {"url": redis.url},
            "upstreams": [{"name": "o", "kind": "openai", "base_url": "https://h/v1"}],
            "models": [{"name": name, "upstream": "o"} for name in ("old", "new")],
            "routes": [
                {"alias": "team/chat", "chain": ["old"], "canary": canary},
                {"alias": "other", "chain": ["old"], "canary": {**canary, "mode": "shadow"}},
                {"alias": "none", "chain": ["old"]},
            ],
        }
        config.write_text(yaml.safe_dump(settings), encoding="utf-8")
        yield Served(redis.url, config)


def measured(number: int, canary_s: float) -> Use:
    """So many requests of each arm, of which the control's take a tenth of a second."""

    async def measure(experiment: Experiment) -> None:
        for nth in range(number):
            wobble = 1 + nth % 5 / 100
            for arm, seconds in ((experiment.control, 0.1), (experiment.canary, canary_s)):
                arm.ended(
                    Sample(
                        ok=True, seconds=seconds * wobble, is_stream=False, ttft_s=None, cost_nano_usd=1000, tokens=7
                    )
                )
        await experiment.sync()

    return measure


async def roll_back(experiment: Experiment) -> None:
    await experiment.override("rollback", "key_9")


def lines(result: Result) -> list[str]:
    assert (result.exit_code, result.stderr) == (0, "")
    return [" ".join(line.split()) for line in result.stdout.splitlines()]


def test_both_arms_are_told_side_by_side(served: Served) -> None:
    served.use(measured(50, 0.2))
    told = lines(served.report("team/chat"))
    assert told[:9] == [
        "team/chat: running, 10 % of requests",
        "control canary",
        "model old new",
        "samples 50 50",
        "errors 0.00% 0.00%",
        "avg ms 102.0 204.0",
        "ttft ms - -",
        "cost $ 0.000001000 0.000001000",
        "tokens 7.0 7.0",
    ]
    assert told[9:12] == [
        "100.0 % slower on average",
        "guard limit seen at least at most",
        next(line for line in told if line.startswith("error_rate 0.0050 0.0000 -0.")),
    ]
    assert told[12].startswith("latency_ratio 1.1000 2.0000 1.")


def test_what_was_decided_is_told_with_its_reason_and_who_did_it(served: Served) -> None:
    served.use(measured(70, 0.2))
    served.use(roll_back)
    told = lines(served.report("team/chat"))
    assert told[0] == "team/chat: rolled back, 0 % of requests"
    overridden, decided = told[-2:]
    assert overridden.endswith("+00:00 rollback of new by key_9")
    assert decided.endswith("rollback of new by auto, for its latency_ratio")


def test_without_a_name_all_are_told(served: Served) -> None:
    told = lines(served.report())
    assert [line for line in told if ": " in line] == [
        "team/chat: running, 10 % of requests",
        "other: running, in the shadow",
    ]


def test_json_is_what_the_server_gives(served: Served) -> None:
    served.use(measured(10, 0.1))
    one = json.loads(served.report("team/chat", "--json").stdout)
    assert (one["canary_samples"], one["state"], one["audit"]) == (10, "running", [])
    every = json.loads(served.report("--json").stdout)
    assert (every["object"], [found["route"] for found in every["data"]]) == ("list", ["team/chat", "other"])
    assert every["data"][0] == one


def test_it_decides_nothing(served: Served) -> None:
    async def enough(experiment: Experiment) -> None:
        await measured(59, 0.2)(experiment)
        experiment.config = experiment.config.model_copy(update={"min_requests": 10**6})
        await measured(20, 0.2)(experiment)

    served.use(enough)
    found = json.loads(served.report("team/chat", "--json").stdout)
    assert (found["verdict"], found["state"], found["decision"], found["audit"]) == ("worse", "running", None, [])


def test_it_leaves_nothing_of_its_own(served: Served) -> None:
    served.use(measured(10, 0.1))
    with Redis.from_url(served.url) as redis:
        before = redis.keys("*:worker:*")
        assert len(before) == 1
        assert served.report("team/chat").exit_code == 0
        assert redis.keys("*:worker:*") == before


def test_a_route_without_one_is_a_usage_error(served: Served) -> None:
    result = served.report("none")
    assert result.exit_code == 2
    assert "no canary on a route with the name 'none'" in result.stderr


def test_without_redis_it_says_so(served: Served, tmp_path: Path) -> None:
    config = yaml.safe_load((tmp_path / "genkan.yaml").read_text())
    for url, says in (("memory", "keeps nothing outside"), ("redis://127.0.0.1:1", "cannot be reached")):
        path = tmp_path / "other.yaml"
        path.write_text(yaml.safe_dump({**config, "redis": {"url": url}}), encoding="utf-8")
        result = CliRunner().invoke(main, ["canary", "report"], env={"GENKAN_CONFIG": str(path)})
        assert (result.exit_code, says in result.stderr) == (2, True)
