"""``/admin/canary``."""

import json
from collections.abc import Callable

import pytest
from asgi import AsgiClient

from genkan.api.admin_canary import CANARY_PATH, CanaryEndpoint
from genkan.api.auth import Doorkeeper
from genkan.api.exchange import Exchange
from genkan.api.routes import Api
from genkan.config import ServerConfig
from genkan.errors import StoreTimeout, UnknownPath
from genkan.gateway.canary.record import Action
from genkan.wire.caller import Caller

pytestmark = pytest.mark.anyio

SERVER = ServerConfig(open_to="any")
BY_PLACE = Doorkeeper(SERVER).admit
ROUTES = ("chat", "team/chat")


class Canaries:
    """Two routes', and what was decided of them."""

    def __init__(self) -> None:
        self.decided: list[tuple[str, Action, str]] = []

    async def reports(self) -> list[dict[str, object]]:
        return [await self.report(route) for route in ROUTES]

    async def report(self, route: str) -> dict[str, object]:
        if route not in ROUTES:
            raise UnknownPath(f"There is no canary on a route with the name '{route}'.")
        return {"route": route, "state": self.decided[-1][1] if self.decided else "running"}

    async def override(self, route: str, action: Action, who: str) -> None:
        await self.report(route)
        self.decided.append((route, action, who))


class Silent(Canaries):
    """Redis does not answer."""

    async def override(self, route: str, action: Action, who: str) -> None:
        raise StoreTimeout("no answer")


def admin(exchange: Exchange) -> None:
    exchange.caller = Caller(exchange.request_id, "ops", "key_9", is_admin=True)


async def request(
    canaries: Canaries,
    method: str,
    path: str = "",
    body: object = None,
    admit: Callable[[Exchange], None] = BY_PLACE,
) -> AsgiClient:
    endpoint = CanaryEndpoint(canaries, SERVER)
    table = {
        CANARY_PATH: {"GET": endpoint.list_all},
        f"{CANARY_PATH}/*": {"GET": endpoint.get_one, "POST": endpoint.decide},
    }
    content = b"" if body is None else json.dumps(body).encode()
    return await AsgiClient(Api(table, admit, [])).request(method, f"{CANARY_PATH}{path}", [content])


async def test_all_are_listed_and_nobody_may_keep_it() -> None:
    client = await request(Canaries(), "GET")
    assert (client.status, client.headers["cache-control"]) == (200, "no-store")
    data = [{"route": route, "state": "running"} for route in ROUTES]
    assert json.loads(client.body) == {"object": "list", "data": data}


@pytest.mark.parametrize("route", ROUTES)
async def test_one_is_shown_also_where_its_name_has_a_slash(route: str) -> None:
    client = await request(Canaries(), "GET", f"/{route}")
    assert (client.status, json.loads(client.body)["route"]) == (200, route)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_route_without_one_is_not_found(method: str) -> None:
    client = await request(Canaries(), method, "/other", {"action": "promote"})
    assert (client.status, client.error["code"], client.error["type"]) == (404, "unknown_url", "invalid_request_error")


@pytest.mark.parametrize("action", ["promote", "rollback", "restart"])
async def test_it_is_decided_by_name_and_shown_as_it_is_then(action: Action) -> None:
    canaries = Canaries()
    client = await request(canaries, "POST", "/team/chat", {"action": action}, admin)
    assert (client.status, json.loads(client.body)) == (200, {"route": "team/chat", "state": action})
    assert canaries.decided == [("team/chat", action, "key_9")]


async def test_who_needs_no_key_is_named_by_its_tenant() -> None:
    canaries = Canaries()
    await request(canaries, "POST", "/chat", {"action": "rollback"})
    assert canaries.decided == [("chat", "rollback", "local")]


@pytest.mark.parametrize(
    ("body", "param"),
    [({}, "action"), ({"action": "pause"}, "action"), ({"action": 1}, "action"), ({"action": "promote", "x": 1}, "x")],
)
async def test_what_is_not_clear_decides_nothing(body: object, param: str) -> None:
    canaries = Canaries()
    client = await request(canaries, "POST", "/chat", body)
    assert (client.status, client.error["param"], canaries.decided) == (400, param, [])


async def test_without_redis_it_says_so() -> None:
    client = await request(Silent(), "POST", "/chat", {"action": "promote"})
    assert (client.status, client.error["code"]) == (503, "accounts_unavailable")


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("GET", "/chat"), ("POST", "/chat"), ("GET", "/other")])
async def test_is_for_admins(method: str, path: str) -> None:
    def admit(exchange: Exchange) -> None:
        exchange.caller = Caller(exchange.request_id, "acme", "key_1")

    canaries = Canaries()
    client = await request(canaries, method, path, {"action": "promote"}, admit)
    assert (client.status, canaries.decided) == (403, [])
