"""A server of two workers that is drained, and one that is stopped while it has something to do."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from e2e.counting_gateway import GENKAN, SOON_S, model, there
from e2e.live_server import LiveServer, wait_until
from faults.process import RunningUpstream, running_upstream
from redis_servers import running_redis

WORKERS = 2
NOTICE_S, GRACE_S, LINGER_S = 0.3, 1.5, 3.0
BACK_S = 60.0  # two servers' start, on a machine that may be slow
_NO_REUSE = httpx.Limits(max_keepalive_connections=0)
NAMES = ("ok", "slow-ok", "stalled-after-40")


class Drained:
    """A server, and commands on its machine that have its environment."""

    def __init__(self, server: LiveServer, upstream: RunningUpstream, environ: Mapping[str, str]) -> None:
        self.server = server
        # There is no TLS here, and its certificates take longer to load than all the rest.
        self.http = httpx.Client(base_url=server.base_url, timeout=30, trust_env=False, verify=False, limits=_NO_REUSE)
        self.upstream = upstream
        self._environ = {**environ, "GENKAN__REDIS__DATA_DIR": str(server.folder / "data")}

    def genkan(self, *line: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [GENKAN, *line], env={**os.environ, **self._environ}, capture_output=True, text=True, check=False
        )

    def get(self, path: str) -> httpx.Response:
        """On a connection of its own, which the kernel gives to any worker."""
        return self.http.get(path)

    def statuses(self, path: str) -> set[int]:
        return {self.get(path).status_code for _ in range(20)}

    def ask(self, name: str, *, stream: bool = False) -> httpx.Response:
        body = {"model": name, "stream": stream, "messages": [{"role": "user", "content": "Count."}]}
        return self.http.post("/v1/chat/completions", json=body)

    def undo(self) -> None:
        self.http.delete("/admin/drain").raise_for_status()

    def all_draining(self) -> bool:
        workers = self.get("/admin/drain").json()["workers"]
        return len(workers) == WORKERS and all(worker["draining"] for worker in workers)

    def pids(self) -> set[int]:
        return {worker["pid"] for worker in self.get("/admin/drain").json()["workers"]}

    def has_asked(self, name: str) -> bool:
        return bool(self.upstream.attempts(name))


@contextmanager
def starting(folder: Path, redis_url: str = "embedded", **drain: float) -> Generator[Drained, None, None]:
    with running_upstream() as upstream:
        path = folder / "genkan.yaml"
        settings: dict[str, Any] = {
            "redis": {"url": redis_url},
            "server": {"workers": WORKERS, "drain": {"notice_s": NOTICE_S, "grace_s": GRACE_S, **drain}},
            "upstreams": [there(upstream)],
            "models": [model(name, name) for name in NAMES],
        }
        path.write_text(yaml.safe_dump(settings), encoding="utf-8")
        environ = {"GENKAN_CONFIG": str(path)}
        server = LiveServer(env=environ)
        try:
            server.start()
            server.wait_ready()
            drained = Drained(server, upstream, environ)
            wait_until(lambda: len(drained.get("/admin/drain").json()["workers"]) == WORKERS, SOON_S, "both workers")
            yield drained
            drained.http.close()
        finally:
            server.destroy()


@pytest.fixture(scope="module")
def drained(tmp_path_factory: pytest.TempPathFactory) -> Generator[Drained, None, None]:
    with starting(tmp_path_factory.mktemp("drain")) as drained:
        yield drained
        drained.server.stop()


@pytest.fixture(autouse=True)
def forget(request: pytest.FixtureRequest) -> None:
    if "drained" in request.fixturenames:
        drained: Drained = request.getfixturevalue("drained")
        drained.upstream.reset()


def test_no_worker_is_ready_at_once_all_serve_and_answers_end_their_connections(drained: Drained) -> None:
    assert drained.statuses("/readyz") == {200}
    said = drained.genkan("drain")
    assert (said.returncode, said.stdout) == (0, "drains\n")
    try:
        assert drained.statuses("/readyz") == {503}
        assert drained.statuses("/livez") == {200}
        wait_until(drained.all_draining, SOON_S, "both workers have seen it")
        assert drained.server.metric("genkan_draining") == 1
        for path in ("/v1/models", "/livez", "/nowhere"):
            assert drained.get(path).headers["connection"] == "close"
        assert drained.ask("ok").status_code == 200
        assert drained.genkan("drain").stdout == "drains already\n"
    finally:
        said = drained.genkan("drain", "--undo")
    assert (said.returncode, said.stdout) == (0, "serves as before\n")
    assert drained.genkan("drain", "--undo").stdout == "did not drain\n"
    assert drained.statuses("/readyz") == {200}
    wait_until(lambda: "connection" not in drained.get("/livez").headers, SOON_S, "connections are kept again")


def test_an_administrator_drains_and_undoes_it_over_http(drained: Drained) -> None:
    begun = drained.http.post("/admin/drain").json()
    try:
        assert begun["draining"] is True
        assert abs(begun["since"] - time.time()) < SOON_S
        assert drained.statuses("/readyz") == {503}
        assert drained.http.post("/admin/drain", json={}).json()["since"] == begun["since"]
    finally:
        undone = drained.http.delete("/admin/drain").json()
    assert (undone["draining"], undone["since"]) == (False, None)
    assert drained.statuses("/readyz") == {200}


def test_waiting_ends_when_what_was_under_way_has_ended(drained: Drained) -> None:
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(drained.ask, "slow-ok")
        wait_until(lambda: drained.has_asked("slow-ok"), SOON_S, "it is under way")
        try:
            said = drained.genkan("drain", "--wait")
            assert (said.returncode, asked.done()) == (0, True), said
            assert "nothing is under way" in said.stdout
        finally:
            drained.undo()
        assert asked.result().status_code == 200


def test_waiting_ends_with_its_timeout_and_says_what_is_left(drained: Drained) -> None:
    body = {"model": "stalled-after-40", "stream": True, "messages": [{"role": "user", "content": "Count."}]}
    with drained.http.stream("POST", "/v1/chat/completions", json=body) as stream:
        lines = stream.iter_lines()
        assert next(lines).startswith("data: ")
        try:
            said = drained.genkan("drain", "--wait", "--timeout", "0.5")
        finally:
            drained.undo()
    assert (said.returncode, said.stderr.split()[:2]) == (1, ["1", "requests"]), said


def test_without_a_server_there_is_nothing_to_drain(drained: Drained, tmp_path: Path) -> None:
    elsewhere = Drained(drained.server, drained.upstream, {"GENKAN_CONFIG": os.environ.get("GENKAN_CONFIG", "")})
    elsewhere._environ["GENKAN__REDIS__DATA_DIR"] = str(tmp_path)
    said = elsewhere.genkan("drain", "--wait")
    assert said.returncode == 1
    assert "no server runs" in said.stderr


def test_killed_workers_are_not_waited_for_and_those_in_their_places_drain_too(drained: Drained) -> None:
    body = {"model": "stalled-after-40", "stream": True, "messages": [{"role": "user", "content": "Count."}]}
    with drained.http.stream("POST", "/v1/chat/completions", json=body) as stream, ThreadPoolExecutor() as pool:
        assert next(stream.iter_lines()).startswith("data: ")
        killed = drained.pids()
        said = pool.submit(drained.genkan, "drain", "--wait", "--timeout", str(SOON_S))
        wait_until(drained.all_draining, SOON_S, "both workers have seen it")
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        assert said.result().returncode == 0, said.result()
    try:
        wait_until(lambda: drained.all_draining() and not drained.pids() & killed, BACK_S, "two others, that drain")
        assert drained.statuses("/readyz") == {503}
    finally:
        drained.undo()
    wait_until(lambda: drained.statuses("/readyz") == {200}, SOON_S, "they serve")


def test_sigterm_leaves_time_to_go_elsewhere_and_what_outlasts_the_grace_ends_in_words_and_is_billed(
    tmp_path: Path,
) -> None:
    with (
        running_redis("embedded", tmp_path) as redis,
        starting(tmp_path, redis.url, linger_s=LINGER_S) as drained,
        ThreadPoolExecutor() as pool,
    ):
        server = drained.server
        whole = pool.submit(drained.ask, "stalled-after-40")
        stream = pool.submit(drained.ask, "stalled-after-40", stream=True)
        wait_until(lambda: len(drained.upstream.attempts("stalled-after-40")) == 2, SOON_S, "both are under way")
        told_s = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: drained.get("/readyz").status_code == 503, LINGER_S, "it is not ready any more")
        assert drained.ask("ok").status_code == 200, "while it lingers it serves"
        wait_until(lambda: _refuses(drained), LINGER_S + GRACE_S, "new connections are refused, not kept waiting")
        server.wait_gone()
        took_s = time.monotonic() - told_s - LINGER_S
        server.assert_clean_log()
        assert GRACE_S - 0.2 < took_s < GRACE_S + 2 + SOON_S / 4  # a machine may be slow; by itself it takes 0.7 s
        _ended_in_words(drained, whole.result(), stream.result())


def _ended_in_words(drained: Drained, whole: httpx.Response, stream: httpx.Response) -> None:
    assert whole.status_code == 503
    assert whole.json()["error"]["code"] == "server_shutting_down"
    events = [line for line in stream.text.splitlines() if line]
    assert events[-1] == "data: [DONE]"
    assert json.loads(events[-2].removeprefix("data: "))["error"]["code"] == "server_shutting_down"
    said = drained.genkan("ledger", "export")
    rows = [json.loads(line) for line in said.stdout.splitlines()]
    assert [row["stream"] for row in rows].count(True) == 1, said
    (billed,) = (row for row in rows if row["stream"])
    assert billed["id"] == stream.headers["x-request-id"]
    assert billed["usage"]["completion"] >= 40
    assert len({row["id"] for row in rows}) == len(rows)


def _refuses(drained: Drained) -> bool:
    try:
        drained.get("/livez")
    except httpx.ConnectError:
        return True
    except (httpx.ReadError, httpx.RemoteProtocolError):  # it came in the moment in which the port was closed
        return False
    return False
