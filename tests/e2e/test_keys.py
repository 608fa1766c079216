"""API keys of a real server with two workers: who is let in, how soon that changes, and where no key ever shows."""

import base64
import json
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import redis
import yaml
from e2e.crowd import Reply, get, race
from e2e.live_server import LiveServer
from e2e.worker_connections import connections
from faults.process import running_upstream

SECRET = "canary-secret-9b1f6f0d2c4e4a7b8d35c6e1f0a2b3c4"
GENKAN = Path(sys.executable).parent / "genkan"
MODELS = ("ok", "other")
WORKERS, MANY = 2, 32


class KeyedServer:
    """A ready server, an admin's key, and every byte that it answered and every key that it handed out."""

    def __init__(self, server: LiveServer, environ: dict[str, str]) -> None:
        self.server = server
        self.data_dir = Path(environ["GENKAN__REDIS__DATA_DIR"])
        self.answered = bytearray()
        self.handed_out: list[str] = []
        self._environ = environ
        no_reuse = httpx.Limits(max_keepalive_connections=0)
        self._http = httpx.Client(base_url=server.base_url, limits=no_reuse, timeout=15, trust_env=False)
        self.admin = self.genkan("create", "--tenant", "ops", "--role", "admin").rstrip("\n")
        self.handed_out.append(self.admin)
        self.until(None, 401)

    def close(self) -> None:
        self._http.close()

    def genkan(self, *arguments: str) -> str:
        """What ``genkan keys`` prints."""
        line = [str(GENKAN), "keys", *arguments]
        return subprocess.run(line, env=self._environ, capture_output=True, check=True, text=True, timeout=30).stdout

    def ask(self, method: str, path: str, key: str | None = None, body: object = None) -> httpx.Response:
        """One request on a connection of its own."""
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        answer = self._http.request(method, path, headers=headers, json=body)
        if not path.startswith("/admin/keys"):
            self.answered += str(answer.headers.raw).encode() + answer.content
        return answer

    def chat(self, key: str | None, model: str = "ok") -> httpx.Response:
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
        return self.ask("POST", "/v1/chat/completions", key, body)

    def create(self, **wanted: Any) -> dict[str, Any]:
        """By the API: it works at once on one worker, and on the other when this returns."""
        answer = self.ask("POST", "/admin/keys", self.admin, {"tenant": "acme", **wanted})
        assert answer.status_code == 201, answer.text
        made = dict(answer.json())
        self.handed_out.append(made["key"])
        self.until(made["key"], 200)
        return made

    def until(self, key: str | None, status: int, limit_s: float = 1.0) -> None:
        """Until every worker answers this to ``key``: within the second that is promised."""
        ends_s = time.monotonic() + limit_s
        while True:
            asked_s = time.monotonic()
            if self._statuses(key) == {status}:
                return
            assert asked_s < ends_s, f"not {status} within {limit_s:g} s"

    def burst(self, path: str, key: str | None = None) -> list[Reply]:
        """The same of every worker, several times."""
        replies: list[Reply] = []
        workers = Counter[int]()
        while len(workers) < WORKERS:
            requests = [get(key, path)] * MANY
            replies += race(self.server.port, requests, before=lambda: workers.update(connections(self.server)))
        self.answered += b"".join(str(reply.headers).encode() + reply.body for reply in replies)
        return replies

    def _statuses(self, key: str | None) -> set[int]:
        return {reply.status for reply in self.burst("/v1/models", key)}

    def raw(self, *headers: bytes) -> tuple[int, dict[str, Any]]:
        """A request with these header lines, byte for byte."""
        lines = [b"GET /v1/models HTTP/1.1", b"host: localhost", b"connection: close", *headers, b"", b""]
        received = b""
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=15) as connection:
            connection.sendall(b"\r\n".join(lines))
            while piece := connection.recv(65536):
                received += piece
        self.answered += received
        head, _, body = received.partition(b"\r\n\r\n")
        return int(head.split(b" ", 2)[1]), json.loads(body)["error"]


