"""``GET /openapi.json``: the whole API as OpenAPI 3.1, written from the code's own tables.

What is in it is what the server that answers has: a path that its configuration leaves out is not described. The
document is made once, at start; it tells nothing of anyone, so no key is needed for it.

Source: OpenAPI 3.1.1.
"""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final

import orjson

from genkan import __version__
from genkan.api.exchange import Exchange
from genkan.api.openapi_admin import OPERATIONS as ADMIN
from genkan.api.openapi_admin import SCHEMAS
from genkan.api.openapi_answers import ANSWERS
from genkan.api.openapi_operations import JSON, PUBLIC, Operation, Parameter
from genkan.api.openapi_requests import REQUESTS
from genkan.api.openapi_shapes import Schema, ref
from genkan.api.routes import BENTOML_PATHS, PathTable
from genkan.config import ServerConfig

OPENAPI_PATH: Final = "/openapi.json"
OPERATIONS: Final = PUBLIC + ADMIN
_TAGS: Final = {
    "OpenAI": "As OpenAI's clients speak.",
    "native": "genkan's own and BentoML's.",
    "operations": "Probes and figures, open to anyone.",
    "administration": "For an admin's key, or, until the first key is made, for this machine.",
}
_ANYTHING: Final = "The request, the caller or the model's server is at fault; the code says how."


def with_openapi(table: PathTable, server: ServerConfig) -> PathTable:
    """``table`` and, below its own path, what describes it."""
    body = b""

    async def get(exchange: Exchange) -> None:
        exchange.query_values()
        await exchange.reply(body)

    whole: PathTable = {**table, OPENAPI_PATH: {"GET": get}}
    body = orjson.dumps(document(whole, server))
    return whole


def document(table: PathTable, server: ServerConfig) -> dict[str, Any]:
    """The description of a server with ``table``, ready to be written as JSON."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        if operation.route in BENTOML_PATHS or operation.method in table.get(operation.route, {}):
            paths.setdefault(operation.template, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "genkan",
            "version": __version__,
            "description": (
                "An LLM gateway with its own engine. Fields that are not described are passed on to the model's "
                f"server, or refused by name. A body has at most {server.max_body_bytes} bytes and arrives within "
                f"{server.body_timeout_s:g} s. Where GET is answered, HEAD is; any other method gets 405."
            ),
        },
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "security": [{"key": []}, {}],
        "paths": paths,
        "components": {
            "schemas": {**REQUESTS, **ANSWERS, **SCHEMAS},
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key. Until the first is made, none is needed on the server's own machine.",
                }
            },
        },
    }


def undescribed(table: PathTable) -> list[tuple[str, str]]:
    """The routes and methods of ``table`` that no operation describes: there should be none."""
    known = {(operation.route, operation.method) for operation in OPERATIONS}
    return sorted(
        (route, method) for route, methods in table.items() for method in methods if (route, method) not in known
    )


def _operation(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": _id(operation),
        "tags": [operation.tag],
        "summary": operation.summary,
        "responses": _responses(operation),
    }
    if operation.parameters:
        described["parameters"] = [_parameter(parameter) for parameter in operation.parameters]
    if operation.body is not None:
        described["requestBody"] = _body(operation, operation.body)
    if operation.is_open:
        described["security"] = []
    return described


def _id(operation: Operation) -> str:
    """Such as ``post_admin_keys_id_rotate``."""
    words = operation.template.translate(str.maketrans("/.-{}", "     ")).split()
    return "_".join([operation.method.lower(), *words])


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.required,
        "description": parameter.meaning,
        "schema": parameter.schema,
    }


def _body(operation: Operation, schema: Schema) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": schema}
    if operation.example is not None:
        content["examples"] = {"plain": {"value": operation.example}}
    return {"required": not operation.body_is_optional, "content": {JSON: content}}


def _responses(operation: Operation) -> dict[str, Any]:
    content = {media_type: {"schema": schema} for media_type, schema in operation.answers.items()}
    responses: dict[str, Any] = {str(operation.status): {"description": "Done.", "content": content}}
    for status in _in_order(operation.errors):
        responses[status] = {"description": _phrase(status), "content": {JSON: {"schema": ref("Error")}}}
    return responses


def _in_order(statuses: Iterable[int | str]) -> list[str]:
    return sorted({str(status) for status in statuses})


def _phrase(status: str) -> str:
    return f"{HTTPStatus(int(status)).phrase}." if status.isdigit() else _ANYTHING
