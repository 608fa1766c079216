"""Schemathesis over our own /openapi.json, at a running server: no 5xx, no hang, and every answer as described.

Bounded and with a fixed seed here; `make fuzz` asks far more. What asks a model is made small first, and half of it
names one that is there: else nearly all would be refused for its model's name.
"""

import os
from collections import Counter
from collections.abc import Generator
from typing import Any

import httpx
import pytest
from e2e.live_server import LiveServer

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed here: make test does it")

import hypothesis  # noqa: E402
from schemathesis.specs.openapi.checks import (  # noqa: E402
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "10"))  # of each operation
SEED = 20261122
HANG_S = 30.0
EVERY_CHECK = [*hypothesis.HealthCheck]  # of how fast cases are made
MOST = {"max_tokens": 2, "max_completion_tokens": 2, "min_tokens": 2, "n": 2, "best_of": 2}
CHECKS = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def api(server: LiveServer) -> Generator[Any, None, None]:
    yield schemathesis.openapi.from_url(f"{server.base_url}/openapi.json")
    # Other tests have the same server, also when this one ends half way.
    httpx.delete(f"{server.base_url}/admin/drain", timeout=HANG_S, trust_env=False).raise_for_status()


def made_small(body: Any, *, names_a_model: bool) -> Any:
    """A request for text that takes no second to answer; what is no such request stays as it is."""
    if isinstance(body, dict) and isinstance(body.get("requests"), list):
        few = [made_small(request, names_a_model=names_a_model) for request in body["requests"][:3]]
        return {**body, "requests": few}
    if not isinstance(body, dict) or not body.keys() & {"messages", "prompt"}:
        return body
    small = {"max_tokens": 2, **body}
    for name, most in MOST.items():
        if type(small.get(name)) is int:
            small[name] = min(small[name], most)
    return {**small, "model": "default"} if names_a_model else small


def strategy_of(operation: Any) -> Any:
    """A case of the operation, and whether it is to name a model that is there."""
    return hypothesis.strategies.tuples(operation.as_strategy(), hypothesis.strategies.booleans())


def test_every_operation_answers_as_it_is_described(api: Any, server: LiveServer) -> None:
    statuses: Counter[int] = Counter()
    for result in api.get_all_operations():
        operation = result.ok()
        if (operation.method, operation.path) == ("post", "/admin/keys"):
            continue  # from the first key on everybody needs one: tests/e2e/test_keys.py

        @hypothesis.seed(SEED)
        @hypothesis.settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=EVERY_CHECK)
        @hypothesis.given(given=strategy_of(operation))
        def ask(given: tuple[Any, bool]) -> None:
            case, names_a_model = given
            case.body = made_small(case.body, names_a_model=names_a_model)
            response = case.call(base_url=server.base_url, timeout=HANG_S, headers={"host": "localhost"})
            statuses[response.status_code] += 1
            case.validate_response(response, checks=CHECKS)

        ask()
    assert statuses.total() > 100
    assert {200, 400, 404} <= set(statuses)
    assert max(statuses) < 500
