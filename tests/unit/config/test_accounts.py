"""What may be written of Redis, limits, budgets, tenants and prices."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from genkan.config import Config, load
from genkan.config.limits import BudgetConfig, LimitConfig
from genkan.errors import ConfigError

SMALL: dict[str, Any] = {
    "upstreams": [{"name": "u", "kind": "openai", "base_url": "https://h/v1"}],
    "models": [{"name": "m", "upstream": "u"}],
    "routes": [{"alias": "r", "chain": ["m"]}],
}


def loaded(tmp_path: Path, **sections: Any) -> Config:
    path = tmp_path / "genkan.yaml"
    path.write_text(yaml.safe_dump({**SMALL, **sections}), encoding="utf-8")
    return load(path, {})


def refusal(tmp_path: Path, **sections: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, **sections)
    return str(caught.value)


# Redis


@pytest.mark.parametrize(
    "url", ["embedded", "memory", "redis://h", "redis://h:6380/2", "rediss://[::1]", "unix:///run/redis.sock?db=1"]
)
def test_where_redis_is(tmp_path: Path, url: str) -> None:
    assert loaded(tmp_path, redis={"url": url}).redis.url == url


@pytest.mark.parametrize(
    "url",
    [
        "redis://:geheim1@h",
        "rediss://us:geheim1@h/0",
        "redis://geheim1@h",
        "unix:///x?password=geheim1",
        "http://geheim1",
    ],
)
def test_a_password_belongs_into_the_environment_and_is_never_shown(tmp_path: Path, url: str) -> None:
    said = refusal(tmp_path, redis={"url": url})
    assert said.startswith("redis.url: ")
    assert "geheim1" not in said
    assert url.startswith("http") or "url_env" in said


def test_memory_is_for_one_worker(tmp_path: Path) -> None:
    said = refusal(tmp_path, redis={"url": "memory"}, server={"workers": 2})
    assert said == "redis.url: 'memory' is for one worker; server.workers is 2"
    assert loaded(tmp_path, redis={"url": "memory", "url_env": "REDIS"}, server={"workers": 2}).server.workers == 2


# Limits and budgets


def test_limits_of_each_kind(tmp_path: Path) -> None:
    tokens = {"limit": 6000, "burst": 100}
    config = loaded(tmp_path, limits={"models": {"m": {"tokens": tokens, "concurrent": 2}}})
    found = config.limits.models["m"]
    assert found.tokens is not None
    assert (found.tokens.limit, found.tokens.burst, found.tokens.window_s, found.tokens.algorithm) == (
        6000, 100, 60.0, "token_bucket",
    )  # fmt: skip
    assert (found.requests, found.concurrent) == (None, 2)
    assert config.limits.key == LimitConfig()


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        ({"limits": {"models": {"x": {}}}}, "limits.models.x: 'x' is not defined; allowed: m"),
        ({"limits": {"routes": {"m": {}}}}, "limits.routes.m: 'm' is not defined; allowed: r"),
        (
            {"limits": {"models": {"m": {"requsts": 1}}}},
            "limits.models.m.requsts: unknown key; allowed: requests, tokens, concurrent",
        ),
        (
            {"limits": {"models": {"m": {"requests": {"limit": 1, "per": 2}}}}},
            "limits.models.m.requests.per: unknown key; allowed: limit, window_s, burst, algorithm",
        ),
        (
            {"limits": {"key": {"requests": {"limit": 5, "burst": 3, "algorithm": "sliding_window"}}}},
            "limits.key.requests.algorithm: a sliding window has no burst",
        ),
        ({"limits": {"key": {"requests": {"limit": 0}}}}, "limits.key.requests.limit: "),
        ({"tenants": [{"name": "a"}, {"name": "a"}]}, "tenants[1].name: the name 'a' is already taken"),
        ({"tenants": [{"name": "a", "models": ["m", "x"]}]}, "tenants[0].models[1]: 'x' is not defined; allowed: m, r"),
        (
            {"tenants": [{"name": "a", "budgets": [{"per": "day"}]}]},
            "tenants[0].budgets[0].tokens: a budget is of 'usd', of 'tokens', or of both",
        ),
        ({"tenants": [{"name": "a", "budgets": [{"per": "week", "tokens": 1}]}]}, "tenants[0].budgets[0].per: "),
        ({"tenants": [{"name": "a", "budgets": [{"per": "day", "usd": -1}]}]}, "tenants[0].budgets[0].usd: "),
        ({"tenants": [{"name": "a\r\nx"}]}, "tenants[0].name: "),
        ({"prices": {"models": [{"model": "m", "inptu": 1}]}}, "prices.models[0].inptu: unknown key; allowed: model"),
        ({"prices": "nowhere.yaml"}, "cannot read "),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, sections: dict[str, Any], says: str) -> None:
    assert refusal(tmp_path, **sections).startswith(says)


def test_money_is_what_was_written(tmp_path: Path) -> None:
    config = loaded(tmp_path, tenants=[{"name": "a", "budgets": [{"per": "month", "usd": 0.1}]}])
    assert config.tenants[0].budgets[0].usd == Decimal("0.1")
    assert BudgetConfig.model_validate({"per": "total", "usd": 3}).usd == 3


def test_prices_may_stand_in_a_file_beside(tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text("models: [{model: m, input: 0.42, output: 2}]", encoding="utf-8")
    assert loaded(tmp_path, prices="list.yaml").prices.models[0].input == Decimal("0.42")


def test_a_wrong_price_in_a_file_beside_is_named_as_if_it_stood_here(tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text("models: [{model: m, input: 0.0000001}]", encoding="utf-8")
    assert refusal(tmp_path, prices="list.yaml").startswith("prices.models[0].input: ")


@pytest.mark.parametrize(
    ("second", "unit"), [({"usd": 2}, "usd"), ({"tokens": 9}, "tokens"), ({"usd": 2, "tokens": 9}, "usd")]
)
def test_a_budget_of_a_period_and_unit_is_given_once(tmp_path: Path, second: dict[str, int], unit: str) -> None:
    first = {"per": "month", "usd": 1, "tokens": 5}
    said = refusal(tmp_path, tenants=[{"name": "acme", "budgets": [first, {"per": "month", **second}]}])
    assert said == f"tenants[0].budgets: more than one budget per month in {unit}"
    elsewhere = [first, {"per": "day", **second}]
    assert len(loaded(tmp_path, tenants=[{"name": "acme", "budgets": elsewhere}]).tenants[0].budgets) == 2
    apart = [{"per": "month", "usd": 1}, {"per": "month", "tokens": 5}]
    assert len(loaded(tmp_path, tenants=[{"name": "acme", "budgets": apart}]).tenants[0].budgets) == 2


def test_a_price_is_at_an_upstream_that_there_is(tmp_path: Path) -> None:
    price = {"model": "m", "input": 1, "output": 2}
    assert loaded(tmp_path, prices={"models": [{**price, "upstream": "u"}]}).prices.models[0].upstream == "u"
    said = refusal(tmp_path, prices={"models": [price, {**price, "upstream": "elsewhere"}]})
    assert said == "prices.models[1].upstream: 'elsewhere' is not defined; allowed: u"


def test_a_price_list_in_a_file_may_be_for_other_configurations_too(tmp_path: Path) -> None:
    models = [{"model": "m", "input": 1, "output": 2, "upstream": "elsewhere"}]
    (tmp_path / "prices.yaml").write_text(yaml.safe_dump({"models": models}), encoding="utf-8")
    assert loaded(tmp_path, prices="prices.yaml").prices.models[0].upstream == "elsewhere"


@pytest.mark.parametrize("url", ["embedded", "memory"])
def test_sentinels_are_of_a_redis_elsewhere(tmp_path: Path, url: str) -> None:
    said = refusal(tmp_path, redis={"url": url, "sentinels": ["h:26379"]})
    assert said == f"redis.sentinels: go with redis:// or rediss://; redis.url is '{url}'"
    assert loaded(tmp_path, redis={"url": url, "url_env": "REDIS_URL", "sentinels": ["h:26379"]}).redis.sentinels
