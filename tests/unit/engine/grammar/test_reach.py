"""How far from its end an answer can be."""

from typing import Any

import pytest

from genkan.engine.grammar.json_schema import SchemaRefused, checked
from genkan.engine.grammar.reach import Reach, reach_of


def _reach(schema: dict[str, Any]) -> Reach:
    return reach_of(checked(schema), len)  # a token a character


def test_an_optional_property_is_what_a_choice_adds() -> None:
    small = {"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"], "additionalProperties": False}
    large = small | {"properties": {"a": {"const": 1}, "long": {"const": "x" * 50}}}
    assert _reach(large).step > 50 > _reach(small).step
    assert _reach(large).least == _reach(small).least


def test_what_is_required_is_no_choice() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"const": "x" * 50}},
        "required": ["a"],
        "additionalProperties": False,
    }
    assert _reach(schema).least > 50
    assert _reach(schema).step < 10


def test_where_there_is_no_limit() -> None:
    tree = {"type": "array", "items": {"$ref": "#"}}
    assert _reach(tree).most is None
    assert _reach({"type": "object"}).most is None
    most = _reach({"type": "array", "items": {"type": "array", "items": {"const": "x" * 20}}}).most
    assert most is not None
    assert 20 < most < 200


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"type": "array", "items": {"$ref": "#"}, "minItems": 1},
        {"anyOf": [False, {"$ref": "#"}]},
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
        {"enum": []},
    ],
)
def test_nothing_finite(schema: dict[str, Any]) -> None:
    with pytest.raises(SchemaRefused, match="no finite value"):
        _reach(schema)
