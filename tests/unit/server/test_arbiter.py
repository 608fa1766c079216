"""The order in which a server ends, and that its dead are replaced: circus's own arbiter, without processes."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from bentoml._internal.utils import circus as bentos
from circus.process import DEAD_OR_ZOMBIE

from genkan.config import Config
from genkan.config.drain import DrainConfig
from genkan.server.arbiter import CHECK_S, LAST_WORDS_S, OrderlyArbiter, install, lead
from genkan.server.drain import FILE_VARIABLE, DrainPage, page_path

pytestmark = pytest.mark.anyio


class Watcher:
    """A service's workers: it says when it is stopped."""

    def __init__(self, name: str, told: list[str]) -> None:
        self.name = name
        self.respawn = False
        self.graceful_timeout = 86_400.0
        self.processes: dict[int, Any] = {1: SimpleNamespace(status="running")}
        self._told = told

    async def _stop(self) -> None:
        await asyncio.sleep(0)
        self._told.append(f"{self.name} has stopped")


class Port:
    def __init__(self, told: list[str]) -> None:
        self._told = told

    def shutdown(self, how: int) -> None:
        self._told.append("the port is closed")


class Rig:
    """An arbiter whose super class only says what it is asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **drain: float) -> None:
        self.told: list[str] = []
        self.now_s = 0.0
        self.page = DrainPage.private()
        self.watchers = [Watcher("service_genkan_engine", self.told), Watcher("service", self.told)]
        rig = self

        def init(arbiter: Any, watchers: list[Any], **kwargs: Any) -> None:
            arbiter.watchers, arbiter.sockets = watchers, {"_bento_api_server": Port(rig.told)}
            arbiter.check_delay, arbiter._exclusive_running_command = kwargs["check_delay"], None

        async def stop(_: Any) -> None:
            rig.told.append("all has stopped")

        monkeypatch.setattr(bentos.Arbiter, "__init__", init)
        monkeypatch.setattr(bentos.Arbiter, "stop", stop)
        monkeypatch.setattr(bentos.Arbiter, "manage_watchers", lambda _: rig.told.append("the dead are replaced"))
        self.arbiter: Any = OrderlyArbiter(
            self.watchers, page=self.page, drain=DrainConfig(**drain), clock=lambda: self.now_s, check_delay=10
        )


async def test_the_gateway_ends_before_what_it_asks_and_its_port_before_that(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(monkeypatch)
    await rig.arbiter.stop()
    assert rig.told == ["the port is closed", "service has stopped", "all has stopped"]
    assert rig.page.is_draining


async def test_asked_twice_it_stops_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(monkeypatch)
    assert rig.arbiter.stop() is rig.arbiter.stop()
    await rig.arbiter.stop()
    assert rig.told.count("all has stopped") == 1


async def test_it_waits_until_workers_are_no_longer_being_started(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(monkeypatch)
    rig.arbiter._exclusive_running_command = "arbiter_start_watchers"
    stopping = asyncio.ensure_future(rig.arbiter.stop())
    await asyncio.sleep(0)
    assert (rig.told, rig.page.is_draining) == ([], True)
    rig.arbiter._exclusive_running_command = None
    await stopping
    assert rig.told[-1] == "all has stopped"


async def test_while_it_lingers_the_port_is_open_and_it_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(monkeypatch, linger_s=0.05)
    stopping = asyncio.ensure_future(rig.arbiter.stop())
    await asyncio.sleep(0)
    assert (rig.told, rig.page.is_draining) == ([], True)
    await stopping
    assert rig.told[0] == "the port is closed"


def test_workers_are_replaced_and_have_their_grace_and_some_more(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(monkeypatch, grace_s=7.0)
    assert rig.arbiter.check_delay == CHECK_S
    for watcher in rig.watchers:
        assert (watcher.respawn, watcher.graceful_timeout) == (True, 7.0 + LAST_WORDS_S)


def test_those_that_keep_dying_are_not_started_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(monkeypatch)
    rig.watchers[0].processes[1].status = DEAD_OR_ZOMBIE
    for _ in range(20):
        rig.arbiter.manage_watchers()
        rig.now_s += 1.0
    assert len(rig.told) < 6


def test_while_circus_does_something_else_it_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(monkeypatch)
    rig.arbiter._exclusive_running_command = "arbiter_start_watchers"
    assert rig.arbiter.manage_watchers() is None
    assert rig.told == []


def test_bentoml_makes_ours_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bentos, "Arbiter", bentos.Arbiter)
    install(DrainPage.private(), DrainConfig())
    assert issubclass(bentos.Arbiter, OrderlyArbiter)


def test_workers_are_told_where_the_page_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bentos, "Arbiter", bentos.Arbiter)
    environ: dict[str, str] = {}
    lead(_config(tmp_path), environ)
    assert environ == {FILE_VARIABLE: str(page_path(tmp_path))}
    with pytest.raises(FileExistsError):
        lead(_config(tmp_path), {FILE_VARIABLE: str(page_path(tmp_path))})


def test_where_the_data_folder_cannot_be_written_workers_share_a_page_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(bentos, "Arbiter", bentos.Arbiter)
    (tmp_path / "file").touch()
    environ: dict[str, str] = {}
    lead(_config(tmp_path / "file"), environ)
    assert DrainPage.open(Path(environ[FILE_VARIABLE])).begin(1.0)
    assert "will not find this server" in caplog.text


def _config(data_dir: Path) -> Config:
    return Config.model_validate(
        {
            "redis": {"data_dir": str(data_dir)},
            "upstreams": [{"name": "e", "kind": "engine"}],
            "models": [{"name": "m", "upstream": "e"}],
        }
    )
