"""What is left of a schema that is not meant strictly."""

from typing import Any

import jsonschema
import pytest

from genkan.engine.grammar.json_schema import SchemaRefused, checked
from genkan.serving.loose_schema import loosened

ODD: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Odd",
    "type": "object",
    "x-guidance": {"lenient": True},
    "dependentRequired": {"tags": ["size"]},
    "properties": {
        "tags": {"type": "array", "items": {"type": "string", "format": "emoji"}, "uniqueItems": True},
        "size": {"type": "integer", "maximum": 1e300, "minimum": 1, "multipleOf": 10_000_000},
        "kind": {"anyOf": [{"const": "title"}, {"$ref": "#/$defs/Kind"}], "default": "a"},
        "description": {"type": "string", "format": "date"},
    },
    "required": ["tags"],
    "$defs": {"Kind": {"enum": ["a", "b"], "examples": ["a"]}},
}


def test_words_that_no_grammar_honours_go_and_all_others_stay() -> None:
    assert loosened(ODD) == {
        "type": "object",
        "properties": {
            "tags": {"type": "array", "items": {"type": "string"}},
            "size": {"type": "integer", "minimum": 1},
            "kind": {"anyOf": [{"const": "title"}, {"$ref": "#/$defs/Kind"}]},
            "description": {"type": "string", "format": "date"},
        },
        "required": ["tags"],
        "$defs": {"Kind": {"enum": ["a", "b"]}},
    }


def test_what_is_left_can_be_honoured() -> None:
    with pytest.raises(SchemaRefused):
        checked(ODD)
    checked(loosened(ODD))


@pytest.mark.parametrize(
    "value", [{"tags": ["x"], "size": 10_000_000, "kind": "b"}, {"tags": [], "description": "2024-01-01"}]
)
def test_it_holds_for_all_that_the_schema_holds_for(value: dict[str, Any]) -> None:
    strict = {**ODD, "dependentRequired": {}}
    jsonschema.validate(value, strict)
    jsonschema.validate(value, loosened(ODD))


@pytest.mark.parametrize(
    "schema", [{"properties": 5}, {"items": [1]}, {"anyOf": {"a": 1}}, {"required": ["a"], "items": 1}]
)
def test_what_is_no_schema_is_left_to_be_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(SchemaRefused):
        checked(loosened(schema))


def test_values_are_not_taken_for_schemas() -> None:
    schema = {"const": {"title": 1}, "enum": [{"format": "x"}], "properties": {"title": {"const": {"default": 1}}}}
    assert loosened(schema) == schema
