"""The embedded Redis of a real server: there as long as the server is, and no longer; its data longer than both."""

import os
import signal
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
import redis
from e2e.live_server import READY_S, STOP_S, LiveServer, doomed_server, running_server, wait_until, without_engine
from redis_servers import answers


def environ(folder: Path) -> dict[str, str]:
    """Without an engine, which these tests do not need."""
    return {"GENKAN_CONFIG": str(without_engine(folder)), "GENKAN__SERVER__WORKERS": "2"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[LiveServer, None, None]:
    """A ready server for all tests that leave it well; afterwards it ends cleanly."""
    with running_server(environ(tmp_path_factory.mktemp("server"))) as server:
        yield server


@pytest.fixture
def doomed(tmp_path: Path) -> Generator[LiveServer, None, None]:
    """One of the test's own."""
    with doomed_server(environ(tmp_path)) as server:
        yield server


def published_url(server: LiveServer) -> str:
    return (server.folder / "data" / "redis.url").read_text()


def ask(url: str, *command: str) -> Any:
    with redis.Redis.from_url(url, decode_responses=True) as client:
        return client.execute_command(*command)


def redis_pids(server: LiveServer) -> list[int]:
    return [pid for pid in server.processes() if program(pid) == "redis-server"]


def program(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""  # gone meanwhile


def test_all_workers_have_one_redis(server: LiveServer) -> None:
    url = published_url(server)
    (redis_pid,) = redis_pids(server)
    assert ask(url, "INFO", "server")["process_id"] == redis_pid
    workers = [pid for pid in server.processes() if pid not in (server.pid, redis_pid)]
    assert len(workers) >= 2
    told = f"GENKAN_REDIS_URL={url}".encode()
    assert all(told in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") for pid in workers)


def sigterm(server: LiveServer) -> None:
    os.kill(server.pid, signal.SIGTERM)


def ctrl_c(server: LiveServer) -> None:
    """As a terminal does it: to everyone in the foreground."""
    os.killpg(server.pid, signal.SIGINT)


def kill_9(server: LiveServer) -> None:
    os.kill(server.pid, signal.SIGKILL)


@pytest.mark.parametrize("end", [sigterm, ctrl_c, kill_9])
def test_it_ends_with_the_server_and_its_data_are_there_for_the_next(
    doomed: LiveServer, end: Callable[[LiveServer], None]
) -> None:
    url = published_url(doomed)
    ask(url, "SET", "a", "1")
    end(doomed)
    doomed.wait_gone()
    doomed.assert_clean_log()
    doomed.start()
    doomed.wait_ready()
    again = published_url(doomed)
    assert ask(again, "GET", "a") == "1"
    assert again != url
    assert not Path(url.removeprefix("unix://")).parent.exists()


def has_ended_on_sigterm(server: LiveServer) -> bool:
    """Asks again each time: BentoML's arbiter may overlook a signal that comes while it starts workers."""
    server.process.send_signal(signal.SIGTERM)
    return server.process.poll() is not None


def test_a_server_that_is_ended_while_it_starts_leaves_nothing_running(tmp_path: Path) -> None:
    server = LiveServer(env={"GENKAN_CONFIG": str(without_engine(tmp_path))})
    try:
        server.start()
        wait_until(lambda: bool(redis_pids(server)), READY_S, "Redis has been started")
        wait_until(lambda: has_ended_on_sigterm(server), STOP_S, "the server has ended")
        server.wait_gone()
    finally:
        server.destroy()


def test_a_worker_that_still_starts_when_its_server_is_killed_ends_too(tmp_path: Path) -> None:
    server = LiveServer(env={"GENKAN_CONFIG": str(without_engine(tmp_path))})
    try:
        server.start()
        wait_until(lambda: len(server.processes()) > 2, READY_S, "a worker has been started")
        kill_9(server)
        server.wait_gone()
    finally:
        server.destroy()


def test_a_server_that_cannot_start_leaves_nothing_running(server: LiveServer, tmp_path: Path) -> None:
    second = LiveServer(env={"GENKAN_CONFIG": str(without_engine(tmp_path))}, port=server.port)
    try:
        second.start()
        assert second.process.wait(STOP_S) not in (0, None)
        wait_until(lambda: not second.processes(), STOP_S, "nothing of the second is left")
        assert not (second.folder / "data" / "redis.url").exists()
    finally:
        second.destroy()
    assert server.ready()


def test_one_that_is_killed_comes_back_where_it_was(server: LiveServer) -> None:
    url = published_url(server)
    ask(url, "SET", "a", "1")
    (pid,) = redis_pids(server)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: answers(Path(url.removeprefix("unix://"))), STOP_S, "Redis is back")
    assert ask(url, "GET", "a") == "1"
    assert [pid] != redis_pids(server)
    assert "the embedded Redis has died" in server.log
    assert server.ready()


def test_a_second_server_on_its_data_is_refused(server: LiveServer, tmp_path: Path) -> None:
    folder = server.folder / "data"
    second = LiveServer(env={"GENKAN_CONFIG": str(without_engine(tmp_path)), "GENKAN__REDIS__DATA_DIR": str(folder)})
    try:
        second.start()
        assert second.process.wait(STOP_S) not in (0, None)
        assert f"{folder} is in use by process {server.pid}" in second.log
        assert "Traceback" not in second.log
        wait_until(lambda: not second.processes(), STOP_S, "nothing of the second is left")
    finally:
        second.destroy()
    assert ask(published_url(server), "PING") is True
    assert server.ready()
