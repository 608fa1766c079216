"""The process of one model server: its guard, its output as log lines, its health over HTTP."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from genkan.model_servers import guard
from genkan.model_servers.command import HOST
from genkan.model_servers.log_lines import LogLines
from genkan.upstream.dialers import TcpDialer
from genkan.upstream.http_client import HttpClient, HttpError

_READ_BYTES: Final = 64 << 10
_log = logging.getLogger("genkan.model_servers")


class ServerProcess:
    """One life of a server. ``run`` it; meanwhile ``terminate`` and ``kill`` end it."""

    def __init__(
        self, name: str, command: Sequence[str], environ: Mapping[str, str], *, stop_s: float, secret: str | None
    ) -> None:
        """``stop_s`` is how long it may take to end should this process be gone; ``secret`` is kept out of the log."""
        self._name = name
        self._command = [sys.executable, "-I", guard.__file__, str(os.getpid()), f"{stop_s:g}", *command]
        self._environ = environ
        self._lines = LogLines(secret)
        self._guard: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Raises OSError where no process can be made."""
        self._guard = await asyncio.create_subprocess_exec(
            *self._command,
            env=dict(self._environ),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in a terminal is for us: the gateway has yet to end its streams
        )

    async def run(self) -> int:
        """Logs what it says until it has ended, and with it all that it had started; its exit status."""
        assert self._guard is not None, "start() comes first"
        assert self._guard.stdout is not None
        while data := await self._guard.stdout.read(_READ_BYTES):
            self._say(data)
        for line in self._lines.end():
            _log.info("%s: %s", self._name, line)
        status = await self._guard.wait()
        with suppress(ProcessLookupError):  # where somebody killed the guard
            os.killpg(self._guard.pid, signal.SIGKILL)
        return status

    def terminate(self) -> None:
        """Ask it to end."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Have its guard kill it, and all that it started."""
        self._signal(signal.SIGINT)

    def _say(self, data: bytes) -> None:
        for line in self._lines.feed(data):
            _log.info("%s: %s", self._name, line)

    def _signal(self, number: signal.Signals) -> None:
        if self._guard is not None:
            with suppress(ProcessLookupError):
                self._guard.send_signal(number)


class HealthQuestion:
    """``GET /health``, on a connection of its own each time: whether one can be made is a part of the answer."""

    def __init__(self, port: int, timeout_s: float) -> None:
        dial = TcpDialer(f"http://{HOST}:{port}")
        self._client = HttpClient(dial, connect_s=timeout_s, keep_alive=0, keep_alive_s=1.0)
        self._timeout_s = timeout_s
        self._message = f"GET /health HTTP/1.1\r\nhost: {HOST}:{port}\r\nconnection: close\r\n\r\n".encode("ascii")

    async def is_well(self) -> bool:
        """Whether it answers with 200, in time."""
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await self._client.request(self._message)
                response.close()
                return response.status == 200
        except (HttpError, OSError, TimeoutError):
            return False

    def close(self) -> None:
        """Ask no more."""
        self._client.close()
