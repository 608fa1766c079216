"""How a connection to an upstream comes about: over TCP, with or without TLS, or over a Unix socket."""

import asyncio
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import aiohappyeyeballs

_NAMES_KEPT_S = 30.0
_EYEBALLS_S = 0.25  # RFC 8305's delay before the next address is tried beside one that does not answer


class TcpDialer:
    """Connections to the host and port of a URL. Certificates are checked against the system's, and their names."""

    def __init__(self, base_url: str) -> None:
        parts = urlsplit(base_url)
        assert parts.hostname is not None  # the configuration checked it
        self._host = parts.hostname
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._addresses: list[aiohappyeyeballs.AddrInfoType] = []
        self._looked_up_s = 0.0
        self._lookup: asyncio.Future[list[Any]] | None = None

    async def __call__(self, protocol: Callable[[], asyncio.Protocol]) -> object:
        """See Dial. Names are looked up at most every 30 s, and again when no address of theirs can be reached."""
        loop = asyncio.get_running_loop()
        addresses = self._addresses
        if not addresses or time.monotonic() - self._looked_up_s > _NAMES_KEPT_S:
            addresses = await self._look_up(loop)
        try:
            connected = await aiohappyeyeballs.start_connection(
                addresses, happy_eyeballs_delay=_EYEBALLS_S, interleave=1, loop=loop
            )
        except BaseException as error:  # also when it took too long, which is how most addresses that moved show
            self._addresses = []
            if isinstance(error, RuntimeError):  # uvloop's way of saying that a socket cannot be had
                raise OSError(str(error)) from error
            raise
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        name = self._host if self._tls is not None else None
        # From here on the socket is the loop's to close, also when this fails.
        return await loop.create_connection(protocol, sock=connected, ssl=self._tls, server_hostname=name)

    async def _look_up(self, loop: asyncio.AbstractEventLoop) -> list[aiohappyeyeballs.AddrInfoType]:
        """One lookup at a time: each takes a thread, of which there are few, until it ends, whoever waits for it."""
        if self._lookup is None:
            self._lookup = asyncio.ensure_future(loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM))
            self._lookup.add_done_callback(self._looked_up)
        return await asyncio.shield(self._lookup)

    def _looked_up(self, lookup: "asyncio.Future[list[Any]]") -> None:
        self._lookup = None
        if not lookup.cancelled() and lookup.exception() is None:
            self._addresses, self._looked_up_s = list(lookup.result()), time.monotonic()


class UnixDialer:
    """Connections to a Unix socket."""

    def __init__(self, path: str) -> None:
        self._path = path

    async def __call__(self, protocol: Callable[[], asyncio.Protocol]) -> object:
        """See Dial."""
        return await asyncio.get_running_loop().create_unix_connection(protocol, self._path)
