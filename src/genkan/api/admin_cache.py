"""``/admin/cache``: what the caches of answers hold, and purging them."""

from collections.abc import Mapping
from typing import Protocol

import orjson

from genkan.api.auth import require_admin
from genkan.api.exchange import Exchange, Header
from genkan.errors import AccountsUnavailable, InvalidRequest, StoreError

_PRIVATE: list[Header] = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]
_MOST_NAME = 200


class AnswerCaches(Protocol):
    """All tiers together. Both raise StoreError."""

    async def statistics(self) -> Mapping[str, object]:
        """What they hold and how they stand, ready to be written as JSON; no text of anyone's."""

    async def purge(self, *, tenant: str | None = None, route: str | None = None) -> None:
        """Forget all that is of the tenant, and all that is of the route; without either everything. For all workers.

        What was stored before is never answered again once this has returned.
        """


class CacheEndpoint:
    """For administrators. Both raise Unauthenticated or Forbidden for others, and AccountsUnavailable without Redis."""

    def __init__(self, caches: AnswerCaches) -> None:
        self._caches = caches

    async def get(self, exchange: Exchange) -> None:
        """``GET /admin/cache``: the statistics."""
        require_admin(exchange)
        exchange.query_values()
        try:
            found = await self._caches.statistics()
        except StoreError as error:
            raise AccountsUnavailable("The stored answers cannot be counted at the moment.") from error
        await exchange.reply(orjson.dumps(found), headers=_PRIVATE)

    async def delete(self, exchange: Exchange) -> None:
        """``DELETE /admin/cache?tenant=``, ``?route=`` or ``?all=true``: never answer from what is stored of it now.

        Exactly one is given. Names are not checked: what is not there any more can still be purged. InvalidRequest:
        none is given, or several.
        """
        require_admin(exchange)
        tenant, route = _chosen(exchange.query_values("tenant", "route", "all"))
        try:
            await self._caches.purge(tenant=tenant, route=route)
        except StoreError as error:
            raise AccountsUnavailable("Whether the stored answers were purged is not known; purge again.") from error
        purged = {"tenant": tenant, "route": route, "all": tenant is None and route is None}
        exchange.fields["purged_cache"] = tenant or route or "all"
        await exchange.reply(orjson.dumps({"purged": purged}), headers=_PRIVATE)


def _chosen(values: dict[str, str]) -> tuple[str | None, str | None]:
    if len(values) != 1:
        raise InvalidRequest("Say what is to be purged: one of ?tenant=NAME, ?route=NAME and ?all=true.", param="all")
    ((name, value),) = values.items()
    if name == "all":
        if value != "true":
            raise InvalidRequest("'all' must be true.", param="all")
        return None, None
    if not value or len(value) > _MOST_NAME:
        raise InvalidRequest(f"'{name}' must be a name of 1 to {_MOST_NAME} characters.", param=name)
    return (value, None) if name == "tenant" else (None, value)
