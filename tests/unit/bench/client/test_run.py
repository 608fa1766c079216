"""A whole run against a server on this machine, in both loops, and one that is broken off."""

import asyncio
import json
import resource
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from genkan.bench.client import run
from genkan.bench.client.figures import Objective
from genkan.bench.client.outcome import Outcome, Seen
from genkan.bench.client.preflight import CannotMeasure
from genkan.bench.client.prompts import STORED, Prompts
from genkan.bench.client.run import Load, Plan, Run, max_in_flight
from genkan.bench.client.target import parse_target
from genkan.bench.fake_upstream import FakeUpstream
from genkan.clock import SystemClock


@pytest.fixture
async def port() -> AsyncIterator[int]:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: FakeUpstream(loop), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def plan(port: int, load: Load, prompts: Prompts | None = None, **changes: Any) -> Plan:
    settings: dict[str, Any] = {
        "target": parse_target(f"http://127.0.0.1:{port}"),
        "prompts": prompts or Prompts(),
        "model": None,
        "load": load,
        "objective": Objective(),
        "timeout_s": 10.0,
        "warm_up": 2,
        "key_env": "KEY",
        "command": "genkan bench",
    }
    return Plan(**(settings | changes))


@pytest.mark.anyio
@pytest.mark.parametrize("load", [Load(rate=500.0, requests=20), Load(concurrency=4, requests=20)])
async def test_every_request_is_counted_and_the_warm_up_is_not(port: int, load: Load) -> None:
    made = Run(plan(port, load, Prompts(arms=STORED)), SystemClock())
    await made.make()
    result = made.result()
    assert {arm: found["requests"] for arm, found in result["arms"].items()} == {"cached": 10, "uncached": 10}
    assert (result["error_rate"], result["model"], result["load"]) == (0, "fake-model", str(load))
    assert set(result["client"]) == {"busy", "loop_lag_p99_ms", "send_delay_p99_ms", "faults"}
    json.dumps(result)


@pytest.mark.anyio
async def test_nothing_is_measured_where_the_check_fails() -> None:
    nobody = Run(plan(1, Load(requests=5), model="m"), SystemClock())  # a port that nobody may listen on
    with pytest.raises(CannotMeasure, match="cannot connect"):
        await nobody.make()
    assert nobody.outcomes == []


@pytest.mark.anyio
async def test_a_run_in_which_nothing_was_due_is_none(port: int) -> None:
    made = Run(plan(port, Load(rate=1e-6, duration_s=0.01), Prompts(seed=1)), SystemClock())
    with pytest.raises(CannotMeasure, match="no request was due"):
        await made.make()


@pytest.mark.anyio
async def test_more_clients_than_connections_are_refused_and_not_counted_as_errors(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "max_in_flight", lambda: 7)
    with pytest.raises(CannotMeasure, match=r"--concurrency 8: .* 7 connections"):
        await Run(plan(port, Load(concurrency=8, requests=8)), SystemClock()).make()


def test_a_report_that_cannot_be_written_is_told_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotMeasure, match=r"there can be no report in .*Not a directory"):
        run.run(plan(1, Load(requests=5)), tmp_path / "file" / "out")


class BrokenOff:
    """In place of the event loop's runner: runs, and is then interrupted."""

    def __init__(self, *, soon: bool) -> None:
        self._soon = soon

    def __call__(self, making: Coroutine[Any, Any, None]) -> None:
        if self._soon:
            making.close()
        else:
            asyncio.run(making)
        raise KeyboardInterrupt


def test_what_had_ended_before_an_interruption_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def made(self: Run) -> None:
        self.outcomes.append(Outcome("all", 0.0, 0.0, Seen(ended_s=1.0)))

    monkeypatch.setattr(Run, "make", made)
    monkeypatch.setattr(uvloop, "run", BrokenOff(soon=False))
    assert run.run(plan(1, Load(requests=5)), None) == 0.0
    out = capsys.readouterr().out
    assert "Interrupted: these are the requests that had ended." in out
    assert json.loads(out.splitlines()[-1])["interrupted"] is True


def test_an_interruption_before_anything_ended_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uvloop, "run", BrokenOff(soon=True))
    with pytest.raises(KeyboardInterrupt):
        run.run(plan(1, Load(requests=5)), None)


def test_there_is_room_for_as_many_as_the_system_gives() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        assert 1 <= max_in_flight() <= before[1]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
