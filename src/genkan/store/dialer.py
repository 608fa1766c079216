"""How a connection to Redis comes about: over TCP, with or without TLS, or a Unix socket; and by way of Sentinels."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any

import aiohappyeyeballs

from genkan.errors import StoreLost
from genkan.store.address import Address

_EYEBALLS_S = 0.25  # RFC 8305's delay before the next address of a name is tried beside one that does not answer


class Dialer:
    """Connections to one address. Certificates are checked against the system's (``SSL_CERT_FILE``), names too."""

    def __init__(self, address: Address, *, connect_s: float) -> None:
        self._address = address
        self._connect_s = connect_s
        self._tls = ssl.create_default_context() if address.tls else None
        self._lookup: asyncio.Future[list[Any]] | None = None

    async def find(self) -> tuple[str, int]:
        """Host and port to dial. Raises StoreLost when no Sentinel knows, each being given ``connect_s``."""
        address = self._address
        return await self._ask_sentinels() if address.sentinels else (address.host, address.port)

    async def dial(self, place: tuple[str, int], protocol: Callable[[], asyncio.Protocol]) -> None:
        """Connect ``protocol`` with ``place``, or with the Unix socket. Raises OSError; takes as long as it takes."""
        loop = asyncio.get_running_loop()
        try:
            if self._address.unix_path:
                await loop.create_unix_connection(protocol, self._address.unix_path)
                return
            addresses = await self._look_up(*place)
            connected = await aiohappyeyeballs.start_connection(addresses, happy_eyeballs_delay=_EYEBALLS_S, loop=loop)
        except (RuntimeError, UnicodeError) as error:  # uvloop has no socket for it; a name that cannot be one
            raise OSError(str(error)) from error
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        name = place[0] if self._tls is not None else None
        await loop.create_connection(protocol, sock=connected, ssl=self._tls, server_hostname=name)

    async def _look_up(self, host: str, port: int) -> list[Any]:
        """One lookup at a time: each takes a thread, of which there are few, until it ends, whoever waits for it."""
        if self._lookup is not None and self._lookup.done():
            self._lookup = None
        if self._lookup is None:
            loop = asyncio.get_running_loop()
            self._lookup = asyncio.ensure_future(loop.getaddrinfo(host, port, type=socket.SOCK_STREAM))
            self._lookup.add_done_callback(_retrieved)
        return await asyncio.shield(self._lookup)

    async def _ask_sentinels(self) -> tuple[str, int]:
        # Only here, as it takes 0.1 s to import.
        from redis.asyncio.retry import Retry
        from redis.asyncio.sentinel import Sentinel
        from redis.backoff import NoBackoff
        from redis.exceptions import RedisError

        sentinel = Sentinel(  # type: ignore[no-untyped-call]  # redis-py types little of it
            self._address.sentinels,
            sentinel_kwargs={
                "socket_timeout": self._connect_s,
                "socket_connect_timeout": self._connect_s,
                "retry": Retry(NoBackoff(), 0),
                "ssl": self._address.tls,
            },
        )
        try:
            host, port = await sentinel.discover_master(self._address.service)
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreLost(f"no Sentinel knows where {self._address} is") from error
        finally:
            for client in sentinel.sentinels:
                await client.aclose()
        return host, port


def _retrieved(lookup: "asyncio.Future[list[Any]]") -> None:
    """Whoever asked may have gone; then nobody looks at what became of it, which the loop would complain about."""
    if not lookup.cancelled():
        lookup.exception()
