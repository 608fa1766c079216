"""Words of which the JSON schemas of `openapi.py` are made."""

from typing import Any, Final

Schema = dict[str, Any]

TEXT: Final[Schema] = {"type": "string"}
FLAG: Final[Schema] = {"type": "boolean"}
NUMBER: Final[Schema] = {"type": "number"}
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
ANY_OBJECT: Final[Schema] = {"type": "object"}


def ref(name: str) -> Schema:
    """A reference to the component of that name."""
    return {"$ref": f"#/components/schemas/{name}"}


def described(schema: Schema, description: str) -> Schema:
    return {**schema, "description": description}


def or_null(schema: Schema) -> Schema:
    """``schema``, or null. Of a request: null is the same as not there."""
    if "$ref" in schema:
        return {"anyOf": [schema, {"type": "null"}]}
    return {**schema, "type": [schema["type"], "null"]} if "type" in schema else {"anyOf": [schema, {"type": "null"}]}


def answer(required: tuple[str, ...], properties: dict[str, Schema]) -> Schema:
    """An object of which ``required`` is always there; more may be."""
    return {"type": "object", "required": [*required], "properties": properties}


def list_of(item: Schema, **bounds: int) -> Schema:
    return {"type": "array", "items": item, **bounds}


def whole(low: int, high: int) -> Schema:
    return {"type": "integer", "minimum": low, "maximum": high}


def number(low: float, high: float) -> Schema:
    return {"type": "number", "minimum": low, "maximum": high}


def optional(properties: dict[str, Schema]) -> dict[str, Schema]:
    """The same, each of which may be null as well."""
    return {name: or_null(schema) for name, schema in properties.items()}
