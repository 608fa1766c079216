"""The cost comparison over HTTP."""

import json
from typing import Any

import pytest
from asgi import AsgiClient

from genkan.api.admin_cost import CostEndpoint
from genkan.api.auth import Doorkeeper
from genkan.api.routes import Api
from genkan.config import PricesConfig, ServerConfig
from genkan.gateway.prices import PriceBook

pytestmark = pytest.mark.anyio

PRICES = PricesConfig.model_validate({"models": [{"model": "gpt-4.1", "input": 2, "output": 8, "flat": 8}]})


async def get(query: str = "", *, peer: str = "127.0.0.1", prices: PricesConfig = PRICES) -> AsgiClient:
    endpoint = CostEndpoint(PriceBook(prices))
    app = Api({"/admin/cost/compare": {"GET": endpoint.compare}}, Doorkeeper(ServerConfig(open_to="any")).admit, [])
    return await AsgiClient(app, peer=peer).request("GET", f"/admin/cost/compare{query}")


async def test_the_default_workload() -> None:
    client = await get()
    content: dict[str, Any] = json.loads(client.body)
    assert (client.status, client.headers["cache-control"]) == (200, "no-store")
    assert content["workload"]["requests_per_day"] == 10_000
    assert [(row["model"], row["with_cache_usd"]) for row in content["rows"]] == [("gpt-4.1", 720)]


async def test_a_workload_of_its_own_and_gpus() -> None:
    client = await get("?requests_per_day=20000&tokens=1000&cache_hit_rate=0.5&days=10&gpu_hour_usd=6.50&gpus=2")
    rows = {row["model"]: row for row in json.loads(client.body)["rows"]}
    assert rows["gpt-4.1"]["with_cache_usd"] == 800
    assert rows["gpt-4.1"]["break_even_requests_per_day"] == 78_000
    assert rows["self-hosted on 2 GPUs"]["with_cache_usd"] == 3120


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("?days=0", "days"),
        ("?requests_per_day=many", "requests_per_day"),
        ("?cache_hit_rate=85", "cache_hit_rate"),
        ("?prices=other.yaml", "prices"),
        ("?days=1&days=2", "days"),
    ],
)
async def test_wrong_parameters_are_named(query: str, param: str) -> None:
    client = await get(query)
    assert (client.status, client.error["param"]) == (400, param)


async def test_it_is_for_admins() -> None:
    assert (await get(peer="192.0.2.7")).status == 401


async def test_without_prices_there_are_no_rows() -> None:
    assert json.loads((await get(prices=PricesConfig())).body)["rows"] == []
