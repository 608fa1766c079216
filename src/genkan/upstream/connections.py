"""The connections to one upstream: how many idle ones are kept, and what happens when one of those was dead.

Theory. A server may close an idle connection at the very moment at which the next request is written on it. The request
was not read, yet all the client sees is a connection that closed without an answer; on a connection of its own that
would mean that the server fell over the request. So a failure is forgiven once, and only on a connection that had been
idle, and the request is sent again on a fresh one: a restarted server has closed every idle connection.

aiohttp's connectors have neither a limit on idle connections nor a way to say whether one was reused, so two methods
of theirs are overridden (`_get` and `_release` of aiohttp 3.14; the tests would notice if they changed).
"""

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    _Connector = aiohttp.BaseConnector
else:
    _Connector = object

_fresh_only: ContextVar[bool] = ContextVar("fresh_only", default=False)
_was_reused: ContextVar[bool] = ContextVar("was_reused", default=False)


def was_reused() -> bool:
    """Whether the last connection that the current task got from a pool had been idle in it."""
    return _was_reused.get()


class fresh_connection:  # noqa: N801 - reads as the block it is
    """``with fresh_connection():`` requests of this task do not use idle connections."""

    def __enter__(self) -> None:
        self._token = _fresh_only.set(True)

    def __exit__(self, *_: object) -> None:
        _fresh_only.reset(self._token)


class _KeepsSome(_Connector):
    keep_alive: int

    async def _get(self, key: Any, traces: Any) -> Any:
        connection = None if _fresh_only.get() else await super()._get(key, traces)
        _was_reused.set(connection is not None)
        return connection

    def _release(self, key: Any, protocol: Any, *, should_close: bool = False) -> None:
        full = len(self._conns.get(key, ())) >= self.keep_alive
        super()._release(key, protocol, should_close=should_close or full)


class TcpConnections(_KeepsSome, aiohttp.TCPConnector):
    """Connections by name or address, at most ``keep_alive`` of them idle, for ``keep_alive_s`` at most."""

    def __init__(self, *, keep_alive: int, keep_alive_s: float) -> None:
        super().__init__(limit=0, keepalive_timeout=keep_alive_s, ttl_dns_cache=30)
        self.keep_alive = keep_alive


class UnixConnections(_KeepsSome, aiohttp.UnixConnector):
    """Connections to a Unix socket."""

    def __init__(self, path: str, *, keep_alive: int, keep_alive_s: float) -> None:
        super().__init__(path, limit=0, keepalive_timeout=keep_alive_s)
        self.keep_alive = keep_alive
