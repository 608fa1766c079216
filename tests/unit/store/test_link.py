"""Coming in, being kept out, and what the log hears of it."""

import asyncio
import logging
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import localhost_tls
import pytest
from byte_servers import BOTH_LOOPS, Handler, Peer, byte_server
from redis_faults import command, connected_client, redis_like, until
from redis_servers import RunningRedis, binary, running_redis

from genkan.errors import StoreLost, StoreRefused
from genkan.store.address import Address, parse_address
from genkan.store.link import next_pause_s
from genkan.store.resp import RespClient

pytestmark = pytest.mark.anyio

PASSWORD = "open-sesame"


@pytest.fixture(params=BOTH_LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RunningRedis]:
    with running_redis("embedded", tmp_path) as running:
        yield running


async def pong(peer: Peer, _asked: list[bytes]) -> None:
    await peer.say(b"+PONG\r\n")


async def hang_up_within_a_reply(peer: Peer, _asked: list[bytes]) -> None:
    await peer.say(b"$100\r\nthe beginn")
    peer.reset()


async def say_nothing(peer: Peer) -> None:
    await peer.reader.read()


async def say_it_is_a_web_server(peer: Peer) -> None:
    await peer.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await peer.reader.read()


async def hang_up(peer: Peer) -> None:
    await command(peer)


def told(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == level]


# There or not