@contextmanager
def running_keyed_server(folder: Path) -> Iterator[KeyedServer]:
    with running_upstream() as upstream:
        settings = {
            "upstreams": [{"name": "there", "kind": "openai", "base_url": upstream.base_url}],
            "models": [{"name": name, "deployments": [{"upstream": "there", "model": "ok"}]} for name in MODELS],
            "tenants": [{"name": "narrow", "models": ["ok"]}],
        }
        path = folder / "genkan.yaml"
        path.write_text(yaml.safe_dump(settings), encoding="utf-8")
        environ = {
            "GENKAN_CONFIG": str(path),
            "GENKAN_KEY_SECRET": SECRET,
            "GENKAN__SERVER__WORKERS": str(WORKERS),
            "GENKAN__TELEMETRY__LOG_LEVEL": "debug",
            "GENKAN__REDIS__DATA_DIR": str(folder / "data"),
        }
        server = LiveServer(env=environ)
        try:
            server.start()
            server.wait_ready()
            with closing(KeyedServer(server, environ)) as keyed:
                yield keyed
            server.stop()
        finally:
            server.destroy()


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Generator[KeyedServer, None, None]:
    with running_keyed_server(tmp_path_factory.mktemp("keys")) as keyed:
        yield keyed


@pytest.fixture(scope="module")
def user(keyed: KeyedServer) -> str:
    return str(keyed.create()["key"])


def test_a_burst_reaches_both_workers(keyed: KeyedServer) -> None:
    def counts() -> set[int]:
        return {reply.json["requests_served"] for reply in keyed.burst("/health")}

    before = counts()
    keyed.chat(None)  # counted by one of them: if their counts were the same they are not now
    assert 2 in (len(before), len(counts()))


def test_a_key_opens_what_none_does_not(keyed: KeyedServer, user: str) -> None:
    assert keyed.chat(None).status_code == 401
    assert keyed.chat(user).status_code == 200
    assert keyed.ask("GET", "/health").status_code == 200
    assert keyed.ask("GET", "/").status_code == 200
    assert keyed.ask("GET", "/livez").status_code == 200


def test_openais_client_raises_its_own_errors(keyed: KeyedServer, user: str) -> None:
    for key, error in (("gk-wrong", openai.AuthenticationError), (user, openai.PermissionDeniedError)):
        with openai.OpenAI(base_url=f"{keyed.server.base_url}/admin", api_key=key, max_retries=0) as client:
            with pytest.raises(error) as caught:
                client.get("/keys", cast_to=object)
            assert key not in str(caught.value)


def hostile(key: str) -> dict[str, list[bytes]]:
    """Header lines for each way to present a key wrongly."""
    right = b"authorization: Bearer " + key.encode()
    return {
        "none": [],
        "empty": [b"authorization:"],
        "no key": [b"authorization: Bearer "],
        "another scheme": [b"authorization: Basic " + base64.b64encode(b"user:" + key.encode())],
        "no scheme": [b"authorization: " + key.encode()],
        "quotes": [b'authorization: Bearer "' + key.encode() + b'"'],
        "NUL": [right + b"\0"],
        "NUL inside": [right[:-5] + b"\0" + right[-5:]],
        "line feed": [right + b"\n"],
        "vertical tab": [right + b"\x0b"],
        "non-ASCII": [right + "é🦊".encode()],
        "Latin-1": [right + b"\xff\xfe"],
        "64 KB": [b"authorization: Bearer " + b"x" * 65536],
        "64 KB after a right key": [right + b"0" * 65536],
        "wrong checksum": [right[:-1] + (b"0" if right[-1:] != b"0" else b"1")],
        "cut": [right[:-1]],
        "two headers": [right, right],
        "two headers, one wrong": [right, b"authorization: Bearer x"],
        "two schemes": [right, b"authorization: Basic dTpw"],
        "two in one": [right + b", Bearer " + key.encode()],
        "another header": [b"x-api-key: " + key.encode()],
        "folded": [b"authorization: Bearer", b" " + key.encode()],
    }


