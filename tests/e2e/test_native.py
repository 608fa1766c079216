"""The native face: `/call`, `/models`, `/health`, and the model lists."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import bentoml
import httpx
import openai
import pytest
from e2e.live_server import MODEL, LiveServer

FRESH = {"cache": "no-cache"}
MESSAGES = [{"role": "user", "content": "What is the capital of France?"}]


def call(http: httpx.Client, **options: Any) -> dict[str, Any]:
    response = http.post("/call", json={"messages": MESSAGES, "temperature": 0, "genkan": FRESH, **options})
    assert response.status_code == 200, response.text
    return dict(response.json())


def test_call_answers_with_one_flat_object(http: httpx.Client) -> None:
    reply = call(http)
    assert "Paris" in reply["content"]
    assert reply["model"] == MODEL
    assert reply["finish_reason"] == "stop"
    assert reply["usage"]["completion_tokens"] > 1
    assert reply["latency_ms"] > 0
    assert reply["cost_usd"] == 0.0
    assert "streamed" not in reply


def test_call_with_stream_collects_the_same_text(http: httpx.Client) -> None:
    whole, streamed = call(http), call(http, stream=True)
    assert streamed["streamed"] is True
    assert streamed["content"] == whole["content"]
    assert streamed["usage"] == whole["usage"]
    assert streamed["finish_reason"] == whole["finish_reason"]


@contextmanager
def bentomls_client(server: LiveServer) -> Generator[Any, None, None]:
    with bentoml.SyncHTTPClient(server.base_url) as client:
        yield client
        client._temp_dir.cleanup()  # it leaves this to the garbage collector, which warns


def test_bentomls_own_client_can_call(server: LiveServer) -> None:
    with bentomls_client(server) as client:
        reply = client.complete(messages=MESSAGES, max_tokens=5)
        streamed = client.complete(messages=MESSAGES, max_tokens=5, stream=True, temperature=0.0, stop=["☃"])
    assert 1 <= reply["usage"]["completion_tokens"] <= 5
    assert reply["content"] != ""
    assert streamed["streamed"] is True


def test_bentomls_own_client_sees_a_refusal(server: LiveServer) -> None:
    with (
        bentomls_client(server) as client,
        pytest.raises(bentoml.exceptions.BentoMLException, match="at least one message"),
    ):
        client.complete(messages=[])


def test_models_lists_every_name_and_its_price(http: httpx.Client) -> None:
    listing = http.get("/models").json()
    assert [model["id"] for model in listing["models"]] == [MODEL, "default", "multilingual-e5-small"]
    assert all(set(one) == {"id", "provider", "price_per_mtok", "prices_per_mtok"} for one in listing["models"])
    assert [one["price_per_mtok"] for one in listing["models"]] == [0.0, None, 0.0]  # a route costs what answers
    assert listing["currency"] == "USD"


def test_the_sdk_lists_and_gets_models(sdk: openai.OpenAI) -> None:
    listed = list(sdk.models.list())
    assert [model.id for model in listed] == [MODEL, "default", "multilingual-e5-small"]
    for model in listed:
        assert sdk.models.retrieve(model.id) == model
        assert model.object == "model"
        assert model.created > 1_700_000_000


def test_an_unknown_model_is_not_found(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        sdk.models.retrieve("no-such-model")
    assert caught.value.code == "model_not_found"
    assert caught.value.param == "model"


def test_health_counts_what_was_served(http: httpx.Client) -> None:
    before = http.get("/health").json()
    http.post("/v1/chat/completions", json={"model": "default", "messages": MESSAGES, "max_tokens": 1})
    http.post("/call", json={"messages": MESSAGES, "max_tokens": 1})
    http.post("/v1/completions", json={"model": "no-such-model", "prompt": "x"})
    http.get("/v1/models")
    http.get("/health")
    after = http.get("/health").json()
    assert after["status"] == "ok"
    assert after["requests_served"] == before["requests_served"] + 3
    assert after["avg_latency_ms"] > 0


def test_the_schema_declares_the_native_call(http: httpx.Client) -> None:
    routes = http.get("/schema.json").json()["routes"]
    assert [(route["name"], route["route"]) for route in routes] == [("complete", "/call")]
    assert routes[0]["input"]["required"] == ["messages"]


def test_the_root_says_what_this_is(http: httpx.Client) -> None:
    index = http.get("/").json()
    assert index["name"] == "genkan"
    assert "/v1/chat/completions" in index["endpoints"]
    for probe in index["probes"]:
        assert http.get(probe).status_code == 200


def test_metrics_count_requests_by_path_and_status(http: httpx.Client) -> None:
    http.get("/v1/models/no-such-model")
    http.get("/no/such/path")
    text = http.get("/metrics").text
    assert 'genkan_requests_total{path="/v1/models/*",status="404"}' in text
    assert 'genkan_requests_total{path="other",status="404"}' in text
    assert "no/such/path" not in text
    assert "no-such-model" not in text
