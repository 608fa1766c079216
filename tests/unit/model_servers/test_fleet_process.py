"""The process of the model servers, with the stand-in for a program; as a whole it is shown by tests/e2e."""

import asyncio
import json
import os
import socket
import stat
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from e2e.live_server import free_port, wait_until
from prometheus_client import CollectorRegistry
from served import served_config

from genkan.errors import ConfigError
from genkan.model_servers.fleet_process import ModelServersProcess, check_servers, only_served
from genkan.server.drain import DrainPage, Report

pytestmark = pytest.mark.anyio
STAND_IN = Path(__file__).parents[2] / "model_server_stand_in.py"
KEY = "sk-of-our-own-server-4d1c"
LIMIT_S = 20.0


def process(
    tmp_path: Path,
    kind: str = "vllm",
    page: DrainPage | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    **serve: Any,
) -> ModelServersProcess:
    settings = {
        "model": "m",
        "command": [sys.executable, str(STAND_IN)],
        "port": free_port(),
        "health_interval_s": 0.05,
        "backoff_s": 0.05,
        "stop_timeout_s": 5.0,
        **serve,
    }
    config = served_config({"name": "v", "kind": kind, "api_key_env": "KEY", "serve": settings})
    environ = {**os.environ, "KEY": KEY, "STAND_IN_FOLDER": str(tmp_path)}
    return ModelServersProcess(config, page or DrainPage.private(), environ, registry=CollectorRegistry(), sleep=sleep)


async def until(condition: Callable[[], bool]) -> None:
    """A process tells of itself by files, lines and answers; nobody sets an event."""
    await asyncio.to_thread(wait_until, condition, LIMIT_S, "the servers are so far")


def report(tmp_path: Path) -> dict[str, Any]:
    [path] = tmp_path.glob("*.json")
    return dict(json.loads(path.read_text(encoding="utf-8")))


def has_begun(tmp_path: Path) -> bool:
    return any(tmp_path.iterdir())


def mode_and_text(path: Path) -> tuple[int, str]:
    return stat.S_IMODE(path.stat().st_mode), path.read_text(encoding="utf-8")


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_sglangs_key_is_in_a_file_that_only_we_can_read_and_that_does_not_stay(tmp_path: Path) -> None:
    servers = process(tmp_path, "sglang")
    await servers.start()
    await until(lambda: servers.ready)
    said = report(tmp_path)
    path = Path(said["argv"][said["argv"].index("--config") + 1])
    assert KEY not in " ".join(said["argv"]) + " ".join(said["environ"].values())
    assert mode_and_text(path) == (0o600, f'api-key: "{KEY}"\n')
    await servers.aclose()
    assert not path.parent.exists()
    assert not is_alive(said["pid"])
    assert not is_alive(said["core"])


async def test_what_ends_as_soon_as_it_is_started_is_started_again_until_it_does_not(tmp_path: Path) -> None:
    (tmp_path / "refuse").touch()
    servers = process(tmp_path)
    await servers.start()
    await until(lambda: servers.keepers[0].starts >= 3)
    assert not servers.ready
    (tmp_path / "refuse").unlink()
    await until(lambda: servers.ready)
    await servers.aclose()
    assert not servers.ready


async def test_a_program_that_is_not_there_can_be_waited_for_and_stopped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    servers = process(tmp_path, command=["/nowhere/vllm"])
    with caplog.at_level("INFO", logger="genkan.model_servers"):
        await servers.start()
        await until(lambda: "v: cannot run /nowhere/vllm: No such file or directory" in caplog.messages)
    await servers.aclose()


async def test_who_has_its_port_already_is_not_taken_for_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        servers = process(tmp_path, port=port)
        await servers.start()
        await until(lambda: f"v cannot be started: another program listens at port {port}" in caplog.messages)
        assert not has_begun(tmp_path)
    await until(lambda: servers.ready)
    await servers.aclose()


async def test_one_that_does_not_start_in_time_is_killed_and_started_again(tmp_path: Path) -> None:
    (tmp_path / "slow").touch()
    servers = process(tmp_path, start_timeout_s=0.5)
    await servers.start()
    await until(lambda: servers.keepers[0].starts >= 2)
    await servers.aclose()


async def test_it_ends_its_servers_only_when_the_gateways_have_answered(tmp_path: Path) -> None:
    page = DrainPage.private()
    page.report(0, Report(os.getpid(), requests=1, connections=1, is_draining=False))
    looks = asyncio.Queue[float]()
    go_on = asyncio.Event()

    async def look_again(seconds: float) -> None:
        looks.put_nowait(seconds)
        await go_on.wait()

    servers = process(tmp_path, page=page, sleep=look_again)
    await servers.start()
    await until(lambda: servers.ready)
    closing = asyncio.create_task(servers.aclose())
    await looks.get()  # it has looked, and seen that a request is under way
    assert servers.ready
    page.leave(0)
    go_on.set()
    async with asyncio.timeout(LIMIT_S):
        await closing
    assert not servers.ready


def test_what_cannot_be_served_is_told_before_anything_is_started() -> None:
    config = served_config({"name": "v", "api_key_env": "KEY", "serve": {"model": "m"}})
    with pytest.raises(ConfigError, match="is not set"):
        check_servers(config, {})


def test_a_gateway_that_has_anything_else_need_not_wait_for_its_servers() -> None:
    ours = {"name": "v", "serve": {"model": "m"}}
    assert only_served(served_config(ours))
    assert not only_served(served_config(ours, {"name": "w", "base_url": "http://h/v1"}))
