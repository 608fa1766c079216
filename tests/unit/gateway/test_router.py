"""Names that clients use, and what is behind them."""

from typing import Any

import pytest
from scripted_upstreams import ScriptedUpstream, VirtualClock, router_to

from genkan.config import Config
from genkan.errors import ModelNotFound
from genkan.gateway.router import Listed, Router

CONFIG: dict[str, Any] = {
    "upstreams": [
        {"name": "engine", "kind": "engine"},
        {"name": "elsewhere", "kind": "openai", "base_url": "https://h/v1"},
    ],
    "models": [
        {"name": "small", "upstream": "engine", "owned_by": "us", "released": "1970-01-02"},
        {
            "name": "other",
            "deployments": [{"upstream": "elsewhere", "model": "vendor/other", "weight": 3}, {"upstream": "engine"}],
            "context_tokens": 9000,
            "released": "2024-11-01",
        },
    ],
    "routes": [
        {"alias": "default", "chain": ["other", "small"], "total_s": 30, "retry": {"budget_min": 0, "budget_ratio": 0}},
        {"alias": "cheap", "chain": ["small"], "fallback_on": ["content_filter"]},
    ],
}


@pytest.fixture
def router() -> Router:
    clock = VirtualClock()
    return router_to(
        Config.model_validate(CONFIG), [ScriptedUpstream("engine", clock), ScriptedUpstream("elsewhere", clock)]
    )


@pytest.mark.parametrize(
    ("name", "deployments"),
    [
        ("small", {"small@engine"}),
        ("other", {"other@elsewhere", "other@engine"}),
        ("default", {"other@elsewhere", "other@engine", "small@engine"}),
        ("cheap", {"small@engine"}),
    ],
)
def test_a_name_leads_to_its_models_and_upstreams(router: Router, name: str, deployments: set[str]) -> None:
    order = router.resolve(name).order()
    assert {deployment.name for deployment in order} == deployments
    assert len(order) == len(deployments)
    if name == "default":
        assert order[-1].name == "small@engine"


def test_a_deployment_is_one_whichever_name_leads_to_it(router: Router) -> None:
    (small,) = router.resolve("small").order()
    assert router.resolve("cheap").order() == [small]
    assert router.resolve("default").order()[-1] is small
    assert {deployment.name for deployment in router.deployments} == {
        "small@engine", "other@elsewhere", "other@engine",
    }  # fmt: skip
    assert len(router.deployments) == 3


def test_a_deployment_knows_its_name_there_its_weight_and_its_window(router: Router) -> None:
    found = {one.name: (one.name_there, one.weight, one.context_tokens) for one in router.deployments}
    assert found == {
        "small@engine": ("small", 1, None),
        "other@elsewhere": ("vendor/other", 3, 9000),
        "other@engine": ("other", 1, 9000),
    }


def test_a_route_has_its_own_settings_and_a_model_the_usual(router: Router) -> None:
    assert router.resolve("default").config.total_s == 30.0
    assert router.resolve("cheap").config.fallback_on == ["content_filter"]
    assert router.resolve("small").config.total_s == 600.0
    assert router.resolve("other").config.fallback_on == ["error", "context_too_long"]


def test_each_route_has_a_retry_budget_of_its_own(router: Router) -> None:
    assert not router.resolve("default").budget.take(0.0)
    assert router.resolve("cheap").budget.take(0.0)


@pytest.mark.parametrize("name", ["", "Small", "small ", "engine", "elsewhere", "vendor/other"])
def test_a_name_that_is_not_configured_is_not_found(router: Router, name: str) -> None:
    with pytest.raises(ModelNotFound) as caught:
        router.resolve(name)
    assert (caught.value.model, caught.value.param) == (name, "model")


def test_lists_models_then_aliases_as_configured(router: Router) -> None:
    assert [listed.name for listed in router.names()] == ["small", "other", "default", "cheap"]


def test_a_model_is_listed_with_its_owner_and_the_day_it_was_released(router: Router) -> None:
    assert router.listed("small") == Listed("small", 86_400, "us")


def test_an_alias_is_listed_as_the_first_model_behind_it(router: Router) -> None:
    assert router.listed("default") == Listed("default", 1_730_419_200, "genkan")


def test_a_name_that_is_not_configured_is_not_listed(router: Router) -> None:
    with pytest.raises(ModelNotFound, match="'gone'"):
        router.listed("gone")
