"""The servers that are compared: each comes up, answers what is asked of it, and is on its core."""

import asyncio
import json
import os
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from genkan.bench import gateway_arms
from genkan.bench.cores import divide
from genkan.bench.gateway_arms import Arm, ArmName, serving
from genkan.bench.http_load import connected
from genkan.config import Config

FAST_ARMS: tuple[ArmName, ...] = ("direct", "raw_asgi", "bento_empty")


async def answered(arm: Arm, *, stream: bool, number: int) -> int:
    """Calls that were answered right; ``Load.run`` raises for others."""
    async with connected(arm.server.port, 3) as load:
        return len((await load.run(islice(arm.calls(stream=stream), number))).latency_s)


def test_every_arm_answers_both_ways_from_its_core() -> None:
    cores = divide()
    with serving(FAST_ARMS, cores) as arms:
        assert [arm.name for arm in arms] == list(FAST_ARMS)
        for arm in arms:
            where = cores.load if arm.name == "direct" else cores.server
            assert all(os.sched_getaffinity(pid) == where for pid in arm.server.processes())
            for stream in (False, True):
                assert asyncio.run(answered(arm, stream=stream, number=30)) == 30
    assert [arm.server.processes() for arm in arms] == [[], [], []]


def test_no_two_requests_are_alike() -> None:
    with serving(["direct"], divide()) as [arm]:
        calls = list(islice(arm.calls(stream=False), 100))
    assert len({call.request for call in calls}) == 100


@pytest.mark.parametrize(
    ("settings_of_its_own", "names"),
    [
        (gateway_arms._LEDGER | gateway_arms._LIMITS, {"limits", "prices"}),
        (gateway_arms._LEDGER, {"prices"}),
        (gateway_arms._BARE, {"redis", "ledger"}),
    ],
    ids=["limited", "unlimited", "bare"],
)
def test_genkan_gets_the_upstream_and_its_settings_and_nothing_else_of_its_own(
    settings_of_its_own: dict[str, Any], names: set[str]
) -> None:
    command = gateway_arms.genkan_command("genkan", "http://127.0.0.1:1", settings_of_its_own)
    settings = json.loads(command.files["genkan.yaml"])
    assert settings.keys() == {"upstreams", "models", "routes"} | names
    [upstream] = settings["upstreams"]
    assert len(command.environ[upstream["api_key_env"]]) >= 20
    assert Path(command.environ["GENKAN_CONFIG"]).name in command.files
    Config.model_validate(settings)
