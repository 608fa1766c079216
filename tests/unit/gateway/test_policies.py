"""Which limits and budgets apply to whom, and in which period."""

from datetime import UTC, datetime
from typing import Any

import pytest

from genkan.config import Config
from genkan.config.limits import BudgetConfig, LimitConfig
from genkan.gateway.api_key import ApiKey
from genkan.gateway.policies import Policies, Policy
from genkan.store.accounts import Line, LineState, Unit
from genkan.wire.caller import Caller

NOON_S = datetime(2026, 11, 30, 12, tzinfo=UTC).timestamp()
MIDNIGHT_S = datetime(2026, 12, 1, tzinfo=UTC).timestamp()
DAY_S = 86_400.0


def config(**sections: Any) -> Config:
    return Config.model_validate(
        {
            "upstreams": [{"name": "u", "kind": "openai", "base_url": "http://h/v1"}],
            "models": [{"name": "m", "upstream": "u"}, {"name": "other", "upstream": "u"}],
            "routes": [{"alias": "r", "chain": ["m", "other"]}],
            **sections,
        }
    )


def rate(limit: int, **more: Any) -> dict[str, Any]:
    return {"requests": {"limit": limit, **more}}


def api_key(**fields: Any) -> ApiKey:
    return ApiKey(**{"id": "key_1", "hint": "abcd", "tenant": "acme", "created_s": 0.0, **fields})


def policy(
    config: Config, route: str = "m", *, tenant: str = "acme", key: ApiKey | None = None, at_s: float = NOON_S
) -> Policy:
    caller = Caller("req_1", tenant, key.id if key else None)
    return Policies(config, lambda _: key).of(caller, route, at_s)


def keys_of(policy: Policy) -> list[str]:
    return [line.key for line in policy.plan]


def test_without_any_there_is_none() -> None:
    assert policy(config()) == Policy((), ())


def test_limits_of_key_tenant_model_and_route_apply_together_in_this_order() -> None:
    limits = {"key": rate(1), "tenant": rate(2), "models": {"m": rate(3)}, "routes": {"r": rate(4)}}
    plan = policy(config(limits=limits), "r", key=api_key()).plan
    assert plan == (
        Line("k:key_1:requests:bucket", "bucket", Unit.REQUESTS, 1, 60.0, 1, scope="API key"),
        Line("t:acme:requests:bucket", "bucket", Unit.REQUESTS, 2, 60.0, 2, scope="tenant 'acme'"),
        Line("m:m:requests:bucket", "bucket", Unit.REQUESTS, 3, 60.0, 3, scope="model 'm'", is_own=False),
        Line("r:r:requests:bucket", "bucket", Unit.REQUESTS, 4, 60.0, 4, scope="route 'r'", is_own=False),
    )


def test_a_model_by_its_own_name_is_no_route_and_another_model_has_not_its_limits() -> None:
    limits = config(limits={"models": {"m": rate(3)}, "routes": {"r": rate(4)}})
    assert keys_of(policy(limits, "m")) == ["m:m:requests:bucket"]
    assert keys_of(policy(limits, "other")) == []


def test_who_has_no_key_has_no_keys_limits() -> None:
    assert keys_of(policy(config(limits={"key": rate(1), "tenant": rate(2)}))) == ["t:acme:requests:bucket"]


def test_a_tenant_or_a_key_of_its_own_limits_has_them_in_place_of_everybodys() -> None:
    both = config(limits={"key": rate(1), "tenant": rate(2)}, tenants=[{"name": "acme", "limits": rate(20)}])
    key = api_key(limits=LimitConfig.model_validate(rate(10)))
    assert [line.limit for line in policy(both, key=key).plan] == [10, 20]
    assert [line.limit for line in policy(both, key=api_key()).plan] == [1, 20]
    assert [line.limit for line in policy(both, tenant="else").plan] == [2]
    assert policy(both, key=api_key(limits=LimitConfig())).plan[0].limit == 20  # of its own: none


def test_each_kind_of_limit_is_its_line() -> None:
    limits = {
        "requests": {"limit": 5, "window_s": 10.0, "algorithm": "sliding_window"},
        "tokens": {"limit": 100, "burst": 7},
        "concurrent": 3,
    }
    assert policy(config(limits={"tenant": limits, "lease_s": 12.0})).plan == (
        Line("t:acme:requests:window", "window", Unit.REQUESTS, 5, 10.0, scope="tenant 'acme'"),
        Line("t:acme:tokens:bucket", "bucket", Unit.TOKENS, 100, 60.0, 7, scope="tenant 'acme'"),
        Line("t:acme:concurrent", "lease", Unit.REQUESTS, 3, 12.0, scope="tenant 'acme'"),
    )


def test_budgets_are_exact_and_each_period_counts_for_itself() -> None:
    budgets = [{"per": "day", "usd": 0.000001}, {"per": "month", "tokens": 50}, {"per": "total", "usd": 1.1}]
    found = policy(config(tenants=[{"name": "acme", "budgets": budgets}]))
    assert [(line.key, line.unit, line.limit) for line in found.plan] == [
        ("t:acme:usd:day:2026-11-30", Unit.BUDGET_NANO_USD, 1000),
        ("t:acme:budget-tokens:month:2026-11", Unit.BUDGET_TOKENS, 50),
        ("t:acme:usd:total:all", Unit.BUDGET_NANO_USD, 1_100_000_000),
    ]
    assert [line.window_s for line in found.plan] == [3 * DAY_S, 62 * DAY_S, 36_500 * DAY_S]
    assert (found.has_budgets, found.without_budgets) == (True, ())


