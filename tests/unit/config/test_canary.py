"""A route's canary: what fits its chain and what does not."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from genkan.config import CanaryConfig, load
from genkan.errors import ConfigError


def canary(tmp_path: Path, **settings: Any) -> CanaryConfig:
    path = tmp_path / "genkan.yaml"
    config = {
        "upstreams": [{"name": "o", "kind": "openai", "base_url": "https://h/v1"}],
        "models": [{"name": name, "upstream": "o"} for name in ("first", "second", "third")],
        "routes": [{"alias": "r", "chain": ["first", "second"], "canary": settings}],
    }
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    (route,) = load(path, {}).routes
    assert route.canary is not None
    return route.canary


def test_a_tenth_by_chance_is_compared_if_nothing_is_said(tmp_path: Path) -> None:
    config = canary(tmp_path, model="third")
    assert (config.percent, config.assign, config.mode, config.on_decision) == (10.0, "random", "split", "act")


def test_a_model_that_the_chain_falls_back_on_can_be_tried(tmp_path: Path) -> None:
    assert canary(tmp_path, model="second").model == "second"


def test_one_guard_is_enough(tmp_path: Path) -> None:
    guards = {"latency_ratio": None, "ttft_ratio": None}
    assert canary(tmp_path, model="third", guards=guards).guards.error_rate == 0.005


@pytest.mark.parametrize(
    ("settings", "path", "says"),
    [
        ({}, "routes[0].canary.model", "field required"),
        ({"model": "x"}, "routes[0].canary.model", "'x' is not defined; allowed: first, second, third"),
        ({"model": "first"}, "routes[0].canary.model", "'first' is the chain's first model"),
        (
            {"model": "third", "guards": {"error_rate": None, "latency_ratio": None, "ttft_ratio": None}},
            "routes[0].canary.guards",
            "at least one must be left",
        ),
        ({"model": "third", "percent": 0}, "routes[0].canary.percent", "greater than 0"),
        ({"model": "third", "assign": "address"}, "routes[0].canary.assign", "'random', 'key', 'tenant' or 'user'"),
    ],
)
def test_a_wrong_canary_is_named_with_what_is_allowed(
    tmp_path: Path, settings: dict[str, Any], path: str, says: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        canary(tmp_path, **settings)
    assert caught.value.path == path
    assert says in str(caught.value)
