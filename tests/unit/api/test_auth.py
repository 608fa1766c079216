"""Who may call: without keys, and with them."""

from typing import Any

import pytest
from asgi import AsgiClient
from scripted_upstreams import VirtualClock

from genkan.api.auth import Doorkeeper, _is_loopback_address, require_admin
from genkan.api.exchange import Exchange, Header
from genkan.api.routes import Api
from genkan.config import ServerConfig, TenantConfig
from genkan.gateway.key_format import mint
from genkan.gateway.key_issuer import Issued, KeyIssuer
from genkan.gateway.key_records import NewKey
from genkan.gateway.key_ring import KeyRing
from genkan.store.keys import MemoryKeyStore
from genkan.wire.caller import Caller

pytestmark = pytest.mark.anyio
SECRET = b"s" * 32
OPEN = ServerConfig(open_to="any")


async def status_for(peer: str | None, server: ServerConfig) -> int:
    client = AsgiClient(Api({}, Doorkeeper(server).admit, []), peer=peer)
    return (await client.request("GET", "/nowhere")).status


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1", None])
async def test_admits_peers_on_this_machine(peer: str | None) -> None:
    assert await status_for(peer, ServerConfig()) == 404


@pytest.mark.parametrize("peer", ["192.0.2.7", "2001:db8::1", "::ffff:192.0.2.7", "testclient", "127.0.0.1.evil"])
async def test_refuses_everyone_else(peer: str) -> None:
    assert await status_for(peer, ServerConfig()) == 401


async def test_admits_anyone_once_it_is_opened() -> None:
    assert await status_for("192.0.2.7", ServerConfig(open_to="any")) == 404


async def test_says_why_and_what_to_do() -> None:
    client = AsgiClient(Api({}, Doorkeeper(ServerConfig()).admit, []), peer="192.0.2.7")
    await client.request("GET", "/")
    assert "192.0.2.7" in client.error["message"]
    assert "server.open_to" in client.error["message"]


async def test_what_peers_call_themselves_is_not_kept_nor_repeated_at_length() -> None:
    before = _is_loopback_address.cache_info().currsize
    for name in ("not-an-address", "127.0.0.1" + "x" * 60_000, "::1%" + "x" * 60_000):
        client = AsgiClient(Api({}, Doorkeeper(ServerConfig()).admit, []), peer=name)
        await client.request("GET", "/nowhere")
        assert client.status == 401
        assert len(client.error["message"]) < 400
    assert _is_loopback_address.cache_info().currsize == before


FOREIGN = [(b"host", b"evil.example:3000"), (b"origin", b"https://evil.example"), (b"origin", b"null")]


@pytest.mark.parametrize("header", FOREIGN, ids=str)
async def test_without_keys_a_page_of_another_site_gets_nothing_of_any_path(header: Header) -> None:
    door = Door(ServerConfig())
    await door.ring.refresh()
    for method, path in (("POST", "/v1/x"), ("GET", "/admin/x"), ("GET", "/admin/prefix-cache"), ("GET", "/nowhere")):
        client = await AsgiClient(door.app).request(method, path, headers=[header])
        assert (client.status, client.error["code"]) == (401, "invalid_api_key")
        assert f"the header {header[0].decode()} says" in client.error["message"]
        assert "server.open_to" in client.error["message"]
    assert door.entered == []
    for path in ("/", "/health"):
        assert (await AsgiClient(door.app).request("GET", path, headers=[header])).status == 200


@pytest.mark.parametrize("host", [b"127.0.0.1:3000", b"localhost:3000", b"[::1]:3000", b"localhost"])
async def test_without_keys_this_machine_is_asked_for_by_its_own_names(host: bytes) -> None:
    door = Door(ServerConfig())
    await door.ring.refresh()
    headers = [(b"host", host), (b"origin", b"http://" + host)]
    assert (await AsgiClient(door.app).request("POST", "/v1/x", headers=headers)).status == 200
    assert (await AsgiClient(door.app, peer="192.0.2.7").request("POST", "/v1/x", headers=headers)).status == 401


