"""Connecting: by address, by name, with TLS, over a Unix socket, and when none of it is possible."""

import asyncio
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from byte_servers import BOTH_LOOPS, Peer, always, answer, asking, byte_server
from localhost_tls import CERTIFICATE_AND_KEY
from upstream_calls import until

from genkan.upstream.dialers import TcpDialer, UnixDialer
from genkan.upstream.http_client import ConnectTimeout, Dial, Disconnected, HttpClient, NotConnected

pytestmark = pytest.mark.anyio

HELLO = always(answer(b"hello"))


@pytest.fixture(params=BOTH_LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    path = tmp_path / "localhost.pem"
    path.write_text(CERTIFICATE_AND_KEY)
    return path


@pytest.fixture
def tls(pem: Path) -> ssl.SSLContext:
    """What the server has."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)
    return context


@pytest.fixture
def trusted(pem: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))


@contextmanager
def client_of(dial: Dial, connect_s: float = 5.0) -> Iterator[HttpClient]:
    client = HttpClient(dial, connect_s=connect_s, keep_alive=20, keep_alive_s=15)
    try:
        yield client
    finally:
        client.close()


async def asked(client: HttpClient) -> bytes:
    response = await client.request(asking())
    body = b""
    while piece := await response.read():
        body += piece
    return body


async def test_an_address_and_a_name_are_reached() -> None:
    async with byte_server(HELLO) as server:
        for host in ("127.0.0.1", "localhost"):
            with client_of(TcpDialer(f"http://{host}:{server.port}/v1")) as client:
                assert [await asked(client), await asked(client)] == [b"hello", b"hello"]
        assert server.accepted == 2
        await until(lambda: server.open == 0)


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
async def test_an_ipv6_address_is_reached() -> None:
    async with byte_server(HELLO, host="::1") as server:
        with client_of(TcpDialer(f"http://[::1]:{server.port}/v1")) as client:
            assert await asked(client) == b"hello"


async def test_small_writes_are_not_held_back_and_dead_peers_are_noticed() -> None:
    async with byte_server(HELLO) as server:
        made = await TcpDialer(server.url)(asyncio.Protocol)
        assert isinstance(made, tuple)
        peer = made[0].get_extra_info("socket")
        assert peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert peer.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        made[0].abort()
        await until(lambda: server.open == 0)


async def test_a_unix_socket_is_reached(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    async with byte_server(HELLO, path=path) as server:
        with client_of(UnixDialer(path)) as client:
            assert [await asked(client), await asked(client)] == [b"hello", b"hello"]
        assert server.accepted == 1
        await until(lambda: server.open == 0)


@pytest.mark.parametrize("host", ["x.invalid", f"{'a' * 64}.invalid"], ids=["unknown", "no name"])
async def test_a_host_that_cannot_be_looked_up_is_not_connected(host: str) -> None:
    with client_of(TcpDialer(f"http://{host}/v1")) as client:
        with pytest.raises(NotConnected):
            await asked(client)
        assert client.connections == 0


async def test_a_closed_port_and_a_missing_socket_are_not_connected(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    for dial in (TcpDialer(url), UnixDialer(str(tmp_path / "none"))):
        with client_of(dial) as client:
            with pytest.raises(NotConnected) as caught:
                await asked(client)
            assert type(caught.value) is NotConnected


async def test_a_server_that_takes_no_connections_costs_the_connect_limit() -> None:
    listening = _full_backlog()
    try:
        port = listening[0].getsockname()[1]
        with client_of(TcpDialer(f"http://127.0.0.1:{port}"), connect_s=0.1) as client:
            with pytest.raises(ConnectTimeout):
                await asked(client)
            assert client.connections == 0
    finally:
        for one in listening:
            one.close()


def _full_backlog() -> list[socket.socket]:
    """A listening socket that accepts nobody, and as many clients as the kernel queues for it."""
    server = socket.create_server(("127.0.0.1", 0), backlog=0)
    sockets = [server]
    for _ in range(8):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(server.getsockname())
        sockets.append(client)
    return sockets


# --- Looking names up ---


@pytest.fixture
def lookups(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The host of every lookup after ``count_lookups``."""
    return []


def count_lookups(lookups: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    look_up = loop.getaddrinfo

    async def counted(host: Any, *args: Any, **kwargs: Any) -> Any:
        lookups.append(host)
        return await look_up(host, *args, **kwargs)

    monkeypatch.setattr(loop, "getaddrinfo", counted)


async def test_a_name_is_looked_up_once_for_many_connections(
    lookups: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    count_lookups(lookups, monkeypatch)
    async with byte_server(HELLO) as server:
        with client_of(TcpDialer(f"http://localhost:{server.port}")) as client:
            await asked(client)
            await asyncio.gather(*(asked(client) for _ in range(5)))
    assert (server.accepted, lookups.count("localhost")) == (5, 1)


async def test_those_who_wait_for_a_lookup_share_it_and_none_ends_it_by_leaving(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, may_end, hosts = asyncio.Event(), asyncio.Event(), []
    loop = asyncio.get_running_loop()
    look_up = loop.getaddrinfo

    async def slow(host: Any, *args: Any, **kwargs: Any) -> Any:
        hosts.append(host)
        begun.set()
        await may_end.wait()
        return await look_up(host, *args, **kwargs)

    async with byte_server(HELLO) as server:
        with client_of(TcpDialer(f"http://localhost:{server.port}")) as client:
            monkeypatch.setattr(loop, "getaddrinfo", slow)
            tasks = [asyncio.create_task(asked(client)) for _ in range(4)]
            await begun.wait()
            tasks[0].cancel()
            with pytest.raises(asyncio.CancelledError):
                await tasks[0]
            monkeypatch.setattr(loop, "getaddrinfo", look_up)  # what follows would be another lookup
            may_end.set()
            assert await asyncio.gather(*tasks[1:]) == [b"hello"] * 3
    assert hosts == ["localhost"]


async def test_a_lookup_that_failed_is_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    look_up = loop.getaddrinfo

    async def fails(*args: Any, **kwargs: Any) -> Any:
        raise socket.gaierror("no")

    async with byte_server(HELLO) as server:
        with client_of(TcpDialer(f"http://localhost:{server.port}")) as client:
            with monkeypatch.context() as patch:
                patch.setattr(loop, "getaddrinfo", fails)
                ends = await asyncio.gather(*(asked(client) for _ in range(3)), return_exceptions=True)
            assert [type(end) for end in ends] == [NotConnected] * 3
            assert loop.getaddrinfo == look_up
            assert await asked(client) == b"hello"


async def test_a_name_is_looked_up_again_when_it_is_old(lookups: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genkan.upstream.dialers._NAMES_KEPT_S", -1.0)
    count_lookups(lookups, monkeypatch)
    async with byte_server(HELLO) as server:
        dial = TcpDialer(f"http://localhost:{server.port}")
        for _ in range(2):
            with client_of(dial) as client:
                await asked(client)
    assert lookups.count("localhost") == 2


async def test_a_name_is_looked_up_again_after_it_led_nowhere(
    lookups: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    count_lookups(lookups, monkeypatch)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with client_of(TcpDialer(f"http://localhost:{port}")) as client:
        for _ in range(2):
            with pytest.raises(NotConnected):
                await asked(client)
    assert lookups.count("localhost") == 2


async def test_a_name_is_looked_up_again_after_it_led_into_silence(
    lookups: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    count_lookups(lookups, monkeypatch)
    listening = _full_backlog()
    try:
        with client_of(TcpDialer(f"http://localhost:{listening[0].getsockname()[1]}"), connect_s=0.05) as client:
            for _ in range(2):
                with pytest.raises(ConnectTimeout):
                    await asked(client)
    finally:
        for one in listening:
            one.close()
    assert lookups.count("localhost") == 2


# --- TLS ---


@pytest.mark.usefixtures("trusted")
async def test_a_certificate_that_is_trusted_is_accepted(tls: ssl.SSLContext) -> None:
    async with byte_server(HELLO, tls=tls) as server:
        with client_of(TcpDialer(f"https://localhost:{server.port}/v1")) as client:
            assert [await asked(client), await asked(client)] == [b"hello", b"hello"]
        assert server.accepted == 1
        await until(lambda: server.open == 0)


async def test_a_certificate_that_nobody_vouches_for_is_refused(tls: ssl.SSLContext) -> None:
    async with byte_server(HELLO, tls=tls) as server:
        with client_of(TcpDialer(f"https://localhost:{server.port}/v1")) as client:
            with pytest.raises(NotConnected, match="CERTIFICATE_VERIFY_FAILED"):
                await asked(client)
            assert client.connections == 0


@pytest.mark.usefixtures("trusted")
async def test_a_certificate_for_another_name_is_refused(tls: ssl.SSLContext) -> None:
    async with byte_server(HELLO, tls=tls) as server:
        with (
            client_of(TcpDialer(f"https://127.0.0.1:{server.port}/v1")) as client,
            pytest.raises(NotConnected, match=r"not valid for '127\.0\.0\.1'"),
        ):
            await asked(client)


async def test_a_server_without_tls_is_not_connected() -> None:
    async def speaks_first(peer: Peer) -> None:
        await peer.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with byte_server(speaks_first) as server:
        with client_of(TcpDialer(f"https://127.0.0.1:{server.port}")) as client, pytest.raises(NotConnected):
            await asked(client)


async def test_a_handshake_that_is_never_answered_costs_the_connect_limit_and_is_hung_up() -> None:
    async def says_nothing(peer: Peer) -> None:
        while await peer.reader.read(9999):
            pass

    async with byte_server(says_nothing) as server:
        with client_of(TcpDialer(f"https://127.0.0.1:{server.port}"), connect_s=0.1) as client:
            with pytest.raises(ConnectTimeout):
                await asked(client)
            await until(lambda: server.open == 0)


@pytest.mark.usefixtures("trusted")
async def test_a_body_until_the_connection_ends_is_whole_over_tls(tls: ssl.SSLContext) -> None:
    async def handle(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\n\r\n", b"hel", b"lo")

    async with byte_server(handle, tls=tls) as server:
        with client_of(TcpDialer(f"https://localhost:{server.port}")) as client:
            assert await asked(client) == b"hello"
            await until(lambda: client.connections == 0)


@pytest.mark.usefixtures("trusted")
async def test_a_body_with_a_length_that_breaks_off_is_not_whole_over_tls(tls: ssl.SSLContext) -> None:
    async def handle(peer: Peer) -> None:
        await peer.request()
        await peer.say(answer(b"hello")[:-1])

    async with byte_server(handle, tls=tls) as server:
        with client_of(TcpDialer(f"https://localhost:{server.port}")) as client:
            with pytest.raises(Disconnected):
                await asked(client)
            await until(lambda: client.connections == 0)


@pytest.mark.usefixtures("trusted")
async def test_a_large_body_waits_for_its_reader_over_tls(tls: ssl.SSLContext) -> None:
    body = bytes(range(256)) * (1 << 16)
    async with byte_server(always(answer(body)), tls=tls) as server:
        with client_of(TcpDialer(f"https://localhost:{server.port}")) as client:
            for _ in range(2):
                assert await asked(client) == body
            assert (server.accepted, client.idle) == (1, 1)


@pytest.mark.usefixtures("trusted")
async def test_an_idle_connection_that_its_server_closes_leaves_the_pool_over_tls(tls: ssl.SSLContext) -> None:
    async def once(peer: Peer) -> None:
        await peer.request()
        await peer.say(answer(b"hello"))

    async with byte_server(once, tls=tls) as server:
        with client_of(TcpDialer(f"https://localhost:{server.port}")) as client:
            for number in (1, 2):
                assert await asked(client) == b"hello"
                await until(lambda: client.connections == 0)
                assert server.accepted == number
