"""What BentoML's stack must not do to us, and the life of a server from its start to its end."""

import json
import os
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from e2e.live_server import BENTOML, ROOT, LiveServer, doomed_server, wait_until

LONG: dict[str, Any] = {
    "model": "default",
    "prompt": "1, 2, 3, 4, 5,",
    "temperature": 0,
    "genkan": {"cache": "no-cache"},  # each its own sequence
}


class Watched:
    """A server that was asked for its readiness from its first moment on."""

    def __init__(self, server: LiveServer) -> None:
        self.server = server
        self.probes: list[tuple[int, float]] = []  # status, seconds

    def wait_ready(self) -> None:
        with httpx.Client(base_url=self.server.base_url, timeout=30, trust_env=False) as client:
            wait_until(lambda: self._probe(client) == 200, 90, "the server is ready")

    def _probe(self, client: httpx.Client) -> int:
        began = time.monotonic()
        try:
            status = client.get("/readyz").status_code
        except httpx.TransportError:  # nobody listens yet
            return 0
        self.probes.append((status, time.monotonic() - began))
        return status


@pytest.fixture(scope="module")
def watched() -> Generator[Watched, None, None]:
    """BentoML's timeout is 1 s, and only two requests may wait for the engine."""
    server = LiveServer(
        env={
            "BENTOML_CONFIG_OPTIONS": "services.genkan.traffic.timeout=1 services.genkan_engine.traffic.timeout=1",
            "GENKAN__ENGINE__MAX_WAITING": "2",
            "GENKAN__ENGINE__MAX_SEQUENCES": "1",
        }
    )
    try:
        server.start()
        watched = Watched(server)
        watched.wait_ready()
        yield watched
        server.stop()
    finally:
        server.destroy()


def test_the_workers_run_on_uvloop_and_httptools(server: LiveServer) -> None:
    loaded = [Path(f"/proc/{pid}/maps").read_text(encoding="utf-8") for pid in server.processes()]
    assert (
        sum("/uvloop/loop" in maps and "/httptools/parser/" in maps for maps in loaded) == 3
    )  # and engine and embedder


def test_readiness_is_answered_at_once_while_the_model_loads(watched: Watched) -> None:
    # The first probe waits in the socket's queue until the gateway has started; from then on it is there.
    statuses = [status for status, _ in watched.probes]
    assert statuses == [503] * (len(statuses) - 1) + [200]
    assert len(statuses) > 10
    assert max(seconds for _, seconds in watched.probes[1:]) < 0.5


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_bentomls_timeout_does_not_cut_a_long_answer(watched: Watched, stream: bool) -> None:
    seconds, tokens = 0.0, 40
    while seconds < 1.5:  # slow enough for the timeout of 1 s, on a fast machine as well
        began, tokens = time.monotonic(), 2 * tokens
        body = {**LONG, "max_tokens": tokens, "stream": stream}
        reply = httpx.post(f"{watched.server.base_url}/v1/completions", json=body, timeout=60, trust_env=False)
        seconds = time.monotonic() - began
        assert reply.status_code == 200
        assert b'"finish_reason":"length"' in reply.content
        assert b'"error"' not in reply.content
        if stream:
            assert reply.content.endswith(b"data: [DONE]\n\n")


def test_a_full_queue_is_503_with_a_time_to_come_back(watched: Watched) -> None:
    url = f"{watched.server.base_url}/v1/completions"
    body = json.dumps({**LONG, "max_tokens": 2000, "stream": True}).encode()
    head = (
        "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}"
    )
    clients = []
    try:
        for waiting in range(3):
            clients.append(connect(watched.server))
            clients[-1].sendall(head.encode() + b"\r\n\r\n" + body)
            wait_until(
                lambda waiting=waiting: (  # type: ignore[misc]
                    watched.server.running_sequences() == 1 and watched.server.waiting_sequences() == waiting
                ),
                10,
                f"one runs and {waiting} wait",
            )
        for stream in (False, True):
            refused = httpx.post(url, json={**LONG, "max_tokens": 1, "stream": stream}, timeout=5, trust_env=False)
            assert refused.status_code == 503
            assert refused.json()["error"]["code"] == "server_is_overloaded"
            assert 1 <= int(refused.headers["retry-after"]) <= 60
    finally:
        for client in clients:
            client.close()
    wait_until(lambda: watched.server.running_sequences() == 0, 2, "the engine is idle")


