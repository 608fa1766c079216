"""The servers under fuzz: a gateway in front of an upstream that answers at once, and one with the embedded engine."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

import httpx
from e2e.live_server import LiveServer, wait_until

Part = Literal["gateway", "engine"]
TESTS: Final = Path(__file__).parents[1]
_BODY_TIMEOUT_S: Final = 2.0  # a body that never comes is told of before it counts as a hang
_SERVER: Final = {"GENKAN__SERVER__BODY_TIMEOUT_S": str(_BODY_TIMEOUT_S), "GENKAN__TELEMETRY__LOG_LEVEL": "warning"}
_MODEL: Final = "default"


class Rig:
    """A ready server, and an admin's key for it."""

    def __init__(self, server: LiveServer, key: str) -> None:
        self.server = server
        self.key = key

    @property
    def port(self) -> int:
        return self.server.port

    def rss_mb(self) -> float:
        """Memory of all the server's processes together, Redis with them."""
        return sum(_rss_mb(pid) for pid in self.server.processes())

    def is_well(self) -> bool:
        """Whether a plain request is answered, and the server says that it is ready."""
        body = {"model": _MODEL, "messages": [{"role": "user", "content": "Say hi."}], "max_tokens": 2}
        headers = {"authorization": f"Bearer {self.key}"}
        answer = httpx.post(f"{self.server.base_url}/v1/chat/completions", json=body, headers=headers, timeout=30)
        return self.server.ready() and answer.status_code == 200


@contextmanager
def running(part: Part) -> Generator[Rig, None, None]:
    """One of the servers. It must end cleanly, and nothing in its log may be a traceback."""
    with tempfile.TemporaryDirectory() as folder, _upstream(part) as environ:
        if part == "gateway":
            environ = {"GENKAN_CONFIG": str(_configuration(Path(folder), environ["PORT"]))}
        server = LiveServer(env={**environ, **_SERVER})
        try:
            server.start()
            server.wait_ready()
            yield Rig(server, _first_key(server))
            server.stop()
        finally:
            server.destroy()


@contextmanager
def _upstream(part: Part) -> Generator[dict[str, str], None, None]:
    if part == "engine":
        yield {}
        return
    command = [sys.executable, "-m", "fuzz.upstream"]
    with subprocess.Popen(command, cwd=TESTS, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield {"PORT": process.stdout.readline().strip()}
        finally:
            process.terminate()


def _configuration(folder: Path, port: str) -> Path:
    path = folder / "genkan.yaml"
    settings = {
        "upstreams": [{"name": "fake", "kind": "openai", "base_url": f"http://127.0.0.1:{port}/v1"}],
        "models": [{"name": "m", "upstream": "fake"}],
        "routes": [{"alias": _MODEL, "chain": ["m"]}],
        "cache": {"ttl_s": 60},
    }
    path.write_text(json.dumps(settings), encoding="utf-8")
    return path


def _first_key(server: LiveServer) -> str:
    """An admin's, from before the campaign: from the first key on, whoever has none is refused."""
    made = httpx.post(f"{server.base_url}/admin/keys", json={"tenant": "ops", "role": "admin"}, timeout=30)
    key = str(made.raise_for_status().json()["key"])
    models = f"{server.base_url}/v1/models"
    wait_until(lambda: httpx.get(models, timeout=5).status_code == 401, 10, "keys are asked for")
    return key


def _rss_mb(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS:")), 0.0)
