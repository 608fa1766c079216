"""What a process loads, and that the gateway's parts fit together."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator

import pytest
from asgi import AsgiClient, post
from prometheus_client import REGISTRY

from genkan.config import Config

CONFIG = Config.model_validate(
    {
        "redis": {"url": "memory"},
        "upstreams": [{"name": "engine", "kind": "engine"}],
        "models": [{"name": "m", "upstream": "engine", "released": "2024-11-01", "owned_by": "someone"}],
        "routes": [{"alias": "default", "chain": ["m"]}],
    }
)
WITHOUT_ENGINE = Config.model_validate(
    {
        "redis": {"url": "memory"},
        "upstreams": [{"name": "away", "kind": "openai", "base_url": "https://h.example/v1", "api_key_env": "OUR_KEY"}],
        "models": [{"name": "m", "upstream": "away"}],
        "routes": [{"alias": "default", "chain": ["m"]}],
    }
)


@pytest.fixture(autouse=True)
def metrics_of_its_own() -> Iterator[None]:
    """A process registers its metrics once; here several are built in one."""
    before = set(REGISTRY._collector_to_names)
    yield
    for collector in set(REGISTRY._collector_to_names) - before:
        REGISTRY.unregister(collector)


def test_a_loaded_engine_has_torch_and_not_transformers() -> None:
    code = (
        "import sys, pathlib\n"
        "from genkan.config import load\n"
        "from genkan.engine_assembly import EngineAssembly\n"
        "assembly = EngineAssembly(load(pathlib.Path('configs/local.yaml')), print)\n"
        "model = assembly.load(assembly.names[0])\n"
        "model.stop()\n"
        "assert model._engine._grammars._is_closed\n"
        "print(sorted({'torch', 'transformers', 'gguf'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "['torch']\n"


def test_building_the_gateway_loads_neither_torch_nor_transformers() -> None:
    code = (
        "import sys, pathlib\n"
        "from genkan.app import EngineProcess, GatewayProcess\n"
        "from genkan.config import RedisConfig, load\n"
        "config = load(pathlib.Path('configs/local.yaml')).model_copy(update={'redis': RedisConfig(url='memory')})\n"
        "GatewayProcess(config, '/nowhere'), EngineProcess(config)\n"
        "print(sorted({'torch', 'transformers', 'gguf'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"


@pytest.mark.anyio
async def test_the_gateway_answers_its_paths_and_reports_an_engine_that_is_not_there() -> None:
    from genkan.app import GatewayProcess

    gateway = GatewayProcess(CONFIG, "/nonexistent/engine.sock")
    await gateway.start()
    try:
        listed = await AsgiClient(gateway.asgi).request("GET", "/v1/models")
        assert b'"id":"default"' in listed.body
        one = await AsgiClient(gateway.asgi).request("GET", "/v1/models/m")
        assert one.body == b'{"id":"m","object":"model","created":1730419200,"owned_by":"someone"}'
        body = {"model": "default", "messages": [{"role": "user", "content": "Hi"}]}
        for path in ("/v1/chat/completions", "/call"):
            client = await post(gateway.asgi, path, body)
            assert (client.status, client.error["code"]) == (503, "upstream_unreachable")
            assert client.headers["retry-after"] == "5"
        completion = await post(gateway.asgi, "/v1/completions", {"model": "m", "prompt": "x"})
        assert completion.status == 503
        health = await AsgiClient(gateway.asgi).request("GET", "/health")
        assert b'"requests_served":3' in health.body
        refused = await AsgiClient(gateway.asgi, peer="192.0.2.7").request("GET", "/v1/models")
        assert refused.status == 401
    finally:
        await gateway.aclose()


@pytest.mark.anyio
async def test_a_gateway_without_an_engine_has_no_prefix_cache_to_show() -> None:
    from genkan.app import GatewayProcess

    gateway = GatewayProcess(WITHOUT_ENGINE, None, {})
    await gateway.start()
    try:
        listed = await AsgiClient(gateway.asgi).request("GET", "/v1/models")
        assert [model["id"] for model in json.loads(listed.body)["data"]] == ["m", "default"]
        admin = await AsgiClient(gateway.asgi).request("GET", "/admin/prefix-cache")
        assert (admin.status, admin.error["code"]) == (404, "unknown_url")
        body = {"model": "default", "messages": [{"role": "user", "content": "Hi"}]}
        client = await post(gateway.asgi, "/v1/chat/completions", body)
        assert (client.status, client.error["code"]) == (502, "upstream_auth_error")
        assert client.headers["x-should-retry"] == "false"
        assert "x-genkan-attempts" not in client.headers
    finally:
        await gateway.aclose()


@pytest.mark.anyio
async def test_what_was_counted_last_is_written_at_the_end() -> None:
    from genkan.app import GatewayProcess

    gateway = GatewayProcess(WITHOUT_ENGINE, None, {})
    await AsgiClient(gateway.asgi).request("GET", "/health")
    await gateway.aclose()
    assert REGISTRY.get_sample_value("genkan_requests_total", {"path": "/health", "status": "200"}) == 1


@pytest.mark.anyio
async def test_what_is_wrong_with_an_upstream_is_logged_at_the_start(caplog: pytest.LogCaptureFixture) -> None:
    from genkan.app import GatewayProcess

    gateway = GatewayProcess(WITHOUT_ENGINE, None, {})
    await gateway.start()
    assert gateway._start_check is not None
    async with asyncio.timeout(5.0):
        await gateway._start_check
    await gateway.aclose()
    found = [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "genkan.app"]
    assert [level for level, _ in found] == ["WARNING", "ERROR"]  # of the upstream, and of the model that has no other
    assert found[0][1].startswith("away: OUR_KEY is not set")
    assert "all of its deployments are passed over" in found[1][1]


@pytest.mark.anyio
async def test_the_engine_answers_its_paths_before_its_model_is_there() -> None:
    from genkan.app import EngineProcess

    engine = EngineProcess(CONFIG)  # not started, as starting loads the model
    chat = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    answers = [
        await post(engine.asgi, "/v1/chat/completions", chat),
        await post(engine.asgi, "/v1/completions", {"model": "m", "prompt": "x"}),
        await post(engine.asgi, "/tokenize", chat),
        await AsgiClient(engine.asgi).request("GET", "/admin/prefix-cache"),
        await AsgiClient(engine.asgi).request("DELETE", "/admin/prefix-cache?tenant=local"),
    ]
    assert [(answer.status, answer.error["code"]) for answer in answers] == [(503, "engine_unavailable")] * 5
    assert not engine.ready
    await engine.aclose()