@pytest.mark.parametrize("path", ["/", "/health", "/models", "/v1/models", "/v1/models/default", "/readyz", "/livez"])
def test_head_is_get_without_a_body(http: httpx.Client, path: str) -> None:
    head, get = http.head(path), http.get(path)
    assert (head.status_code, get.status_code) == (200, 200)
    assert head.content == b""
    assert head.headers["content-type"] == get.headers["content-type"]
    if path != "/health":  # its figures change
        assert head.headers["content-length"] == get.headers["content-length"]


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/healthz", "/metrics", "/schema.json", "/", "/nowhere"])
def test_every_path_answers_with_a_request_id_also_bentomls(http: httpx.Client, path: str) -> None:
    assert http.get(path).headers["x-request-id"].startswith("req_")


def test_a_client_that_leaves_after_pipelining_is_no_bug_of_ours(server: LiveServer) -> None:
    # uvicorn does not watch a connection with a request in waiting, so the answer is written to a dead one.
    body = b'{"model": "default", "max_tokens": 40, "messages": [{"role": "user", "content": "Tell me a long story."}]}'
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    with connect(server) as client:
        client.sendall(head + b"content-length: %d\r\n\r\n" % len(body) + body)
        client.sendall(b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n")
        wait_until(lambda: server.running_sequences() == 1, 10, "the answer has begun")
    wait_until(lambda: server.running_sequences() == 0, 20, "the engine is idle")
    server.assert_clean_log()


def test_head_of_a_path_for_post_is_405_without_a_body(http: httpx.Client) -> None:
    head = http.head("/v1/chat/completions")
    assert head.status_code == 405
    assert head.content == b""
    assert head.headers["allow"] == "POST"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/call"])
@pytest.mark.parametrize("kind", ["application/vnd.bentoml+pickle", "application/x-pickle", "application/octet-stream"])
def test_a_pickle_is_refused_on_every_path(http: httpx.Client, path: str, kind: str) -> None:
    reply = http.post(path, content=b"\x80\x04K\x01.", headers={"content-type": kind})
    assert reply.status_code == 415
    assert reply.json()["error"]["code"] == "unsupported_media_type"


def connect(server: LiveServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=10)


def exchange(server: LiveServer, data: bytes) -> bytes:
    """All that comes back for ``data`` after which the client sends no more."""
    with connect(server) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        try:
            while piece := connection.recv(65536):
                received += piece
        except ConnectionResetError:
            pass
        return received


def assert_openai_error(response: bytes, status: int) -> None:
    head, _, body = response.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), response
    assert b"\r\nx-request-id: req_" in head.lower(), response
    assert set(json.loads(body)) == {"error"}, response
    assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}


