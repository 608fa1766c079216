"""The document is of every path there is, and of none besides; it is OpenAPI, and its schemas are JSON schemas."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from asgi import AsgiClient
from jsonschema import Draft202012Validator
from prometheus_client import REGISTRY

from genkan.api.openapi import OPENAPI_PATH, OPERATIONS, document, undescribed
from genkan.api.openapi_requests import REQUESTS
from genkan.api.routes import BENTOML_PATHS, Api
from genkan.app import GatewayProcess
from genkan.config import Config, ServerConfig
from genkan.wire.chat import ChatRequest, CompletionRequest
from genkan.wire.extras import OWN_KEYS
from genkan.wire.sampling import _READERS

#: A server with everything that adds paths.
CONFIG = Config.model_validate(
    {
        "redis": {"url": "memory"},
        "upstreams": [{"name": "engine", "kind": "engine"}],
        "models": [{"name": "m", "upstream": "engine"}],
        "routes": [{"alias": "default", "chain": ["m"]}],
        "cache": {"ttl_s": 60},
        "embedder": {"name": "e"},
    }
)


@pytest.fixture
def api() -> Iterator[Api]:
    before = set(REGISTRY._collector_to_names)
    process = GatewayProcess(CONFIG, "/nonexistent/engine.sock", {}, "/nonexistent/embedder.sock")
    assert isinstance(process.asgi, Api)
    yield process.asgi
    for collector in set(REGISTRY._collector_to_names) - before:
        REGISTRY.unregister(collector)


@pytest.fixture
def described(api: Api) -> dict[str, Any]:
    return json.loads(json.dumps(document(api.table, CONFIG.server)))  # type: ignore[no-any-return]


def test_every_path_is_described(api: Api) -> None:
    assert undescribed(api.table) == []


def test_every_description_is_of_a_path(api: Api, described: dict[str, Any]) -> None:
    for operation in OPERATIONS:
        assert operation.route in BENTOML_PATHS or operation.method in api.table[operation.route], operation
        assert operation.method.lower() in described["paths"][operation.template]
    assert {operation.route for operation in OPERATIONS} >= BENTOML_PATHS


def test_a_path_that_is_not_there_is_not_described() -> None:
    paths = document({"/health": {"GET": lambda _: None}}, ServerConfig())["paths"]  # type: ignore[dict-item,return-value]
    assert set(paths) == {"/health", *BENTOML_PATHS}


def test_operations_have_ids_of_their_own(described: dict[str, Any]) -> None:
    ids = [operation["operationId"] for methods in described["paths"].values() for operation in methods.values()]
    assert len(ids) == len(set(ids)) == len(OPERATIONS)


def test_parameters_of_paths_are_those_in_the_templates(described: dict[str, Any]) -> None:
    for template, methods in described["paths"].items():
        for operation in methods.values():
            named = {found["name"] for found in operation.get("parameters", ()) if found["in"] == "path"}
            assert {f"{{{name}}}" for name in named} == {part for part in template.split("/") if part.startswith("{")}


def test_it_is_openapi(described: dict[str, Any]) -> None:
    schemathesis = pytest.importorskip("schemathesis")
    schemathesis.openapi.from_dict(described).validate()
    assert described["openapi"].startswith("3.1.")


def test_its_schemas_are_json_schemas_and_its_references_lead_somewhere(described: dict[str, Any]) -> None:
    components = described["components"]["schemas"]
    for name, schema in components.items():
        Draft202012Validator.check_schema(schema)
        assert name[0].isupper()
    for reference in references(described):
        assert reference.removeprefix("#/components/schemas/") in components, reference
    used = {reference.rpartition("/")[2] for reference in references(described)}
    assert used == set(components)


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(found := node.get("$ref"), str):
            yield found
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


@pytest.mark.parametrize(
    ("name", "request_class"), [("ChatRequest", ChatRequest), ("CompletionRequest", CompletionRequest)]
)
def test_examples_are_right_and_every_option_that_is_read_is_described(name: str, request_class: Any) -> None:
    (operation,) = [operation for operation in OPERATIONS if operation.body == {"$ref": f"#/components/schemas/{name}"}]
    assert operation.route == request_class.path
    request_class.from_object(operation.example)
    described = REQUESTS[name]["properties"].keys()
    assert described >= {*_READERS, *OWN_KEYS} - {"cache_control"}


@pytest.mark.anyio
async def test_it_is_served_to_anyone_as_it_is(api: Api, described: dict[str, Any]) -> None:
    answer = await AsgiClient(api).request("GET", OPENAPI_PATH)
    assert (answer.status, json.loads(answer.body)) == (200, described)
    wrong = await AsgiClient(api).request("GET", f"{OPENAPI_PATH}?pretty=1")
    assert wrong.status in (400, 404)


def test_bounds_are_what_the_code_reads() -> None:
    """Where a request just within the described bounds is taken, and one just beyond is not."""
    described = REQUESTS["ChatRequest"]["properties"]
    base = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    checked = 0
    for name, schema in described.items():
        if schema.get("type") not in (["integer", "null"], ["number", "null"]):
            continue
        for edge, step in (("minimum", -1), ("maximum", 1)):
            if edge not in schema:
                continue
            extra = {"logprobs": True} if name == "top_logprobs" else {}
            ChatRequest.from_object({**base, **extra, name: schema[edge]})
            with pytest.raises(Exception, match=name):
                ChatRequest.from_object({**base, **extra, name: schema[edge] + step})
            checked += 1
    assert checked > 20
