"""Takes new connections as they come, not one in each turn of the event loop.

uvloop's libuv accepts one connection a turn, to share them with other processes that listen (libuv 1.48, "unix: accept
one connection at a time"). While turns are long that starves new clients: at 25 ms a turn, 40 connections a second, and
the rest wait in the kernel, where neither the loop's lag nor a limit sees them. Here they are taken in the same turn,
up to a bound.

BentoML leaves no way in, so two methods of uvicorn's server are replaced.
"""

import asyncio
import socket
from contextlib import suppress
from typing import Final

from uvicorn import Server

MOST_ALONE: Final = 64  # connections a turn, which take 4 ms of it
MOST_SHARED: Final = 16  # where other workers listen too, and shall have their share

_uvicorns_startup, _uvicorns_shutdown = Server.startup, Server.shutdown
_acceptors: dict[Server, list["Acceptor"]] = {}


def install(workers: int) -> None:
    """From now on, in this process, one of so many ``workers``."""
    most = MOST_ALONE if workers == 1 else MOST_SHARED

    async def startup(self: Server, sockets: list[socket.socket] | None = None) -> None:
        await _uvicorns_startup(self, sockets)
        if self.config.ssl is None and type(asyncio.get_running_loop()).__module__.startswith("uvloop"):
            _acceptors[self] = [Acceptor(self, listening, most) for listening in sockets or ()]

    async def shutdown(self: Server, sockets: list[socket.socket] | None = None) -> None:
        for acceptor in _acceptors.pop(self, ()):
            acceptor.close()
        await _uvicorns_shutdown(self, sockets)

    Server.startup, Server.shutdown = startup, shutdown  # type: ignore[method-assign]


class Acceptor:
    """Accepts on a listening socket, beside uvloop's own server. ``close`` it before that socket is closed."""

    def __init__(self, server: Server, listening: socket.socket, most: int) -> None:
        self._server = server
        self._most = most
        self._loop = asyncio.get_running_loop()
        self._socket = listening.dup()  # uvloop has the other one
        self._socket.setblocking(False)
        self._beginning: set[asyncio.Task[object]] = set()  # kept, for the loop forgets tasks
        self._loop.add_reader(self._socket.fileno(), self._accept)

    def close(self) -> None:
        """Accept no more. What was accepted goes on."""
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()

    def _accept(self) -> None:
        with suppress(OSError):  # there is no more, it was withdrawn, or files have run out: uvloop's server says so
            for _ in range(self._most):
                self._begin(self._socket.accept()[0])

    def _begin(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        if connection.family in (socket.AF_INET, socket.AF_INET6):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = self._loop.create_task(self._loop.connect_accepted_socket(self._protocol, connection))
        self._beginning.add(task)
        task.add_done_callback(self._begun)

    def _begun(self, task: "asyncio.Task[object]") -> None:
        self._beginning.discard(task)
        if not task.cancelled():
            task.exception()  # the client has gone already

    def _protocol(self) -> asyncio.Protocol:
        server = self._server
        protocol: asyncio.Protocol = server.config.http_protocol_class(  # type: ignore[call-arg]
            config=server.config, server_state=server.server_state, app_state=server.lifespan.state
        )
        return protocol
