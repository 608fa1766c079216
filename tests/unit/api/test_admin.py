"""The prefix cache over HTTP: who sees it, in which form, and what its page may do."""

import json
import re
from typing import Any

import pytest
from asgi import AsgiClient

from genkan.api.admin import EnginePrefixCacheEndpoint, PrefixCacheEndpoint
from genkan.api.auth import Doorkeeper
from genkan.api.routes import Api
from genkan.config import ServerConfig
from genkan.errors import EngineUnavailable

pytestmark = pytest.mark.anyio

SNAPSHOT: dict[str, Any] = {
    "models": ["m", "n"],
    "model": "m",
    "pages": 2,
    "namespaces": [{"tenant": None, "children": []}],
}
CHROME = b"text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8"


class OnePerTenant:
    """A model whose cache holds one page for each tenant, beside one that has none."""

    def __init__(self, *tenants: str) -> None:
        self.tenants = list(tenants)

    async def prefix_cache_snapshot(self, model: str | None) -> dict[str, Any]:
        return SNAPSHOT | {"model": model or "m"}

    async def purge_prefix_cache(self, tenant: str, model: str | None) -> int:
        if model == "n":
            return 0
        before = len(self.tenants)
        self.tenants = [name for name in self.tenants if name != tenant]
        return before - len(self.tenants)


class Direct:
    """An engine without a socket in between."""

    def __init__(self, model: OnePerTenant) -> None:
        self._model = model

    async def prefix_cache(self, model: str | None) -> bytes:
        return json.dumps(await self._model.prefix_cache_snapshot(model)).encode()

    async def purge_prefix_cache(self, tenant: str, model: str | None) -> bytes:
        pages = await self._model.purge_prefix_cache(tenant, model)
        return json.dumps({"tenant": tenant, "purged_pages": pages}).encode()


def gateway(model: OnePerTenant | None = None, server: ServerConfig | None = None) -> Api:
    endpoint = PrefixCacheEndpoint(Direct(model or OnePerTenant()))
    admit = Doorkeeper(server or ServerConfig()).admit
    return Api({"/p": {"GET": endpoint.get, "DELETE": endpoint.delete}}, admit, [])


def engine(model: OnePerTenant) -> Api:
    endpoint = EnginePrefixCacheEndpoint(model)
    return Api({"/p": {"GET": endpoint.get, "DELETE": endpoint.delete}}, lambda _: None, [])


async def page() -> AsgiClient:
    return await AsgiClient(gateway()).request("GET", "/p?format=html")


@pytest.mark.parametrize(
    ("path", "accept", "kind"),
    [
        ("/p", None, "application/json"),
        ("/p", b"*/*", "application/json"),
        ("/p", CHROME, "text/html; charset=utf-8"),
        ("/p?format=json", CHROME, "application/json"),
        ("/p?format=html", b"*/*", "text/html; charset=utf-8"),
    ],
)
async def test_browsers_get_the_page_and_others_json_unless_they_ask(
    path: str, accept: bytes | None, kind: str
) -> None:
    client = await AsgiClient(gateway()).request("GET", path, headers=[(b"accept", accept)] if accept else [])
    assert (client.status, client.headers["content-type"]) == (200, kind)
    assert client.headers["cache-control"] == "no-store"
    assert client.headers["vary"] == "accept"
    if kind == "application/json":
        assert json.loads(client.body) == SNAPSHOT


async def test_head_answers_as_get_does_without_a_body() -> None:
    client = await AsgiClient(gateway()).request("HEAD", "/p")
    assert (client.status, client.body) == (200, b"")
    assert int(client.headers["content-length"]) == len(json.dumps(SNAPSHOT))


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("open_to", ["loopback", "any"])
async def test_other_machines_never_see_or_purge_it(method: str, open_to: Any) -> None:
    model = OnePerTenant("a")
    app = gateway(model, ServerConfig(open_to=open_to))
    client = await AsgiClient(app, peer="192.0.2.7").request(method, "/p?tenant=a")
    assert client.status == 401
    assert "192.0.2.7" in client.error["message"]
    assert model.tenants == ["a"]


@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "::ffff:127.0.0.1", None])
async def test_this_machine_is_served_when_the_server_is_open_to_any(peer: str | None) -> None:
    app = gateway(server=ServerConfig(open_to="any"))
    assert (await AsgiClient(app, peer=peer).request("GET", "/p")).status == 200


