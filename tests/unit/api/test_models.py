"""The model lists and their prices."""

import json
from typing import Any

import pytest
from asgi import AsgiClient
from scripted_upstreams import ScriptedUpstream, VirtualClock, router_to

from genkan.api.models import ModelEndpoints
from genkan.api.routes import Api
from genkan.config import Config, PricesConfig
from genkan.gateway.prices import PriceBook

pytestmark = pytest.mark.anyio

CONFIG = Config.model_validate(
    {
        "upstreams": [{"name": name, "kind": "openai", "base_url": "https://h/v1"} for name in ("a", "b")],
        "models": [
            {"name": "both", "deployments": [{"upstream": "a", "model": "there"}, {"upstream": "b"}], "owned_by": "us"},
            {"name": "unpriced", "upstream": "b"},
        ],
        "routes": [{"alias": "default", "chain": ["both", "unpriced"]}],
    }
)


async def listing(*prices: dict[str, Any]) -> dict[str, dict[str, Any]]:
    clock = VirtualClock()
    router = router_to(CONFIG, [ScriptedUpstream("a", clock), ScriptedUpstream("b", clock)])
    book = PriceBook(PricesConfig.model_validate({"models": list(prices)})) if prices else None
    endpoints = ModelEndpoints(router, book)
    client = await AsgiClient(Api({"/models": {"GET": endpoints.list_native}}, lambda _: None, [])).request(
        "GET", "/models"
    )
    content = json.loads(client.body)
    assert (client.status, content["currency"]) == (200, "USD")
    assert [model["id"] for model in content["models"]] == ["both", "unpriced", "default"]
    return {model["id"]: model for model in content["models"]}


async def test_without_prices_all_are_null() -> None:
    assert (await listing())["both"] == {
        "id": "both",
        "provider": "us",
        "price_per_mtok": None,
        "prices_per_mtok": None,
    }


async def test_a_model_has_the_price_of_its_first_place() -> None:
    models = await listing(
        {"model": "both", "flat": 1},
        {"model": "there", "upstream": "a", "input": 2, "output": 8, "cached_input": 0.028, "flat": 15},
        {"model": "both", "upstream": "b", "flat": 4},
    )
    assert models["both"]["price_per_mtok"] == 15
    assert models["both"]["prices_per_mtok"] == {"input": 2, "output": 8, "cached_input": 0.028, "cache_write": 2}


async def test_without_a_flat_price_the_one_number_is_that_of_output() -> None:
    assert (await listing({"model": "both", "input": 2, "output": 8}))["both"]["price_per_mtok"] == 8


async def test_what_has_no_price_and_routes_stay_null_and_free_is_0() -> None:
    models = await listing({"model": "both", "flat": 0}, {"model": "default", "flat": 3})
    assert [models[name]["price_per_mtok"] for name in ("both", "unpriced", "default")] == [0, None, None]
