"""Starts `bentoml serve` as a user would, in a process group of its own, and stops it."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]
READY_S = 60
STOP_S = 30
_POLL_S = 0.05


@dataclass(frozen=True)
class Server:
    """A running server; ``pid`` is BentoML's arbiter, whose children are the workers."""

    base_url: str
    port: int
    pid: int
    log_path: Path

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def ready(self) -> bool:
        try:
            return httpx.get(f"{self.base_url}/readyz", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def metric(self, name: str) -> float:
        """The value of a metric without labels."""
        text = httpx.get(f"{self.base_url}/metrics", timeout=10).text
        return sum(float(line.split()[-1]) for line in text.splitlines() if line.split("{")[0].split(" ")[0] == name)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: object, timeout_s: float, what: str) -> float:
    """Poll a callable until it is true; the seconds it took. Fails after ``timeout_s``."""
    assert callable(condition)
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < timeout_s, f"not within {timeout_s} s: {what}"
        time.sleep(_POLL_S)
    return time.monotonic() - began


@contextmanager
def started_server(
    *,
    bento: str = ".",
    port: int | None = None,
    bentoml_home: Path | None = None,
    cwd: Path = ROOT,
    env: Mapping[str, str] | None = None,
) -> Generator[tuple[Server, "subprocess.Popen[bytes]"], None, None]:
    """A server that has been started and may not be ready; whatever is left of it is killed at the end."""
    port = port or free_port()
    with tempfile.TemporaryDirectory(prefix="genkan-") as folder:
        log_path = Path(folder) / "log"
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                [_bentoml(), "serve", bento, "--host", "127.0.0.1", "--port", str(port)],
                cwd=cwd,
                env={
                    **os.environ,
                    "BENTOML_HOME": str(bentoml_home or Path(folder) / "home"),
                    "BENTOML_DO_NOT_TRACK": "True",
                    **(env or {}),
                },
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield Server(f"http://127.0.0.1:{port}", port, process.pid, log_path), process
        finally:
            _kill_group(process)


@contextmanager
def running_server(
    *, bento: str = ".", bentoml_home: Path | None = None, cwd: Path = ROOT, env: Mapping[str, str] | None = None
) -> Generator[Server, None, None]:
    """A server that is ready. It ends by SIGTERM, in bounded time and without a traceback in its log."""
    with started_server(bento=bento, bentoml_home=bentoml_home, cwd=cwd, env=env) as (server, process):
        wait_until(lambda: server.ready() or process.poll() is not None, READY_S, server.log or "ready")
        assert process.poll() is None, server.log
        yield server
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=STOP_S)
        assert "Traceback" not in server.log, server.log


def _bentoml() -> str:
    path = shutil.which("bentoml", path=str(Path(sys.executable).parent))
    assert path is not None
    return path


def _kill_group(process: "subprocess.Popen[bytes]") -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=STOP_S)