@pytest.mark.parametrize("face", ["gateway", "engine"])
async def test_purges_the_tenant_it_is_told_and_no_other(face: str) -> None:
    model = OnePerTenant("a", "Zoë & Co", "b")
    app = gateway(model) if face == "gateway" else engine(model)
    client = await AsgiClient(app).request("DELETE", "/p?tenant=Zo%C3%AB+%26%20Co")
    assert client.status == 200
    assert json.loads(client.body) == {"tenant": "Zoë & Co", "purged_pages": 1}
    assert model.tenants == ["a", "b"]


@pytest.mark.parametrize("face", ["gateway", "engine"])
@pytest.mark.parametrize("query", ["", "?tenant=", "?tenant=a&tenant=b", "?tenant=a&all=1", "?tenant=%FF", "?tenant"])
async def test_purges_nothing_unless_one_tenant_is_named(face: str, query: str) -> None:
    model = OnePerTenant("a", "b")
    app = gateway(model) if face == "gateway" else engine(model)
    client = await AsgiClient(app).request("DELETE", f"/p{query}")
    assert (client.status, client.error["type"]) == (400, "invalid_request_error")
    assert model.tenants == ["a", "b"]


@pytest.mark.parametrize("query", ["format=xml", "format=", "tenant=a"])
async def test_refuses_a_form_or_a_parameter_that_it_does_not_know(query: str) -> None:
    client = await AsgiClient(gateway()).request("GET", f"/p?{query}")
    assert (client.status, client.error["param"]) == (400, query.partition("=")[0])


async def test_the_engine_shows_its_models_snapshot() -> None:
    client = await AsgiClient(engine(OnePerTenant())).request("GET", "/p")
    assert json.loads(client.body) == SNAPSHOT


@pytest.mark.parametrize("face", ["gateway", "engine"])
async def test_one_of_several_models_can_be_named(face: str) -> None:
    model = OnePerTenant("a")
    app = gateway(model) if face == "gateway" else engine(model)
    assert json.loads((await AsgiClient(app).request("GET", "/p?model=n")).body)["model"] == "n"
    purged = await AsgiClient(app).request("DELETE", "/p?tenant=a&model=n")
    assert json.loads(purged.body) == {"tenant": "a", "purged_pages": 0}
    assert model.tenants == ["a"]


async def test_what_the_engine_refuses_reaches_the_client() -> None:
    class Loading(Direct):
        async def prefix_cache(self, model: str | None) -> bytes:
            raise EngineUnavailable("loading")

    endpoint = PrefixCacheEndpoint(Loading(OnePerTenant()))
    app = Api({"/p": {"GET": endpoint.get}}, Doorkeeper(ServerConfig()).admit, [])
    client = await AsgiClient(app).request("GET", "/p")
    assert (client.status, client.error["code"]) == (503, "engine_unavailable")
    assert (await AsgiClient(app).request("GET", "/p?format=html")).status == 200  # the page then says why


async def test_the_page_may_load_nothing_and_talk_to_its_own_server_only() -> None:
    client = await page()
    rules = dict(rule.split(" ", 1) for rule in client.headers["content-security-policy"].split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["connect-src"] == "'self'"
    assert rules["frame-ancestors"] == "'none'"
    assert client.headers["x-content-type-options"] == "nosniff"


async def test_the_page_is_self_contained() -> None:
    text = (await page()).body.decode()
    assert not re.search(r"https?://|@import|url\(|<script[^>]+src", text)
    assert re.findall(r"<link[^>]+>", text) == ['<link rel="icon" href="data:,">']


async def test_the_page_puts_nothing_of_the_cache_in_as_markup() -> None:
    text = (await page()).body.decode()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", text)
    assert not re.search(r"""\son[a-z]+=["']""", text)


@pytest.mark.parametrize(
    "header",
    [
        (b"host", b"evil.example"),
        (b"host", b"evil.example:3000"),
        (b"host", b"10.0.0.7:3000"),
        (b"host", b"localhost.evil.example"),
        (b"host", b"[::1"),
        (b"origin", b"https://evil.example"),
        (b"origin", b"null"),
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_a_page_of_another_site_gets_nothing_and_drops_nothing(method: str, header: tuple[bytes, bytes]) -> None:
    model = OnePerTenant("local")
    client = await AsgiClient(gateway(model)).request(method, "/p?tenant=local", headers=[header])
    assert client.status == 401
    assert header[0].decode() in client.error["message"]
    assert model.tenants == ["local"]


@pytest.mark.parametrize("host", [b"localhost:3000", b"127.0.0.1:3000", b"[::1]:3000", b"LOCALHOST", b"127.0.0.2"])
async def test_this_machine_may_use_any_of_its_own_names(host: bytes) -> None:
    headers = [(b"host", host), (b"origin", b"http://" + host)]
    assert (await AsgiClient(gateway()).request("GET", "/p", headers=headers)).status == 200