def test_warnings_point_at_their_lines() -> None:
    budgets = [{"per": "day", "usd": 10, "tokens": 100, "warn_at": 0.75}]
    found = policy(
        config(limits={"key": rate(1), "tenant": rate(2)}, tenants=[{"name": "acme", "budgets": budgets}]),
        key=api_key(budgets=(BudgetConfig.model_validate({"per": "total", "tokens": 7, "warn_at": 1.0}),)),
    )
    assert [(found.plan[warn.line].key, warn.at_most, warn.text) for warn in found.warnings] == [
        ("k:key_1:budget-tokens:total:all", 0, "API key tokens per total"),
        ("t:acme:usd:day:2026-11-30", 2_500_000_000, "tenant 'acme' usd per day"),
        ("t:acme:budget-tokens:day:2026-11-30", 25, "tenant 'acme' tokens per day"),
    ]


def test_after_midnight_utc_a_day_and_a_month_begin_anew_and_a_total_goes_on() -> None:
    budgets = [{"per": "day", "tokens": 1}, {"per": "month", "tokens": 1}, {"per": "total", "tokens": 1}]
    policies = Policies(config(tenants=[{"name": "acme", "budgets": budgets}]), lambda _: None)
    caller = Caller("req_1", "acme")
    before = keys_of(policies.of(caller, "m", MIDNIGHT_S - 0.001))
    after = keys_of(policies.of(caller, "m", MIDNIGHT_S))
    assert before == [f"t:acme:budget-tokens:{period}" for period in ("day:2026-11-30", "month:2026-11", "total:all")]
    assert after == [f"t:acme:budget-tokens:{period}" for period in ("day:2026-12-01", "month:2026-12", "total:all")]


def test_a_policy_is_made_once_until_its_key_changes() -> None:
    keys = {"key_1": api_key(limits=LimitConfig.model_validate(rate(1)))}
    policies = Policies(config(), keys.get)
    caller = Caller("req_1", "acme", "key_1")
    first = policies.of(caller, "m", NOON_S)
    assert policies.of(Caller("req_2", "acme", "key_1"), "m", NOON_S + 1.0) is first
    keys["key_1"] = api_key(limits=LimitConfig.model_validate(rate(2)))
    assert policies.of(caller, "m", NOON_S).plan[0].limit == 2


def test_very_many_callers_leave_no_memory_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genkan.gateway.policies._MAX_KEPT", 10)
    policies = Policies(config(limits={"tenant": rate(1)}), lambda _: None)
    for number in range(25):
        policies.of(Caller("req_1", f"t-{number}"), "m", NOON_S)
    assert len(policies._kept) <= 10


def test_groups_name_everything_that_has_limits() -> None:
    limits = {"key": rate(1), "tenant": rate(2), "models": {"m": rate(3)}, "routes": {"r": rate(4)}}
    policies = Policies(config(limits=limits, tenants=[{"name": "acme", "limits": rate(20)}]), lambda _: None)
    groups = dict(policies.groups([api_key(tenant="beta")], NOON_S))
    assert {name: [(line.key, line.limit) for line in plan] for name, plan in groups.items()} == {
        "key key_1 of tenant beta": [("k:key_1:requests:bucket", 1)],
        "tenant acme": [("t:acme:requests:bucket", 20)],
        "tenant beta": [("t:beta:requests:bucket", 2)],
        "model m": [("m:m:requests:bucket", 3)],
        "route r": [("r:r:requests:bucket", 4)],
    }


@pytest.mark.parametrize("tenants", [[], [{"name": "acme"}]])
def test_where_nobody_has_a_key_everybodys_tenant_is_among_the_groups(tenants: list[dict[str, str]]) -> None:
    policies = Policies(config(limits={"tenant": rate(2)}, tenants=tenants), lambda _: None)
    assert "tenant local" in dict(policies.groups([], NOON_S))


def test_what_is_given_back_is_scarce_where_money_or_few_places_are_left() -> None:
    def scarce(policy: Policy, *remaining: int) -> bool:
        policy.note([LineState(each, 0, 0) for each in remaining])
        return policy.scarcity.is_now

    places = Line("t:a:concurrent", "lease", Unit.REQUESTS, 100, 30.0)
    rate = Line("t:a:requests", "bucket", Unit.REQUESTS, 10, 60.0, 10)
    money = Line("t:a:usd", "budget", Unit.BUDGET_NANO_USD, 10**9, 60.0)
    few = Line("t:a:concurrent", "lease", Unit.REQUESTS, 2, 30.0)
    assert scarce(Policy((rate, places)))  # nothing is known
    assert not scarce(Policy((rate, places)), 0, 50)
    assert scarce(Policy((rate, places)), 10, 49)
    assert scarce(Policy((few,)), 2)
    assert scarce(Policy((money,)), 10**9)
    assert not scarce(Policy(()))
    policy = Policy((places,))
    assert (scarce(policy, 99), scarce(policy, 3), scarce(policy, 60)) == (False, True, False)  # the latest counts