@pytest.mark.parametrize("header", FOREIGN, ids=str)
async def test_by_a_key_and_where_it_is_open_to_any_a_server_has_any_name(header: Header) -> None:
    door = Door(ServerConfig(open_to="any"))
    await door.ring.refresh()
    assert (await AsgiClient(door.app).request("POST", "/v1/x", headers=[header])).status == 200
    door = Door(ServerConfig())
    key = bearer((await door.create()).text)
    authorization = (b"authorization", key)
    assert (await AsgiClient(door.app).request("POST", "/v1/x", headers=[header, authorization])).status == 200


class Door:
    """A door with keys, and an endpoint behind it that remembers who came in."""

    def __init__(self, server: ServerConfig = OPEN, **options: Any) -> None:
        self.clock = VirtualClock()
        self.store = MemoryKeyStore()
        self.issuer = KeyIssuer(self.store, SECRET, self.clock)
        self.ring = KeyRing(self.store, SECRET, self.clock, trust_s=300)
        tenants = [TenantConfig(name="narrow", models=["a", "b"]), TenantConfig(name="wide")]
        keeper = Doorkeeper(server, self.ring, tenants=tenants, clock=self.clock, **options)
        table = {"/v1/x": {"POST": self._enter}, "/admin/x": {"GET": self._administer}, "/": {"GET": self._enter}}
        self.app = Api({**table, "/admin/prefix-cache": table["/admin/x"], "/health": table["/"]}, keeper.admit, [])
        self.entered: list[Caller] = []

    async def _enter(self, exchange: Exchange) -> None:
        self.entered.append(exchange.caller)
        await exchange.reply(b"{}")

    async def _administer(self, exchange: Exchange) -> None:
        require_admin(exchange)
        await self._enter(exchange)

    async def create(self, tenant: str = "wide", **wanted: Any) -> Issued:
        issued = await self.issuer.create(NewKey.model_validate({"tenant": tenant, **wanted}))
        await self.ring.refresh()
        return issued

    async def ask(self, *authorization: bytes, path: str = "/v1/x", peer: str | None = "192.0.2.7") -> AsgiClient:
        method = "POST" if path.startswith("/v1") else "GET"
        headers: list[Header] = [(b"host", b"genkan.example"), *((b"authorization", it) for it in authorization)]
        return await AsgiClient(self.app, peer=peer).request(method, path, headers=headers)


@pytest.fixture
async def door() -> Door:
    door = Door()
    await door.ring.refresh()
    return door


def bearer(text: str) -> bytes:
    return b"Bearer " + text.encode()


async def test_until_the_first_key_nobody_needs_one_and_then_everybody_does(door: Door) -> None:
    assert (await door.ask()).status == 200
    issued = await door.create()
    assert (await door.ask()).status == 401
    assert (await door.ask(peer="127.0.0.1")).status == 401
    assert (await door.ask(bearer(issued.text))).status == 200
    await door.issuer.revoke(issued.key.id)
    await door.ring.refresh()
    assert (await door.ask(peer="127.0.0.1")).status == 401


async def test_a_key_can_be_required_before_there_is_one() -> None:
    door = Door(required="always")
    await door.ring.refresh()
    assert (await door.ask(peer="127.0.0.1")).status == 401


async def test_the_caller_is_the_keys(door: Door) -> None:
    user, admin = await door.create(), await door.create(role="admin")
    await door.ask(bearer(user.text))
    await door.ask(bearer(admin.text))
    assert [(it.tenant, it.key_id, it.is_admin) for it in door.entered] == [
        ("wide", user.key.id, False),
        ("wide", admin.key.id, True),
    ]


async def test_without_keys_the_caller_is_local_and_an_admin_by_a_local_name_only(door: Door) -> None:
    for peer, host in ((None, b"localhost"), ("127.0.0.1", b"evil.example"), ("192.0.2.7", b"localhost")):
        await AsgiClient(door.app, peer=peer).request("POST", "/v1/x", headers=[(b"host", host)])
    assert [(it.tenant, it.key_id, it.is_admin) for it in door.entered] == [
        ("local", None, True),
        ("local", None, False),
        ("local", None, False),
    ]


