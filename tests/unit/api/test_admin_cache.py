"""``/admin/cache``."""

import json
from collections.abc import Callable, Mapping

import pytest
from asgi import AsgiClient

from genkan.api.admin_cache import CacheEndpoint
from genkan.api.auth import Doorkeeper
from genkan.api.exchange import Exchange
from genkan.api.routes import Api
from genkan.config import ServerConfig
from genkan.errors import StoreTimeout
from genkan.wire.caller import Caller

pytestmark = pytest.mark.anyio

PATH = "/admin/cache"
BY_PLACE = Doorkeeper(ServerConfig(open_to="any")).admit


class Caches:
    """Remembers what it was told to purge."""

    def __init__(self) -> None:
        self.purged: list[tuple[str | None, str | None]] = []

    async def statistics(self) -> Mapping[str, object]:
        return {"answers": {"entries": 3, "bytes": 900}, "index": {"entries": 2}}

    async def purge(self, *, tenant: str | None = None, route: str | None = None) -> None:
        self.purged.append((tenant, route))


class Silent(Caches):
    """Redis does not answer."""

    async def statistics(self) -> Mapping[str, object]:
        raise StoreTimeout("no answer")

    async def purge(self, *, tenant: str | None = None, route: str | None = None) -> None:
        raise StoreTimeout("no answer")


def api(caches: Caches, admit: Callable[[Exchange], None] = BY_PLACE) -> Api:
    endpoint = CacheEndpoint(caches)
    return Api({PATH: {"GET": endpoint.get, "DELETE": endpoint.delete}}, admit, [])


async def request(caches: Caches, method: str, query: str = "") -> AsgiClient:
    return await AsgiClient(api(caches)).request(method, f"{PATH}{query}")


async def test_shows_what_the_caches_hold_and_lets_nobody_keep_it() -> None:
    client = await request(Caches(), "GET")
    assert client.status == 200
    assert json.loads(client.body) == {"answers": {"entries": 3, "bytes": 900}, "index": {"entries": 2}}
    assert client.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("query", "purged"),
    [
        ("?tenant=acme", ("acme", None)),
        ("?route=fast%20%EB%8B%B5", (None, "fast 답")),
        ("?all=true", (None, None)),
    ],
)
async def test_purges_what_is_named(query: str, purged: tuple[str | None, str | None]) -> None:
    caches = Caches()
    client = await request(caches, "DELETE", query)
    tenant, route = purged
    assert client.status == 200
    assert json.loads(client.body) == {
        "purged": {"tenant": tenant, "route": route, "all": tenant is None and route is None}
    }
    assert caches.purged == [purged]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("", "all"),
        ("?tenant=a&route=b", "all"),
        ("?tenant=a&all=true", "all"),
        ("?all=false", "all"),
        ("?all=1", "all"),
        ("?tenant=", "tenant"),
        (f"?route={'x' * 201}", "route"),
        ("?tenant=a&tenant=b", "tenant"),
        ("?x=1", "x"),
    ],
)
async def test_what_is_not_clear_purges_nothing(query: str, param: str) -> None:
    caches = Caches()
    client = await request(caches, "DELETE", query)
    assert (client.status, client.error["param"], caches.purged) == (400, param, [])


async def test_takes_no_parameters_to_show() -> None:
    assert (await request(Caches(), "GET", "?tenant=a")).status == 400


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_without_redis_it_says_so(method: str) -> None:
    client = await request(Silent(), method, "?all=true" if method == "DELETE" else "")
    assert (client.status, client.error["code"]) == (503, "accounts_unavailable")


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_is_for_admins(method: str) -> None:
    def admit(exchange: Exchange) -> None:
        exchange.caller = Caller(exchange.request_id, "acme", "key_1")

    caches = Caches()
    client = await AsgiClient(api(caches, admit)).request(method, f"{PATH}?all=true")
    assert (client.status, caches.purged) == (403, [])
