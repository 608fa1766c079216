"""``/admin/canary``: how canaries compare with what they are to replace, what was decided, and deciding it oneself."""

from typing import Protocol, cast, get_args

import orjson

from genkan.api.auth import require_admin
from genkan.api.exchange import Exchange, Header
from genkan.config import ServerConfig
from genkan.errors import AccountsUnavailable, StoreError
from genkan.gateway.canary.record import Action
from genkan.wire.fields import Fields
from genkan.wire.strict_json import parse_object

CANARY_PATH = "/admin/canary"
_ACTIONS: tuple[Action, ...] = get_args(Action)
_PRIVATE: list[Header] = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]


class ServedCanaries(Protocol):
    """Every route's canary."""

    async def reports(self) -> list[dict[str, object]]:
        """What is known of all. Raises nothing."""

    async def report(self, route: str) -> dict[str, object]:
        """What is known of one. Raises UnknownPath for a route that has none."""

    async def override(self, route: str, action: Action, who: str) -> None:
        """Decide it for all workers, whatever the figures say. Raises UnknownPath, and StoreError."""


class CanaryEndpoint:
    """For administrators. All raise Unauthenticated or Forbidden for others.

    A route is all of the path below ``/admin/canary/``: its name may have slashes.
    """

    def __init__(self, canaries: ServedCanaries, server: ServerConfig) -> None:
        self._canaries = canaries
        self._server = server

    async def list_all(self, exchange: Exchange) -> None:
        """``GET /admin/canary``: the reports of all routes that have one."""
        require_admin(exchange)
        exchange.query_values()
        await _reply(exchange, {"object": "list", "data": await self._canaries.reports()})

    async def get_one(self, exchange: Exchange) -> None:
        """``GET /admin/canary/{route}``: its report. Raises UnknownPath."""
        require_admin(exchange)
        exchange.query_values()
        await _reply(exchange, await self._canaries.report(_route(exchange)))

    async def decide(self, exchange: Exchange) -> None:
        """``POST /admin/canary/{route}``: ``{"action": "promote" | "rollback" | "restart"}``; its report after that.

        All workers obey within two seconds, and who did it is audited. Raises UnknownPath, InvalidRequest, and
        AccountsUnavailable without Redis.
        """
        require_admin(exchange)
        exchange.query_values()
        action, route = await self._action(exchange), _route(exchange)
        try:
            await self._canaries.override(route, action, exchange.caller.key_id or exchange.caller.tenant)
        except StoreError as error:
            raise AccountsUnavailable("Whether the canary was decided is not known; look, and do it again.") from error
        exchange.fields["canary"] = f"{action} {route}"
        await _reply(exchange, await self._canaries.report(route))

    async def _action(self, exchange: Exchange) -> Action:
        server = self._server
        body = await exchange.json_body(limit_bytes=server.max_body_bytes, timeout_s=server.body_timeout_s)
        fields = Fields(parse_object(body))
        fields.only(frozenset({"action"}))
        fields.require("action")
        return cast("Action", fields.choice("action", _ACTIONS))


def _route(exchange: Exchange) -> str:
    return exchange.path.removeprefix(f"{CANARY_PATH}/")


async def _reply(exchange: Exchange, content: object) -> None:
    await exchange.reply(orjson.dumps(content), headers=_PRIVATE)
