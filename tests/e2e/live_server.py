"""A real `bentoml serve` in processes of its own, for tests that look at it from outside."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).parents[2]
BENTOML = Path(sys.executable).parent / "bentoml"
MODEL = "smollm2-135m-instruct"
READY_S = 90.0
STOP_S = 20.0
_NO_REUSE = httpx.Limits(max_keepalive_connections=0)  # of workers that may die, and none is to be asked every time


class LiveServer:
    """One server. ``start`` and ``wait_ready`` first, ``destroy`` always; or ``running_server`` for all of it."""

    def __init__(
        self,
        *,
        bento: str = ".",
        store: Path | None = None,
        cwd: Path = ROOT,
        port: int | None = None,
        env: Mapping[str, str] | None = None,
        command: Sequence[str] | None = None,
    ) -> None:
        """``store`` is its BENTOML_HOME, by default one of its own. ``command`` is run in place of `bentoml serve`."""
        self.port = port or free_port()
        self.base_url = f"http://127.0.0.1:{self.port}"
        # Not pytest's folder: BentoML's sockets lie in it, and the path of a socket has at most 103 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="genkan-"))
        self.log_path = self.folder / "log"
        self._command = command or [str(BENTOML), "serve", bento, "--host", "127.0.0.1", "--port", str(self.port)]
        self._cwd = cwd
        self._environ = {
            **_environ(),
            "BENTOML_HOME": str(store or self.folder),
            "BENTOML_DO_NOT_TRACK": "True",
            "GENKAN__REDIS__DATA_DIR": str(self.folder / "data"),
            "TMPDIR": str(self.folder),
            **(env or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None
        # There is no TLS here, and to load its certificates takes longer than most answers.
        self._http = httpx.Client(base_url=self.base_url, verify=False, timeout=10, trust_env=False, limits=_NO_REUSE)

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        """BentoML's arbiter, whose children are the workers."""
        assert self._process is not None, "start() comes first"
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def start(self) -> None:
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._cwd,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def ready(self) -> bool:
        try:
            return self._http.get("/readyz", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def wait_ready(self) -> None:
        """Shows the log when it fails."""
        try:
            wait_until(lambda: self.ready() or self.process.poll() is not None, READY_S, "the server is ready")
            assert self.process.poll() is None, f"it ended with {self.process.returncode}"
        except AssertionError as error:
            raise AssertionError(f"{error}; the server's log:\n{self.log}") from None

    def metric(self, name: str) -> float:
        """The sum of a metric's values, whatever their labels; 0 until it was first written."""
        text = self._http.get("/metrics").raise_for_status().text
        # There are hundreds of lines, which take longer to parse than to get.
        lines = "".join(line for line in text.splitlines(keepends=True) if line.startswith((f"{name}{{", f"{name} ")))
        samples = (sample for family in text_string_to_metric_families(lines) for sample in family.samples)
        return sum(sample.value for sample in samples)

    def running_sequences(self) -> float:
        return self.metric("genkan_engine_running_sequences")

    def waiting_sequences(self) -> float:
        return self.metric("genkan_engine_waiting_sequences")

    def generated_tokens(self) -> float:
        """Counted when a sequence begins or ends."""
        return self.metric("genkan_engine_generated_tokens_total")

    def processes(self) -> list[int]:
        """Every process of this server that is still there, orphans too: all inherit its folder."""
        mark = f"TMPDIR={self.folder}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                with suppress(OSError):  # gone meanwhile, or not ours to see
                    if mark in (entry / "environ").read_bytes().split(b"\0"):
                        found.append(int(entry.name))
        return found

    def stop(self) -> None:
        """SIGTERM ends it, all of it, and nothing went wrong in its life."""
        self.process.send_signal(signal.SIGTERM)
        self.wait_gone()
        self.assert_clean_log()

    def wait_gone(self) -> None:
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"not gone after {STOP_S:g} s; the server's log:\n{self.log}") from None
        wait_until(lambda: not self.processes(), STOP_S, "all workers are gone")

    def assert_clean_log(self) -> None:
        assert "Traceback" not in self.log, self.log

    def destroy(self) -> None:
        """Leave nothing behind, whatever happened before."""
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._process is not None:
            self._process.wait(STOP_S)
        self._http.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def without_engine(folder: Path) -> Path:
    """The file of a configuration whose only upstream nobody answers at; for tests that ask nothing of it."""
    path = folder / "genkan.yaml"
    settings = {
        "upstreams": [{"name": "nobody", "kind": "openai", "base_url": f"http://127.0.0.1:{free_port()}/v1"}],
        "models": [{"name": "none", "upstream": "nobody"}],
        "routes": [{"alias": "default", "chain": ["none"]}],
    }
    path.write_text(json.dumps(settings), encoding="utf-8")
    return path


@contextmanager
def doomed_server(env: Mapping[str, str] | None = None) -> Generator[LiveServer, None, None]:
    """A server that is ready, and that the test may end as it likes."""
    server = LiveServer(env=env)
    try:
        server.start()
        server.wait_ready()
        yield server
    finally:
        server.destroy()


@contextmanager
def running_server(
    env: Mapping[str, str] | None = None, *, bento: str = ".", store: Path | None = None, cwd: Path = ROOT
) -> Generator[LiveServer, None, None]:
    """A server that is ready. Ends it cleanly, or fails."""
    server = LiveServer(env=env, bento=bento, store=store, cwd=cwd)
    try:
        server.start()
        server.wait_ready()
        yield server
        server.stop()
    finally:
        server.destroy()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], bool], limit_s: float, what: str) -> float:
    """Ask again and again until it is so; the seconds it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < limit_s, f"not within {limit_s:g} s: {what}"
        time.sleep(0.01)
    return time.monotonic() - began


def _environ() -> dict[str, str]:
    """Ours, without settings of the one who runs the tests, but for where converted weights are kept."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("GENKAN_", "BENTOML_"))}
    if "GENKAN_CACHE_DIR" in os.environ:
        ours["GENKAN_CACHE_DIR"] = os.environ["GENKAN_CACHE_DIR"]
    # Compute threads wait for each other at every layer, so two are many times slower than one as soon as anything
    # else shares their cores.
    return {**ours, "GENKAN__ENGINE__THREADS": "1"}
