"""The process of one model server: its guard, its output as log lines, its health over HTTP."""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import BinaryIO, Final

from genkan.model_servers import guard
from genkan.model_servers.command import HOST
from genkan.model_servers.log_lines import LogLines
from genkan.upstream.dialers import TcpDialer
from genkan.upstream.http_client import HttpClient, HttpError

_READ_BYTES: Final = 64 << 10
_LAST_WORDS_S: Final = 0.5
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
        self._output: BinaryIO | None = None

    async def start(self) -> None:
        """Raises OSError where no process can be made."""
        # A pipe of our own: asyncio's is a part of the process, which then has not ended while anybody holds the pipe.
        reading, writing = os.pipe()
        self._output = os.fdopen(reading, "rb", buffering=0)  # closed by `run`
        try:
            self._guard = await asyncio.create_subprocess_exec(
                *self._command,
                env=dict(self._environ),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writing,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in a terminal is for us: the gateway has yet to end its streams
            )
        except BaseException:
            self._output.close()
            raise
        finally:
            os.close(writing)

    async def run(self) -> int:
        """Logs what it says until it has ended, and with it all that it had started; its exit status.

        Where somebody killed the guard itself, what the server had put into another session may outlive it.
        """
        assert self._guard is not None, "start() comes first"
        listening = asyncio.create_task(self._listen())
        try:
            status = await self._guard.wait()
            with suppress(ProcessLookupError):  # where the guard could not do it
                os.killpg(self._guard.pid, signal.SIGKILL)
            await asyncio.wait([listening], timeout=_LAST_WORDS_S)  # whoever is left may hold the other end
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
        return status

    def terminate(self) -> None:
        """Ask it to end."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Have its guard kill it, and all that it started."""
        self._signal(signal.SIGINT)

    async def _listen(self) -> None:
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, self._output)
        try:
            while data := await reader.read(_READ_BYTES):
                self._say(self._lines.feed(data))
        finally:
            transport.close()
            self._say(self._lines.end())

    def _say(self, lines: Iterator[str]) -> None:
        for line in lines:
            _log.info("%s: %s", self._name, line)

    def _signal(self, number: signal.Signals) -> None:
        if self._guard is not None:
            with suppress(ProcessLookupError):
                self._guard.send_signal(number)


def is_free(port: int) -> bool:
    """Whether nobody listens there: else somebody else would be asked, and answer, in the server's place."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that have ended do not count
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


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