@pytest.mark.parametrize("case", hostile("k"))
def test_a_hostile_key_is_refused_in_openais_shape(keyed: KeyedServer, user: str, case: str) -> None:
    status, error = keyed.raw(*hostile(user)[case])
    # What is not HTTP at all is refused before anyone looks at keys.
    assert status in (401, 400)
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    if status == 401:
        assert error["code"] == "invalid_api_key"
    else:
        assert case in ("NUL", "NUL inside", "line feed", "vertical tab", "folded")
    assert user[-8:] not in str(error)
    assert keyed.raw(b"authorization: Basic x")[0] == 401  # and it is still there


def test_a_revoked_key_ends_on_every_worker_within_a_second(keyed: KeyedServer) -> None:
    for _ in range(3):
        made = keyed.create()
        assert keyed.ask("DELETE", f"/admin/keys/{made['id']}", keyed.admin).status_code == 200
        keyed.until(made["key"], 401)


def test_the_command_line_creates_rotates_and_revokes_for_a_running_server(keyed: KeyedServer) -> None:
    made = json.loads(keyed.genkan("create", "--tenant", "acme", "--json"))
    keyed.handed_out.append(made["key"])
    keyed.until(made["key"], 200)
    rotated = keyed.genkan("rotate", made["id"]).rstrip("\n")
    keyed.handed_out.append(rotated)
    keyed.until(rotated, 200)
    keyed.until(made["key"], 401)
    listed = json.loads(keyed.genkan("list", "--tenant", "acme", "--json"))
    keyed.genkan("revoke", next(key["id"] for key in listed if key["hint"] == f"…{rotated[-4:]}"))
    keyed.until(rotated, 401)


def test_a_key_expires_by_itself(keyed: KeyedServer) -> None:
    made = keyed.create(expires_in_s=3)
    keyed.until(made["key"], 401, limit_s=made["expires_at"] - time.time() + 0.1)


def test_a_key_may_name_its_models_and_no_others(keyed: KeyedServer) -> None:
    for key in (keyed.create(models=["ok"])["key"], keyed.create(tenant="narrow")["key"]):
        assert keyed.chat(key, "ok").status_code == 200
        refused = keyed.chat(key, "other")
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")
    assert keyed.chat(keyed.create(tenant="narrow", models=["other"])["key"], "ok").status_code == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/admin/keys"),
        ("POST", "/admin/keys"),
        ("DELETE", "/admin/keys/key_0123456789abcdef"),
        ("POST", "/admin/keys/key_0123456789abcdef/rotate"),
        ("GET", "/admin/limits"),
        ("GET", "/admin/savings"),
        ("GET", "/admin/cost/compare"),
    ],
)
def test_administration_is_for_admins(keyed: KeyedServer, user: str, method: str, path: str) -> None:
    body = {"tenant": "acme", "role": "admin"} if method == "POST" else None
    assert keyed.ask(method, path, user, body).status_code == 403
    assert keyed.ask(method, path, None, body).status_code == 401
    assert keyed.ask(method, path, "gk-wrong", body).status_code == 401


def traces(text: str) -> Iterator[bytes]:
    """What would give a secret away: all of it, either end of it, and base64 of it wherever it may begin."""
    yield text.encode()
    yield text[:11].encode()
    yield text[-8:].encode()
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + text.encode())
        yield encoded[4:-4]
        yield encoded[4:-4].translate(bytes.maketrans(b"+/", b"-_"))


def test_no_key_is_left_anywhere(keyed: KeyedServer, user: str) -> None:
    """The last one: it looks at what all others have left."""
    keyed.chat(user)
    for _ in range(MANY):
        keyed.chat(user[:-1] + "_")  # almost a key
    metrics = keyed.ask("GET", "/metrics").content
    with redis.Redis.from_url((keyed.data_dir / "redis.url").read_text()) as client:
        client.save()
    kept = b"".join(path.read_bytes() for path in keyed.data_dir.rglob("*") if path.is_file())
    places = {
        "the log": keyed.server.log.encode(),
        "the metrics": metrics,
        "the data folder": kept,
        "answers": bytes(keyed.answered),
    }
    assert b"key_" in kept
    assert b"genkan_" in metrics
    assert b"/v1/chat/completions" in places["the log"]
    assert len(keyed.handed_out) > 5
    for place, content in places.items():
        for secret in (*keyed.handed_out, SECRET):
            for trace in traces(secret):
                assert trace not in content, f"a key is in {place}"
