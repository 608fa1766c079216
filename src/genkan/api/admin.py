"""``/admin/prefix-cache``: what the engine's prefix cache holds, as JSON and as a page; and purging a tenant.

The gateway's endpoint serves only admins and passes the engine's JSON on; the engine's endpoint makes it. The page has
no data of its own, so whoever may call gets it; it asks for an admin's key when its request for data is refused.
"""

import importlib.resources
from typing import Any, Protocol

import orjson

from genkan.api.auth import require_admin
from genkan.api.exchange import Exchange, Header
from genkan.errors import InvalidRequest

# The page has its style and script inside and talks to this path only. Nobody may frame it: it has a purge button.
_POLICY = (
    b"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# What is cached are prompts, so no browser and no proxy keeps a copy.
_PRIVATE: list[Header] = [
    (b"cache-control", b"no-store"),
    (b"vary", b"accept"),
    (b"x-content-type-options", b"nosniff"),
]


class CachingEngine(Protocol):
    """An engine behind its socket. Both methods return JSON and raise UpstreamError."""

    async def prefix_cache(self, model: str | None) -> bytes: ...

    async def purge_prefix_cache(self, tenant: str, model: str | None) -> bytes: ...


class CachingModels(Protocol):
    """The models in this process. Both methods may raise RequestError."""

    async def prefix_cache_snapshot(self, model: str | None) -> dict[str, Any]:
        """Everything the page shows of ``model``, or of the first, ready to be written as JSON."""

    async def purge_prefix_cache(self, tenant: str, model: str | None) -> int:
        """Drop the tenant's pages of ``model``, or of all; how many there were."""


class PrefixCacheEndpoint:
    """The gateway's face. Its data is for admins only, also when the server is open to any: see `require_admin`."""

    def __init__(self, engine: CachingEngine) -> None:
        self._engine = engine
        page = importlib.resources.files("genkan.api").joinpath("pages", "prefix_cache.html")
        self._page = page.read_bytes()

    async def get(self, exchange: Exchange) -> None:
        """The page for browsers, JSON for everyone else; ``format=json`` or ``format=html`` says which.

        ``model`` names one of several.
        """
        if _wants_page(exchange):
            headers = [*_PRIVATE, (b"content-security-policy", _POLICY), (b"referrer-policy", b"no-referrer")]
            await exchange.reply(self._page, media_type=b"text/html; charset=utf-8", headers=headers)
        else:
            require_admin(exchange)
            values = exchange.query_values("format", "model")
            _check_form(values.get("format", "json"))
            await exchange.reply(await self._engine.prefix_cache(values.get("model")), headers=_PRIVATE)

    async def delete(self, exchange: Exchange) -> None:
        """Drop the pages of the tenant named by ``tenant``, of one ``model`` or of all."""
        require_admin(exchange)
        tenant, model = _tenant_and_model(exchange)
        exchange.fields["purged_tenant"] = tenant
        await exchange.reply(await self._engine.purge_prefix_cache(tenant, model), headers=_PRIVATE)


class EnginePrefixCacheEndpoint:
    """The engine's face, on a socket that only the gateway reaches."""

    def __init__(self, models: CachingModels) -> None:
        self._models = models

    async def get(self, exchange: Exchange) -> None:
        model = exchange.query_values("model").get("model")
        await exchange.reply(orjson.dumps(await self._models.prefix_cache_snapshot(model)))

    async def delete(self, exchange: Exchange) -> None:
        tenant, model = _tenant_and_model(exchange)
        pages = await self._models.purge_prefix_cache(tenant, model)
        await exchange.reply(orjson.dumps({"tenant": tenant, "purged_pages": pages}))


def _wants_page(exchange: Exchange) -> bool:
    if exchange.query:
        return exchange.query == b"format=html"
    return any(b"text/html" in value.lower() for name, value in exchange.headers if name == b"accept")


def _check_form(form: str) -> None:
    if form not in ("json", "html"):
        raise InvalidRequest(f"'format' must be 'json' or 'html'; given: '{form[:100]}'.", param="format")


def _tenant_and_model(exchange: Exchange) -> tuple[str, str | None]:
    values = exchange.query_values("tenant", "model")
    tenant = values.get("tenant")
    if not tenant:
        raise InvalidRequest("Name the tenant whose pages are to be purged: ?tenant=NAME.", param="tenant")
    return tenant, values.get("model")
