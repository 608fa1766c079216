"""A server in processes and a folder of its own, and what the kernel knows of them. Linux only: it reads /proc."""

import http.client
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from genkan.bench.cores import pinned

ROOT = Path(__file__).parents[3]  # of the repository
READY_S = 60.0
STOP_S = 15.0
LOG_TAIL = 3_000  # characters

_POLL_S = 0.05
_METRICS_S = 30.0
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class ServerFailed(Exception):
    """A server did not come up; the message ends with its log."""


@dataclass(frozen=True, slots=True)
class Command:
    """How to start a server: its command line, what it gets besides our environment, and the files in its folder.

    ``{port}`` in the line and ``{folder}`` in values of the environment stand for the server's own.
    """

    name: str
    line: Sequence[str]
    environ: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


class ServerProcess:
    """A started server on ``port`` of this machine. All its processes inherit ``folder`` as TMPDIR, their mark."""

    def __init__(self, command: Command, folder: Path) -> None:
        self.name = command.name
        self.port = _free_port()
        self.folder = folder
        self._log = folder / "log"
        for name, text in command.files.items():
            (folder / name).write_text(text, encoding="utf-8")
        environ = {
            **_environ(),
            "BENTOML_DO_NOT_TRACK": "True",
            "BENTOML_HOME": str(folder),
            "GENKAN__REDIS__DATA_DIR": str(folder / "data"),
            "TMPDIR": str(folder),
            **{name: value.format(folder=folder) for name, value in command.environ.items()},
        }
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the commands are our own
                [part.format(port=self.port) for part in command.line],
                cwd=ROOT,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that Ctrl-C reaches us only, and we end it in good order
            )

    @property
    def log_tail(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")[-LOG_TAIL:]

    def processes(self) -> list[int]:
        """Those alive, orphans too."""
        mark = f"TMPDIR={self.folder}".encode()
        return [pid for pid in _pids() if mark in _read(pid, "environ").split(b"\0")]

    def cpu_s(self) -> float:
        """Processor time of all its processes so far, in seconds."""
        return sum(_cpu_s(pid) for pid in self.processes())

    def worker(self) -> int:
        """The process that has worked most so far: after some load the one that answers requests."""
        return max(self.processes(), key=_cpu_s)

    def move(self, program: str, cores: frozenset[int]) -> None:
        """Have those of its processes that run ``program`` run on ``cores``."""
        for pid in self.processes():
            if Path(_read(pid, "cmdline").split(b"\0")[0].decode()).name == program:
                os.sched_setaffinity(pid, cores)

    def wait_until_answered(self, request: bytes) -> None:
        """Send ``request`` again and again until its status is 200. Raises ServerFailed after 60 s, or if it ends."""
        deadline_s = time.monotonic() + READY_S
        while not _answered(self.port, request):
            if self._process.poll() is not None:
                raise ServerFailed(f"{self.name} ended with {self._process.returncode}; its log:\n{self.log_tail}")
            if time.monotonic() > deadline_s:
                raise ServerFailed(f"{self.name} does not answer; its log:\n{self.log_tail}")
            time.sleep(_POLL_S)

    def terminate(self) -> None:
        """Ask it to stop, and return at once."""
        self._process.terminate()

    def end(self) -> None:
        """Ask it to stop, then make it; when this returns nothing of it is left."""
        try:
            self.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_S)
        finally:
            while left := self.processes():  # again, until the kernel has put them away
                for pid in left:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                time.sleep(_POLL_S)
            self._process.wait(STOP_S)


@contextmanager
def running(command: Command, cores: frozenset[int]) -> Iterator[ServerProcess]:
    """Start a server on ``cores``; it may not answer yet. Ends it and removes its folder, whatever happens."""
    # Not any deeper: BentoML's sockets lie in it, and the path of a socket has at most 103 bytes.
    folder = Path(tempfile.mkdtemp(prefix="genkan-bench-"))
    try:
        with pinned(cores):
            server = ServerProcess(command, folder)
        try:
            yield server
        finally:
            server.end()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def interruptible() -> Iterator[None]:
    """Have SIGTERM raise KeyboardInterrupt as Ctrl-C does, so that this process ends its servers first.

    Both do, also where a shell started this in the background and had it ignore SIGINT.
    """
    # By way of SIGINT, because asyncio knows how to unwind from that; an exception would end in some callback.
    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler),
        signal.SIGTERM: signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT)),
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def rss_bytes(pid: int) -> int:
    """Resident memory of a process. Raises OSError when it is gone."""
    return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * _PAGE_BYTES


def metrics_text(port: int) -> str:
    """What the genkan on this machine shows on ``/metrics``. Raises OSError."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=_METRICS_S)) as connection:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()


def _answered(port: int, request: bytes) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=READY_S) as connection:
            connection.sendall(request)
            response = http.client.HTTPResponse(connection)
            response.begin()
            response.read()
            return response.status == 200
    except (OSError, http.client.HTTPException):
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _environ() -> dict[str, str]:
    """Ours, without settings of the one who runs the benchmark."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("GENKAN_", "BENTOML_"))}


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]


def _read(pid: int, name: str) -> bytes:
    """A file of /proc; empty when the process is gone meanwhile, or not ours to see."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def _cpu_s(pid: int) -> float:
    fields = _read(pid, "stat").rpartition(b")")[2].split()  # a process may have spaces and brackets in its name
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S if fields else 0.0