HEALTH = b"GET /health HTTP/1.1\r\n"
CHAT = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"garbage\r\n\r\n", id="garbage"),
        pytest.param(b"\x00\x01\x02\x03\xff\xfe\r\n\r\n", id="bytes"),
        pytest.param(b"GET / HTTP/9.9\r\nhost: localhost\r\n\r\n", id="unknown version"),
        pytest.param(b"BREW /health HTTP/1.1\r\nhost: localhost\r\n\r\n", id="unknown method"),
        pytest.param(b"get /health HTTP/1.1\r\nhost: localhost\r\n\r\n", id="method in lower case"),
        pytest.param(b"GET /a b HTTP/1.1\r\nhost: localhost\r\n\r\n", id="space in the path"),
        pytest.param(HEALTH + b"host x\r\n\r\n", id="header without a colon"),
        pytest.param(HEALTH + b"host: localhost\r\na\x00b: c\r\n\r\n", id="zero byte in a header's name"),
        pytest.param(HEALTH + b"host: localhost\r\n: c\r\n\r\n", id="header without a name"),
        pytest.param(CHAT + b"content-length: abc\r\n\r\n{}", id="length is no number"),
        pytest.param(CHAT + b"content-length: -1\r\n\r\n{}", id="negative length"),
        pytest.param(CHAT + b"content-length: 99999999999999999999999\r\n\r\n{}", id="length beyond 64 bits"),
        pytest.param(CHAT + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}", id="two lengths"),
        pytest.param(CHAT + b"transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n", id="chunk size is no number"),
        pytest.param(
            CHAT + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", id="length and chunks"
        ),
    ],
)
def test_what_is_not_http_is_400_in_openais_shape(server: LiveServer, data: bytes) -> None:
    assert_openai_error(exchange(server, data), 400)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"GET http://127.0.0.1/health HTTP/1.1\r\nhost: localhost\r\n\r\n", id="absolute target"),
        pytest.param(
            b"GET http://elsewhere.example/health HTTP/1.1\r\nhost: localhost\r\n\r\n", id="absolute, other host"
        ),
        pytest.param(b"GET ftp://x/readyz HTTP/1.1\r\nhost: localhost\r\n\r\n", id="absolute, other scheme"),
        pytest.param(HEALTH + b"host: a\r\nhost: b\r\n\r\n", id="two hosts"),
        pytest.param(b"GET /readyz HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", id="two hosts at BentoML's"),
        pytest.param(b"GET /metrics HTTP/1.1\r\nhost: \r\nhost: b:c:d\r\n\r\n", id="strange hosts"),
        pytest.param(b"GET /schema.json HTTP/1.1\r\nhost: [::1\r\n\r\n", id="half an address as host"),
        pytest.param(b"GET /\r\n\r\n", id="no version"),
        pytest.param(HEALTH + b"\r\n", id="no host"),
        pytest.param(b"GET /health HTTP/1.0\r\n\r\n", id="HTTP 1.0"),
        pytest.param(b"OPTIONS * HTTP/1.1\r\nhost: localhost\r\n\r\n", id="asterisk"),
        pytest.param(b"CONNECT elsewhere.example:443 HTTP/1.1\r\nhost: localhost\r\n\r\n", id="connect"),
        pytest.param(b"GET /%ff%fe/%00 HTTP/1.1\r\nhost: localhost\r\n\r\n", id="escapes that are no text"),
        pytest.param(b"GET /%zz HTTP/1.1\r\nhost: localhost\r\n\r\n", id="broken escape"),
        pytest.param(b"GET /caf\xc3\xa9 HTTP/1.1\r\nhost: localhost\r\n\r\n", id="bytes in the path"),
        pytest.param(
            b"GET /v1/models/%F0%9F HTTP/1.1\r\nhost: localhost\r\n\r\n", id="half a character in a model's name"
        ),
        pytest.param(b"GET //health HTTP/1.1\r\nhost: localhost\r\n\r\n", id="two slashes"),
        pytest.param(b"GET /../../etc/passwd HTTP/1.1\r\nhost: localhost\r\n\r\n", id="upwards"),
        pytest.param(b"GET /health?%s HTTP/1.1\r\nhost: localhost\r\n\r\n" % (b"q" * 60_000), id="long query"),
        pytest.param(b"GET /%s HTTP/1.1\r\nhost: localhost\r\n\r\n" % (b"p" * 60_000), id="long path"),
        pytest.param(HEALTH + b"host: localhost\r\n" + b"a: b\r\n" * 2000 + b"\r\n", id="many headers"),
        pytest.param(HEALTH + b"host: localhost\r\ncookie: %s\r\n\r\n" % (b"c" * 200_000), id="large header"),
        pytest.param(HEALTH + b"host: localhost\r\nx: \xff\xfe\r\n\r\n", id="bytes in a header"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP 2 preface"),
        pytest.param(
            HEALTH + b"host: localhost\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n", id="upgrade to HTTP 2"
        ),
        pytest.param(HEALTH + b"host: localhost\r\nexpect: 200-ok\r\n\r\n", id="strange expectation"),
        pytest.param(CHAT + b"content-length: 500\r\n\r\n{", id="body shorter than declared"),
        pytest.param(CHAT + b"transfer-encoding: chunked\r\n\r\n5\r\n{", id="chunk cut off"),
        pytest.param(CHAT + b"transfer-encoding: gzip\r\n\r\n", id="compressed transfer"),
        pytest.param(HEALTH + b"host: localhost\r\nx-forwarded-for: nonsense\r\n\r\n", id="forwarded for nonsense"),
        pytest.param(HEALTH * 3, id="three request lines"),
    ],
)
def test_odd_http_is_never_an_error_of_the_server(server: LiveServer, data: bytes) -> None:
    response = exchange(server, data)
    # Nothing comes back where the client hung up in the middle of its request.
    assert response == b"" or response[:10] in (b"HTTP/1.1 2", b"HTTP/1.1 4"), response
    assert exchange(server, HEALTH + b"host: localhost\r\n\r\n").startswith(b"HTTP/1.1 200")
    server.assert_clean_log()


def test_tls_where_none_is_spoken_is_refused(server: LiveServer) -> None:
    with connect(server) as connection, pytest.raises((ssl.SSLError, ConnectionError)):
        ssl.create_default_context().wrap_socket(connection, server_hostname="localhost")
    server.assert_clean_log()


