"""Limits and budgets over HTTP."""

import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from asgi import AsgiClient
from ledger_rows import memory_ledger

from genkan.api.admin_limits import MOST_GROUPS, LimitsEndpoint
from genkan.api.auth import Doorkeeper
from genkan.api.exchange import Exchange
from genkan.api.routes import Api
from genkan.config import ServerConfig
from genkan.errors import StoreTimeout
from genkan.store.accounts import Accounts, Admission, Amounts, Line, LineState, Plan, Settlement, Unit
from genkan.wire.caller import Caller

pytestmark = pytest.mark.anyio

BY_PLACE = Doorkeeper(ServerConfig(open_to="any")).admit
REQUESTS = Line("t:acme:requests:bucket", "bucket", Unit.REQUESTS, 60, 60.0, 10)
TOKENS = Line("t:acme:tokens:window", "window", Unit.TOKENS, 6000, 60.0)
CONCURRENT = Line("t:acme:concurrent", "lease", Unit.REQUESTS, 8, 30.0)
MONEY = Line("t:acme:usd:day:2026-11-30", "budget", Unit.BUDGET_NANO_USD, 5 * 10**9, 86_400.0)
BUDGET = Line("t:acme:budget-tokens:total:all", "budget", Unit.BUDGET_TOKENS, 1000, 86_400.0)
PLAN = (REQUESTS, TOKENS, CONCURRENT, MONEY, BUDGET)
SHARED = Line("m:m:requests:window", "window", Unit.REQUESTS, 100, 60.0)
GROUPS: list[tuple[str, Plan]] = [
    ("key key_1 of tenant acme", (SHARED,)),
    ("tenant acme", PLAN),
    ("tenant acme-2", ()),
    ("model m", (SHARED,)),
]


def api(
    accounts: Accounts,
    groups: Iterable[tuple[str, Plan]] = GROUPS,
    admit: Callable[[Exchange], None] = BY_PLACE,
) -> Api:
    return Api({"/admin/limits": {"GET": LimitsEndpoint(accounts, lambda: groups).get}}, admit, [])


async def shown(app: Api, query: str = "") -> dict[str, Any]:
    client = await AsgiClient(app).request("GET", f"/admin/limits{query}")
    assert client.status == 200, client.body
    assert client.headers["cache-control"] == "no-store"
    return dict(json.loads(client.body))


async def after_one_request() -> dict[str, Any]:
    """What is shown of acme."""
    accounts = memory_ledger()
    taken = Amounts(requests=1, tokens=1500, budget_tokens=400, budget_nano_usd=1_250_000_001)
    decision = await accounts.admit(Admission("req_1", PLAN, taken))
    assert decision.denied is None
    group: dict[str, Any] = (await shown(api(accounts)))["groups"][1]
    return group


async def test_every_limit_with_what_is_used_and_what_is_left() -> None:
    group = await after_one_request()
    requests, tokens, concurrent = group["limits"]
    assert group["name"] == "tenant acme"
    assert requests == {
        "key": REQUESTS.key,
        "kind": "token_bucket",
        "unit": "requests",
        "limit": 60,
        "burst": 10,
        "window_s": 60.0,
        "used": 1,
        "remaining": 9,
        "reset_s": 1.0,
    }
    assert tokens == {
        "key": TOKENS.key,
        "kind": "sliding_window",
        "unit": "tokens",
        "limit": 6000,
        "window_s": 60.0,
        "used": 1500,
        "remaining": 4500,
        "reset_s": 60.0,
    }
    assert concurrent == {
        "key": CONCURRENT.key,
        "kind": "concurrent",
        "unit": "requests",
        "limit": 8,
        "used": 1,
        "remaining": 7,
        "reset_s": 30.0,
    }


async def test_every_budget_with_what_is_spent_and_what_is_left() -> None:
    assert (await after_one_request())["budgets"] == [
        {
            "key": MONEY.key,
            "unit": "nano_usd",
            "per": "day",
            "period": "2026-11-30",
            "limit": 5 * 10**9,
            "spent": 1_250_000_001,
            "remaining": 3_749_999_999,
            "limit_usd": 5.0,
            "spent_usd": 1.250000001,
            "remaining_usd": 3.749999999,
        },
        {
            "key": BUDGET.key,
            "unit": "tokens",
            "per": "total",
            "period": "all",
            "limit": 1000,
            "spent": 400,
            "remaining": 600,
        },
    ]


async def test_looking_changes_nothing() -> None:
    app = api(memory_ledger())
    assert await shown(app) == await shown(app)


async def test_one_tenant_with_its_keys() -> None:
    found = await shown(api(memory_ledger()), "?tenant=acme")
    assert [group["name"] for group in found["groups"]] == ["key key_1 of tenant acme", "tenant acme"]
    assert (await shown(api(memory_ledger()), "?tenant=nobody"))["groups"] == []


async def test_at_most_so_many_groups_and_it_says_so() -> None:
    many = [(f"tenant {number}", (Line(f"t:{number}", "window", Unit.REQUESTS, 1, 1.0),)) for number in range(1200)]
    found = await shown(api(memory_ledger(), many))
    assert (len(found["groups"]), found["truncated"]) == (MOST_GROUPS, True)
    found = await shown(api(memory_ledger(), many[:MOST_GROUPS]))
    assert (len(found["groups"]), found["truncated"]) == (MOST_GROUPS, False)
    found = await shown(api(memory_ledger(), many), "?tenant=1199")
    assert (len(found["groups"]), found["truncated"]) == (1, False)


async def test_a_line_of_several_groups_is_read_once() -> None:
    accounts, read = memory_ledger(), list[Plan]()
    states = accounts.read

    async def watched(plan: Plan) -> list[LineState]:
        read.append(plan)
        return await states(plan)

    accounts.read = watched  # type: ignore[method-assign]  # to see what is asked of the real ones
    await shown(api(accounts))
    assert read == [(SHARED, *PLAN)]


async def test_is_for_admins() -> None:
    assert (await AsgiClient(api(memory_ledger()), peer="192.0.2.7").request("GET", "/admin/limits")).status == 401

    def as_user(exchange: Exchange) -> None:
        exchange.caller = Caller(exchange.request_id, "acme", "key_1")

    client = await AsgiClient(api(memory_ledger(), admit=as_user)).request("GET", "/admin/limits")
    assert client.status == 403


async def test_an_unknown_parameter_is_named() -> None:
    client = await AsgiClient(api(memory_ledger())).request("GET", "/admin/limits?key=1")
    assert (client.status, client.error["param"]) == (400, "key")


async def test_without_redis_it_is_unavailable() -> None:
    accounts = memory_ledger()

    async def slow(plan: Plan) -> list[LineState]:
        raise StoreTimeout("0.1 s")

    accounts.read = slow  # type: ignore[method-assign]  # Redis, too slow
    client = await AsgiClient(api(accounts)).request("GET", "/admin/limits")
    assert (client.status, client.error["code"]) == (503, "accounts_unavailable")


async def test_what_was_spent_beyond_a_budget_is_shown_and_nothing_remains_of_it() -> None:
    accounts = memory_ledger()
    over = Amounts(budget_tokens=1700, budget_nano_usd=7 * 10**9)
    await accounts.settle([Settlement("req_1", PLAN, Amounts(), over, b"", was_admitted=False)])
    money, tokens = (await shown(api(accounts)))["groups"][1]["budgets"]
    assert (money["spent_usd"], money["remaining_usd"], money["remaining"]) == (7.0, 0.0, 0)
    assert (tokens["spent"], tokens["remaining"]) == (1700, 0)
