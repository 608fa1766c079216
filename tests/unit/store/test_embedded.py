"""The embedded Redis: real processes, and every way in which they end."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis_servers import running_redis

from genkan.config import Config
from genkan.errors import ConfigError
from genkan.store import embedded as embedded_redis
from genkan.store import redis_process
from genkan.store.embedded import EmbeddedRedis, redis_for_cli

WAIT_S = 15.0


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def embedded(data_dir: Path) -> Generator[EmbeddedRedis, None, None]:
    """Not started yet; stopped in the end."""
    embedded = EmbeddedRedis(data_dir)
    yield embedded
    embedded.stop()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting for a folder that is in use and will be."""
    monkeypatch.setattr(embedded_redis, "_LOCK_S", 0.1)


def ask(url: str, *command: str) -> Any:
    with redis.Redis.from_url(url, decode_responses=True) as client:
        return client.execute_command(*command)


def socket_of(url: str) -> Path:
    return Path(url.removeprefix("unix://"))


def pid_of(url: str) -> int:
    return int(ask(url, "INFO", "server")["process_id"])


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline_s, f"not within {WAIT_S:g} s: {what}"
        time.sleep(0.005)


def is_gone(pid: int) -> bool:
    """A zombie counts as gone: it has ended, and waits for whoever inherited it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_it_answers_on_a_private_socket_only_and_is_set_up_to_keep_what_it_is_told(
    embedded: EmbeddedRedis, data_dir: Path
) -> None:
    url = embedded.start()
    settings = {name: ask(url, "CONFIG", "GET", name)[name] for name in ("port", "appendonly", "appendfsync", "save")}
    assert settings == {"port": "0", "appendonly": "yes", "appendfsync": "everysec", "save": ""}
    assert ask(url, "CONFIG", "GET", "maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    path = socket_of(url)
    assert len(os.fsencode(path)) <= 100
    private = [path, path.parent, data_dir, data_dir / "redis", data_dir / "redis.url", data_dir / "lock"]
    assert [stat.S_IMODE(entry.stat().st_mode) & 0o077 for entry in private] == [0] * len(private)


def test_it_inherits_none_of_our_secrets_and_no_interrupt_of_the_terminal(
    embedded: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AN_UPSTREAM_KEY", "sk-canary")
    pid = pid_of(embedded.start())
    assert Path(f"/proc/{pid}/environ").read_bytes() == f"TMPDIR={tempfile.gettempdir()}\0".encode()
    assert os.getsid(pid) != os.getsid(0)


def test_stopping_leaves_nothing_but_the_data(data_dir: Path) -> None:
    first = EmbeddedRedis(data_dir)
    url = first.start()
    pid = pid_of(url)
    ask(url, "SET", "a", "1")
    first.stop()
    first.stop()
    assert is_gone(pid)
    assert not socket_of(url).parent.exists()
    assert sorted(entry.name for entry in data_dir.iterdir()) == ["lock", "redis"]
    second = EmbeddedRedis(data_dir)
    try:
        again = second.start()
        assert ask(again, "GET", "a") == "1"
        assert again != url
    finally:
        second.stop()


def test_one_that_is_killed_comes_back_with_its_data_where_it_was(
    embedded: EmbeddedRedis, caplog: pytest.LogCaptureFixture
) -> None:
    url = embedded.start()
    for round_ in range(3):
        pid = pid_of(url)
        ask(url, "SET", f"key-{round_}", "kept")
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: caplog.text.count("is back") > round_, "it is back")  # noqa: B023 - called at once
        assert pid_of(url) != pid
    assert ask(url, "MGET", "key-0", "key-1", "key-2") == ["kept"] * 3
    assert caplog.text.count("has died") == 3


def test_one_that_does_not_stop_is_killed(
    embedded: EmbeddedRedis, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_process, "_END_S", 0.1)
    pid = pid_of(embedded.start())
    os.kill(pid, signal.SIGSTOP)
    embedded.stop()
    assert is_gone(pid)
    assert not (data_dir / "redis.url").exists()


def damaged(data_dir: Path, how: Callable[[bytes], bytes]) -> None:
    """An append-only file with one key, spoilt."""
    embedded = EmbeddedRedis(data_dir)
    ask(embedded.start(), "SET", "a", "1")
    embedded.stop()
    file = data_dir / "redis" / "appendonly.aof"
    file.write_bytes(how(file.read_bytes()))


def test_a_file_that_was_cut_off_is_read_up_to_there(data_dir: Path, embedded: EmbeddedRedis) -> None:
    damaged(data_dir, lambda data: data + b"*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$1")
    url = embedded.start()
    assert ask(url, "MGET", "a", "b") == ["1", None]


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(lambda data: data + b"\0\0\0\0 nothing that Redis wrote", id="garbage behind"),
        pytest.param(lambda data: data.replace(b"SET", b"SAT"), id="no such command"),
        pytest.param(lambda data: b"REDIS0009" + b"\xff" * 30 + data, id="a bad preamble"),
        pytest.param(lambda data: b"REDIS0009\xfe\x00", id="a preamble that was cut off"),
    ],
)
def test_a_corrupt_file_is_set_aside_and_its_name_is_logged(
    data_dir: Path, embedded: EmbeddedRedis, how: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    damaged(data_dir, how)
    before = (data_dir / "redis" / "appendonly.aof").read_bytes()
    url = embedded.start()
    assert ask(url, "DBSIZE") == 0
    (aside,) = (data_dir / "redis").glob("*corrupt*")
    assert aside.read_bytes() == before
    assert str(aside) in caplog.text


def test_a_second_server_on_the_folder_is_refused_and_the_first_goes_on(
    embedded: EmbeddedRedis, data_dir: Path, impatient: None
) -> None:
    url = embedded.start()
    with pytest.raises(ConfigError) as refused:
        EmbeddedRedis(data_dir).start()
    assert str(data_dir) in str(refused.value)
    assert f"process {os.getpid()}" in str(refused.value)
    assert ask(url, "PING") is True


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=f"cannot write in {tmp_path}/file/data"):
        EmbeddedRedis(tmp_path / "file" / "data").start()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigError, match=f"cannot write in {tmp_path}/data: Permission denied"):
        EmbeddedRedis(tmp_path / "data").start()


def test_a_temporary_folder_with_a_long_name_is_not_used(
    embedded: EmbeddedRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("n" * 100)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    assert ask(embedded.start(), "PING") is True
    assert not list(long.iterdir())


@pytest.mark.parametrize("program", ["false", "no-such-program"])
def test_a_start_that_fails_leaves_the_folder_free(
    data_dir: Path, embedded: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(redis_process, "redis_server", lambda: program)
        with pytest.raises(ConfigError, match=r"embedded Redis does not start|cannot run"):
            EmbeddedRedis(data_dir).start()
    assert not (data_dir / "redis.url").exists()
    assert ask(embedded.start(), "PING") is True


#: A server that starts its Redis, says where, and then waits for its end.
SERVER = """
import sys
from pathlib import Path
from genkan.store.embedded import EmbeddedRedis
print(EmbeddedRedis(Path(sys.argv[1])).start(), flush=True)
if sys.stdin.readline() == "raise\\n":
    raise OSError