@pytest.mark.parametrize("chain", ["203.0.113.7", "127.0.0.1, 203.0.113.7", "203.0.113.7, 127.0.0.1"])
def test_a_client_beyond_a_proxy_on_this_machine_is_not_local(http: httpx.Client, chain: str) -> None:
    reply = http.get("/v1/models", headers={"x-forwarded-for": chain})
    assert reply.status_code == 401
    assert reply.json()["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize("path", [b"/v1/chat/completions", b"/", b"/readyz", b"/nowhere"])
def test_a_websocket_is_refused(server: LiveServer, path: bytes) -> None:
    request = b"GET " + path + b" HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    request += b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    with connect(server) as connection:
        connection.sendall(request)
        response = b""
        while b"}}" not in response and (piece := connection.recv(65536)):
            response += piece
    assert_openai_error(response.partition(b"}}")[0] + b"}}", 404)
    server.assert_clean_log()


def answers(server: LiveServer) -> bool:
    try:
        return httpx.get(f"{server.base_url}/livez", timeout=5, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def server_of_its_own() -> Generator[LiveServer, None, None]:
    """A ready server that the test may end as it likes."""
    with doomed_server() as server:
        yield server


def test_after_a_killed_arbiter_no_worker_stays_and_its_port_is_free(server_of_its_own: LiveServer) -> None:
    first = server_of_its_own
    assert len(first.processes()) >= 3  # arbiter, gateway, engine
    first.process.kill()
    first.process.wait(5)
    wait_until(lambda: not first.processes(), 15, "all workers are gone")
    second = LiveServer(port=first.port)
    try:
        second.start()
        wait_until(lambda: answers(second), 30, "the second server answers on the port of the first")
        second.stop()
    finally:
        second.destroy()


def test_sigterm_lets_a_live_stream_end_in_words(server_of_its_own: LiveServer) -> None:
    server = server_of_its_own
    body = {**LONG, "max_tokens": 100, "stream": True}
    url = f"{server.base_url}/v1/completions"
    with httpx.stream("POST", url, json=body, timeout=30, trust_env=False) as stream:
        events = (line for line in stream.iter_lines() if line)
        assert next(events).startswith("data: {")
        os.kill(server.pid, signal.SIGTERM)
        rest = list(events)
    assert rest[-1] == "data: [DONE]"
    last = json.loads(rest[-2].removeprefix("data: "))
    assert "error" in last or last["choices"][0]["finish_reason"] == "length"
    assert len(rest) > 10, "it was over before the signal came"
    server.wait_gone()
    server.assert_clean_log()


#: The wrong setting, and what names it.
BAD_CONFIGURATIONS = {
    "server.workers": {"GENKAN__SERVER__WORKERS": "none"},
    "upstreams[0].kind": {"GENKAN__UPSTREAMS__0__KIND": "teapot"},
    "routes[0].chain[0]": {"GENKAN__ROUTES__0__CHAIN": "[nobody]"},
    "engine.colour": {"GENKAN__ENGINE__COLOUR": "red"},
    "no-such-file.yaml": {"GENKAN_CONFIG": "no-such-file.yaml"},
    "no-such-model.gguf": {"GENKAN__ENGINE__MODEL": "no-such-model.gguf"},
    "engine.max_model_len": {"GENKAN__ENGINE__MAX_MODEL_LEN": "100000"},
}


@pytest.fixture(scope="module")
def badly_configured() -> Generator[dict[str, LiveServer], None, None]:
    """A server for each, all started at once: each has its own folder and port, and uses one core."""
    servers = {named: LiveServer(env=env) for named, env in BAD_CONFIGURATIONS.items()}
    try:
        for server in servers.values():
            server.start()
        yield servers
    finally:
        for server in servers.values():
            server.destroy()


@pytest.mark.parametrize("named", BAD_CONFIGURATIONS)
def test_a_bad_configuration_ends_the_start_and_names_the_setting(
    badly_configured: dict[str, LiveServer], named: str
) -> None:
    server = badly_configured[named]
    assert server.process.wait(60) not in (0, None)  # for all of them to load
    assert named in server.log
    assert "Traceback" not in server.log


def test_serving_twice_on_one_port_fails_and_leaves_the_first_alone(server: LiveServer, sdk: openai.OpenAI) -> None:
    done = subprocess.run(
        [BENTOML, "serve", "--host", "127.0.0.1", "--port", str(server.port)],
        cwd=ROOT,
        env={
            **os.environ,
            "BENTOML_HOME": str(server.folder / "second"),
            "BENTOML_DO_NOT_TRACK": "True",
            "GENKAN__REDIS__DATA_DIR": str(server.folder / "second-data"),
        },
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "default" in [model.id for model in sdk.models.list()]