@pytest.mark.parametrize(
    ("tenant", "models", "expected"),
    [
        ("wide", None, None),
        ("unheard-of", None, None),
        ("wide", ["a", "z"], {"a", "z"}),
        ("narrow", None, {"a", "b"}),
        ("narrow", ["a", "z"], {"a"}),
        ("narrow", ["z"], set()),
        ("wide", [], set()),
    ],
)
async def test_a_key_may_use_what_both_it_and_its_tenant_may(
    door: Door, tenant: str, models: list[str] | None, expected: set[str] | None
) -> None:
    await door.ask(bearer((await door.create(tenant, models=models)).text))
    assert door.entered[0].models == expected


@pytest.mark.parametrize("scheme", [b"Bearer ", b"bearer ", b"BEARER  ", b"Bearer \t "])
async def test_the_scheme_is_read_as_http_has_it(door: Door, scheme: bytes) -> None:
    key = (await door.create()).text.encode()
    assert (await door.ask(scheme + key)).status == 200
    assert (await door.ask(scheme + key + b" ")).status == 200


HOSTILE = {
    "empty": b"",
    "only the scheme": b"Bearer",
    "no key": b"Bearer ",
    "no scheme": b"%KEY%",
    "Basic": b"Basic %KEY%",
    "another scheme": b"Token %KEY%",
    "no blank": b"Bearer%KEY%",
    "quotes": b'Bearer "%KEY%"',
    "single quotes": b"Bearer '%KEY%'",
    "NUL": b"Bearer %KEY%\0",
    "NUL before": b"Bearer \0%KEY%",
    "non-ASCII": "Bearer %KEY%é".encode(),
    "Latin-1": b"Bearer %KEY%\xe9",
    "full-width": "Bearer ｇｋ-%KEY%".encode(),
    "64 KB": b"Bearer " + b"x" * 65536,
    "64 KB that begin well": b"Bearer %KEY%" + b"0" * 65536,
    "cut": b"Bearer %KEY",
    "twice in one": b"Bearer %KEY%,%KEY%",
    "two in one": b"Bearer %KEY% %KEY%",
    "wildcard": b"Bearer *",
    "another's": b"Bearer sk-proj-0123456789abcdefghijklmnopqrstuvwxyz",
    "unknown": b"Bearer " + mint().encode(),
}


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
async def test_a_hostile_key_is_a_401_that_repeats_nothing(door: Door, value: bytes) -> None:
    key = (await door.create()).text
    if value.endswith(b"%KEY"):
        value = value.replace(b"%KEY", key[:-1].encode())
    client = await door.ask(value.replace(b"%KEY%", key.encode()))
    assert client.status == 401
    assert client.error == {
        "message": "Incorrect API key provided. You can get one from the operator of this server.",
        "type": "invalid_request_error",
        "param": None,
        "code": "invalid_api_key",
    }
    assert door.entered == []


async def test_two_headers_are_none_even_if_both_are_right(door: Door) -> None:
    key = bearer((await door.create()).text)
    assert (await door.ask(key, key)).status == 401
    assert (await door.ask(b"", key)).status == 401


async def test_no_header_is_told_how_to_send_one(door: Door) -> None:
    await door.create()
    client = await door.ask()
    assert (client.status, client.error["code"]) == (401, "invalid_api_key")
    assert client.error["message"].startswith("You didn't provide an API key.")


async def test_a_key_in_another_header_is_none(door: Door) -> None:
    key = (await door.create()).text.encode()
    for name in (b"x-api-key", b"api-key", b"proxy-authorization"):
        client = await AsgiClient(door.app).request("POST", "/v1/x", headers=[(name, key)])
        assert client.status == 401