"""


def server_process(data_dir: Path) -> "tuple[subprocess.Popen[str], str]":
    """It, and the URL of its Redis."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(data_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    assert url.startswith("unix://")
    return process, url


@pytest.mark.parametrize("end", ["exit", "raise", signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_it_ends_with_its_server_however_that_ends(
    end: str | signal.Signals, data_dir: Path, embedded: EmbeddedRedis
) -> None:
    server, url = server_process(data_dir)
    pid = pid_of(url)
    ask(url, "SET", "a", "1")
    with server:
        if isinstance(end, str):
            assert server.stdin is not None
            server.stdin.write(f"{end}\n")
            server.stdin.flush()
        else:
            server.send_signal(end)
        server.wait(WAIT_S)
    wait_until(lambda: is_gone(pid), "Redis is gone too")
    assert ask(embedded.start(), "GET", "a") == "1"
    assert not socket_of(url).parent.exists()


def test_a_start_right_after_the_server_was_killed_waits_for_its_redis_to_end(
    data_dir: Path, embedded: EmbeddedRedis
) -> None:
    server, url = server_process(data_dir)
    pid = pid_of(url)
    with server:
        ask(url, "SET", "a", "1")
        server.kill()
        server.wait(WAIT_S)
        again = embedded.start()
    assert is_gone(pid)
    assert ask(again, "GET", "a") == "1"


def test_a_folder_is_locked_as_long_as_a_redis_writes_there(data_dir: Path, impatient: None) -> None:
    server, url = server_process(data_dir)
    pid = pid_of(url)
    try:
        with server:
            os.kill(pid, signal.SIGSTOP)
            server.kill()
            server.wait(WAIT_S)
        with pytest.raises(ConfigError, match=f"in use by what process {server.pid} left behind"):
            EmbeddedRedis(data_dir).start()
    finally:
        os.kill(pid, signal.SIGKILL)
        shutil.rmtree(socket_of(url).parent)


def config(**redis_settings: str) -> Config:
    return Config.model_validate(
        {
            "upstreams": [{"name": "fake", "kind": "openai", "base_url": "http://127.0.0.1:9/v1"}],
            "models": [{"name": "tiny", "upstream": "fake"}],
            "redis": redis_settings,
        }
    )


def test_a_command_joins_the_redis_of_a_running_server(embedded: EmbeddedRedis, data_dir: Path) -> None:
    url = embedded.start()
    with redis_for_cli(config(data_dir=str(data_dir))) as joined:
        assert joined == url
    assert ask(url, "PING") is True


def test_a_command_without_a_server_has_a_redis_on_the_same_data_as_long_as_it_runs(data_dir: Path) -> None:
    with redis_for_cli(config(data_dir=str(data_dir))) as url:
        ask(url, "SET", "a", "1")
    assert not socket_of(url).exists()
    with redis_for_cli(config(data_dir=str(data_dir))) as url:
        assert ask(url, "GET", "a") == "1"


def test_a_command_waits_for_a_redis_that_is_down_for_a_moment(embedded: EmbeddedRedis, data_dir: Path) -> None:
    url = embedded.start()
    os.kill(pid_of(url), signal.SIGKILL)
    with redis_for_cli(config(data_dir=str(data_dir))) as joined:
        assert ask(joined, "PING") is True


def test_a_command_is_given_the_external_redis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_redis("embedded", tmp_path) as running:
        with redis_for_cli(config(url=running.url)) as url:
            assert url == running.url
        monkeypatch.setenv("REDIS_SECRET_URL", running.url)
        with redis_for_cli(config(url_env="REDIS_SECRET_URL")) as url:
            assert url == running.url


@pytest.mark.parametrize(
    ("settings", "problem"),
    [({"url": "memory"}, "keeps nothing outside"), ({"url_env": "NOT_SET_ANYWHERE"}, "NOT_SET_ANYWHERE is not set")],
)
def test_a_command_that_can_reach_no_redis_is_told_why(settings: dict[str, str], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem), redis_for_cli(config(**settings)):
        pass
