"""``/admin/drain``: have this server, and no other replica, be left alone; what it still has to do; and undoing it."""

import orjson

from genkan.api.auth import require_admin
from genkan.api.exchange import Exchange, Header
from genkan.clock import Clock
from genkan.config import ServerConfig
from genkan.server.drain import DrainPage
from genkan.wire.fields import Fields
from genkan.wire.strict_json import parse_object

DRAIN_PATH = "/admin/drain"
_PRIVATE: list[Header] = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]


class DrainEndpoint:
    """For administrators. All raise Unauthenticated or Forbidden for others."""

    def __init__(self, page: DrainPage, server: ServerConfig, clock: Clock) -> None:
        self._page = page
        self._server = server
        self._clock = clock

    async def get(self, exchange: Exchange) -> None:
        """``GET``: whether the server drains, since when, and what its workers still do; a tenth of a second old."""
        require_admin(exchange)
        exchange.query_values()
        await self._reply(exchange)

    async def drain(self, exchange: Exchange) -> None:
        """``POST``, with no body or an empty object: drain. Asked twice, it has drained since the first time."""
        require_admin(exchange)
        exchange.query_values()
        await self._read_nothing(exchange)
        self._page.begin(self._clock.unix())
        exchange.fields["drain"] = "begun"
        await self._reply(exchange)

    async def undo(self, exchange: Exchange) -> None:
        """``DELETE``: serve as before."""
        require_admin(exchange)
        exchange.query_values()
        self._page.undo()
        exchange.fields["drain"] = "undone"
        await self._reply(exchange)

    async def _read_nothing(self, exchange: Exchange) -> None:
        if exchange.header(b"content-length") in (None, b"0") and exchange.header(b"transfer-encoding") is None:
            return
        server = self._server
        body = await exchange.json_body(limit_bytes=server.max_body_bytes, timeout_s=server.body_timeout_s)
        Fields(parse_object(body)).only(frozenset())

    async def _reply(self, exchange: Exchange) -> None:
        page, reports = self._page, self._page.reports()
        is_draining = page.is_draining
        content = {
            "object": "drain",
            "draining": is_draining,
            "since": page.since_unix_s if is_draining else None,
            "requests": sum(report.requests for report in reports),
            "connections": sum(report.connections for report in reports),
            "workers": [
                {
                    "pid": report.pid,
                    "requests": report.requests,
                    "connections": report.connections,
                    "draining": report.is_draining,
                }
                for report in reports
            ],
        }
        await exchange.reply(orjson.dumps(content), headers=_PRIVATE)
