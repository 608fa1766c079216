"""Names that clients use, and what is behind them."""

from typing import Any

import pytest

from genkan.config import Config
from genkan.errors import ModelNotFound
from genkan.gateway.router import Deployment, Listed, Router

CONFIG: dict[str, Any] = {
    "upstreams": [{"name": "engine", "kind": "engine"}],
    "models": [
        {"name": "small", "upstream": "engine", "owned_by": "us", "released": "1970-01-02"},
        {"name": "other", "upstream": "elsewhere", "released": "2024-11-01"},
    ],
    "routes": [{"alias": "default", "chain": ["other"]}, {"alias": "cheap", "chain": ["small"]}],
}


@pytest.fixture
def router() -> Router:
    return Router(Config.model_validate(CONFIG))


@pytest.mark.parametrize(
    ("name", "deployment"),
    [
        ("small", Deployment("small", "engine")),
        ("other", Deployment("other", "elsewhere")),
        ("default", Deployment("other", "elsewhere")),
        ("cheap", Deployment("small", "engine")),
    ],
)
def test_a_name_leads_to_its_model_and_upstream(router: Router, name: str, deployment: Deployment) -> None:
    assert router.resolve(name) == deployment


@pytest.mark.parametrize("name", ["", "Small", "small ", "engine", "elsewhere"])
def test_a_name_that_is_not_configured_is_not_found(router: Router, name: str) -> None:
    with pytest.raises(ModelNotFound) as caught:
        router.resolve(name)
    assert (caught.value.model, caught.value.param) == (name, "model")


def test_lists_models_then_aliases_as_configured(router: Router) -> None:
    assert [listed.name for listed in router.names()] == ["small", "other", "default", "cheap"]


def test_a_model_is_listed_with_its_owner_and_the_day_it_was_released(router: Router) -> None:
    assert router.listed("small") == Listed("small", 86_400, "us", "engine")


def test_an_alias_is_listed_as_the_model_behind_it(router: Router) -> None:
    assert router.listed("default") == Listed("default", 1_730_419_200, "genkan", "elsewhere")


def test_a_name_that_is_not_configured_is_not_listed(router: Router) -> None:
    with pytest.raises(ModelNotFound, match="'gone'"):
        router.listed("gone")