async def test_expired_and_revoked_are_no_different_from_unknown(door: Door) -> None:
    expiring, revoked = await door.create(expires_in_s=10), await door.create()
    assert (await door.ask(bearer(expiring.text))).status == 200
    await door.issuer.revoke(revoked.key.id)
    door.clock.now_s += 10
    await door.ring.refresh()
    bodies = {(await door.ask(bearer(text))).body for text in (expiring.text, revoked.text, mint())}
    assert len(bodies) == 1
    assert b"Incorrect API key" in bodies.pop()


@pytest.mark.parametrize("path", ["/", "/health"])
@pytest.mark.parametrize("authorization", [[], [b"Bearer junk"], [b"a", b"b"]], ids=str)
async def test_who_watches_needs_no_key(door: Door, path: str, authorization: list[bytes]) -> None:
    await door.create()
    assert (await door.ask(*authorization, path=path)).status == 200


async def test_keys_that_cannot_be_checked_are_a_503_and_never_let_in(door: Door) -> None:
    key = bearer((await door.create()).text)
    door.clock.now_s += 301
    for authorization in ([key], [], [b"Bearer junk"]):
        client = await door.ask(*authorization)
        assert (client.status, client.error["code"]) == (503, "accounts_unavailable")
        assert client.headers["retry-after"] == "2"
    assert (await door.ask(path="/health")).status == 200


async def test_before_the_keys_were_read_nobody_is_let_in_not_even_from_here() -> None:
    door = Door()
    assert (await door.ask(peer="127.0.0.1")).status == 503
    await door.ring.refresh()
    assert (await door.ask(peer="127.0.0.1")).status == 200


async def test_too_many_wrong_keys_from_one_address_are_told_to_stop(door: Door) -> None:
    right = bearer((await door.create()).text)
    assert [(await door.ask(bearer(mint()))).status for _ in range(20)] == [401] * 20
    client = await door.ask(b"Bearer junk")
    assert (client.status, client.error["code"]) == (429, "rate_limit_exceeded")
    assert client.headers["retry-after"] == "3"
    assert (await door.ask(right)).status == 200
    assert (await door.ask(b"Bearer junk", peer="192.0.2.8")).status == 401
    assert (await door.ask()).status == 401
    door.clock.now_s += 3
    assert (await door.ask(b"Bearer junk")).status == 401


@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", None])
async def test_this_machine_may_be_wrong_as_often_as_it_likes(door: Door, peer: str | None) -> None:
    await door.create()
    assert {(await door.ask(b"Bearer junk", peer=peer)).status for _ in range(50)} == {401}


async def test_admin_paths_are_for_the_keys_of_admins_from_anywhere(door: Door) -> None:
    user, admin = await door.create(), await door.create(role="admin")
    assert (await door.ask(bearer(admin.text), path="/admin/x")).status == 200
    client = await door.ask(bearer(user.text), path="/admin/x")
    assert (client.status, client.error["code"]) == (403, "insufficient_permissions")
    assert (await door.ask(path="/admin/x", peer="127.0.0.1")).status == 401


async def test_a_page_is_let_through_without_a_key_and_its_data_is_not(door: Door) -> None:
    user = await door.create()
    client = await door.ask(path="/admin/prefix-cache", peer=None)
    assert client.status == 401  # by its endpoint
    assert (await door.ask(bearer(user.text), path="/admin/prefix-cache")).status == 403
    assert (await door.ask(b"Bearer junk", path="/admin/prefix-cache")).status == 401
    deleting = await AsgiClient(door.app).request("DELETE", "/admin/prefix-cache")
    assert (deleting.status, deleting.error["message"][:10]) == (401, "You didn't")


@pytest.mark.parametrize(
    ("peer", "host", "status"),
    [("127.0.0.1", b"localhost", 200), ("127.0.0.1", b"evil.example", 401), ("192.0.2.7", b"localhost", 401),
     ("127.0.0.1", b"localhost" * 100, 401)],
)  # fmt: skip
async def test_without_keys_admin_paths_are_for_this_machine_only(
    door: Door, peer: str, host: bytes, status: int
) -> None:
    client = await AsgiClient(door.app, peer=peer).request("GET", "/admin/x", headers=[(b"host", host)])
    assert client.status == status