async def test_a_redis_that_comes_later_is_found(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with connected_client(f"unix://{path}") as client:
        assert not client.is_connected
        with pytest.raises(StoreLost):
            await client.call("PING")
        async with byte_server(redis_like(pong), path=str(path)):
            await until(lambda: client.is_connected)


@pytest.mark.parametrize("handler", [say_nothing, say_it_is_a_web_server, hang_up])
async def test_who_does_not_answer_as_redis_does_is_not_there(handler: Handler, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    async with byte_server(handler, path=path) as server:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        async with connected_client(f"unix://{path}", connect_s=0.1) as client:
            assert loop.time() - began_s < 1.0
            assert not client.is_connected
            await until(lambda: server.accepted >= 2)  # it is tried again
            assert not client.is_connected


async def test_a_redis_that_loads_its_data_is_not_there_until_it_has(tmp_path: Path) -> None:
    path, loading = str(tmp_path / "s"), b"-LOADING Redis is loading the dataset in memory\r\n"
    async with connected_client(f"unix://{path}") as client:
        async with byte_server(redis_like(pong, pong=loading), path=path) as server:
            await until(lambda: server.accepted >= 3)
            assert not client.is_connected
        async with byte_server(redis_like(pong), path=path):
            await until(lambda: client.is_connected)


async def test_a_server_that_hangs_up_within_replies_is_tried_again_less_and_less_often(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = str(tmp_path / "s")
    async with (
        byte_server(redis_like(hang_up_within_a_reply), path=path) as server,
        connected_client(f"unix://{path}") as client,
    ):
        for number in range(1, 4):
            await until(lambda: client.is_connected)
            assert server.accepted == number
            with pytest.raises(StoreLost):
                await client.call("GET", "a")
            assert not client.is_connected


def test_pauses_double_until_a_connection_lasts() -> None:
    pauses_s = [next_pause_s(0.0, 0.0)]
    for _ in range(6):
        pauses_s.append(next_pause_s(pauses_s[-1], 0.1))
    assert pauses_s == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert next_pause_s(1.0, 10.0) == 0.05


async def test_a_change_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "genkan.store")
    path = str(tmp_path / "s")
    async with connected_client(f"unix://{path}") as client:
        for _ in range(2):
            async with byte_server(redis_like(pong), path=path) as server:
                await until(lambda: client.is_connected)
            await until(lambda: not client.is_connected)
        assert server.accepted == 1
    lost, back = told(caplog, logging.WARNING), told(caplog, logging.INFO)
    assert len(lost) == 3  # from the beginning, and twice more
    assert len(back) == 2
    assert all(path in line for line in lost + back)


async def test_nothing_is_logged_of_what_goes_well(redis: RunningRedis, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "genkan.store")
    async with connected_client(redis.url) as client:
        assert await client.call("PING") == b"PONG"
    assert caplog.records == []


# Entering


async def test_a_password_lets_in(redis: RunningRedis) -> None:
    async with connected_client(redis.url) as admin:
        await admin.call("CONFIG", "SET", "requirepass", PASSWORD)
        await admin.call("ACL", "SETUSER", "me", "on", f">{PASSWORD}", "~*", "+@all")
    for login in (f":{PASSWORD}", f"me:{PASSWORD}"):
        async with connected_client(redis.url.replace("//", f"//{login}@")) as client:
            assert await client.call("PING") == b"PONG"


@pytest.mark.parametrize("login", ["", ":wrong-wrong@", "me:wrong-wrong@"])
async def test_a_wrong_password_is_logged_as_an_error_now_and_then_without_saying_it(
    redis: RunningRedis, login: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected_client(redis.url) as admin:
        await admin.call("CONFIG", "SET", "requirepass", PASSWORD)
        before = await client_count(admin)
        async with connected_client(redis.url.replace("//", f"//{login}")) as client:
            assert not client.is_connected
            while await client_count(admin) < before + 3:  # it goes on trying
                pass
    assert len(told(caplog, logging.ERROR)) == 1
    assert "wrong-wrong" not in caplog.text


async def client_count(admin: RespClient) -> int:
    """Connections that the server has taken so far."""
    info = await admin.call("INFO", "stats")
    return int(info.partition(b"total_connections_received:")[2].split()[0])


async def test_what_a_server_repeats_of_a_password_is_not_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def handle(peer: Peer) -> None:
        while True:
            name, *rest = await command(peer)
            await peer.say(b"-ERR unknown command `%b`, with args beginning with: `%b`\r\n" % (name, b" ".join(rest)))

    path = str(tmp_path / "s")
    async with byte_server(handle, path=path), connected_client(f"unix://:{PASSWORD}@{path}") as client:
        assert not client.is_connected
    assert len(told(caplog, logging.ERROR)) == 1
    assert PASSWORD not in caplog.text


async def test_a_user_who_may_not_ask_which_redis_it_is_comes_in_and_takes_it_for_another_each_time(
    redis: RunningRedis,
) -> None:
    told_another: list[bool] = []
    async with connected_client(redis.url) as admin:
        await admin.call("ACL", "SETUSER", "me", "on", f">{PASSWORD}", "~*", "+get", "+select")
        url = redis.url.replace("//", f"//me:{PASSWORD}@")
        async with connected_client(url, on_connected=told_another.append) as client:
            assert await client.call("GET", "a") is None
            with pytest.raises(StoreRefused):
                await client.call("SET", "a", 1)
            await admin.call("CLIENT", "KILL", "USER", "me")
            await until(lambda: told_another == [False, True])


# TLS


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    return localhost_tls.written_to(tmp_path)


async def test_tls_is_spoken_with_who_can_be_trusted(pem: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    async with byte_server(redis_like(pong), tls=localhost_tls.server_context(pem)) as server:
        async with connected_client(f"rediss://localhost:{server.port}") as client:
            assert await client.call("GET", "a") == b"PONG"
        async with connected_client(f"rediss://127.0.0.1:{server.port}") as client:
            assert not client.is_connected  # it is not who it says


async def test_tls_is_not_spoken_with_a_stranger(pem: Path) -> None:
    async with (
        byte_server(redis_like(pong), tls=localhost_tls.server_context(pem)) as server,
        connected_client(f"rediss://localhost:{server.port}") as client,
    ):
        assert not client.is_connected


async def test_a_name_that_is_none_is_not_there() -> None:
    async with connected_client(Address(host="a..b")) as client:
        assert not client.is_connected


# Sentinels


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def running_sentinel(folder: Path, master_port: int) -> Iterator[int]:
    """A Sentinel that watches a master ``boss``; its port, once it answers."""
    port = free_port()
    config = folder / "sentinel.conf"
    config.write_text(f"port {port}\nbind 127.0.0.1\nsentinel monitor boss 127.0.0.1 {master_port} 1\n")
    with (folder / "sentinel.log").open("wb") as log:
        process = subprocess.Popen([binary("embedded"), config, "--sentinel"], stdout=log, stderr=log, cwd=folder)
    try:
        yield port
    finally:
        process.kill()
        process.wait()


async def test_the_master_is_found_by_a_sentinel_and_again_when_it_is_another(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "two", "sentinel")]
    for folder in folders:
        folder.mkdir()
    first_port, second_port = free_port(), free_port()
    with (
        running_redis("embedded", folders[0]) as one,
        running_redis("embedded", folders[1]) as two,
        running_sentinel(folders[2], first_port) as port,
    ):
        await listen_at(one, first_port, "one")
        await listen_at(two, second_port, "two")
        address = parse_address("redis://boss", [f"127.0.0.1:{free_port()}", f"127.0.0.1:{port}"])
        async with connected_client(address) as client, connected_client(f"redis://127.0.0.1:{port}") as sentinel:
            await until(lambda: client.is_connected and sentinel.is_connected)
            assert await client.call("GET", "who") == b"one"
            await sentinel.call("SENTINEL", "REMOVE", "boss")
            await sentinel.call("SENTINEL", "MONITOR", "boss", "127.0.0.1", second_port, 1)
            await client.call("REPLICAOF", "127.0.0.1", second_port)
            with pytest.raises(StoreRefused, match="READONLY"):
                await client.call("SET", "a", 1)
            await until(lambda: client.is_connected)
            assert await client.call("GET", "who") == b"two"
            assert await client.call("SET", "a", 1) == b"OK"


async def listen_at(redis: RunningRedis, port: int, name: str) -> None:
    async with connected_client(redis.url) as client:
        await client.call("CONFIG", "SET", "port", port)
        await client.call("SET", "who", name)


async def test_without_a_sentinel_that_knows_there_is_none() -> None:
    address = replace(Address(service="boss"), sentinels=(("127.0.0.1", free_port()),))
    async with connected_client(address) as client:
        assert not client.is_connected
