"""JSON schemas: what is honoured, shown on random answers, and what is refused by name."""

import json
from typing import Any

import jsonschema
import pytest
from grammar_rigs import Writer, spec, text_spec

from genkan.engine.grammar.grammars import Grammars
from genkan.engine.grammar.json_schema import FORMATS, HONOURED, MAX_DEPTH, SchemaRefused, checked, parsed
from genkan.errors import InvalidRequest

pytestmark = pytest.mark.anyio

_S: dict[str, Any] = {"type": "string", "maxLength": 8}
_CLOSED = {"type": "object", "additionalProperties": False}

PROVED: list[dict[str, Any]] = [
    {"type": "string", "minLength": 3, "maxLength": 6},
    {"type": "string", "pattern": "^[a-z]{2}[0-9]+$", "maxLength": 6},
    {"type": "string", "pattern": "ab", "maxLength": 5},
    {"type": "string", "pattern": "^a|b$", "maxLength": 4},
    {"type": "integer", "minimum": -3, "exclusiveMaximum": 4},
    {"type": "integer", "exclusiveMinimum": -3.5, "maximum": 4.5},
    {"type": "number", "minimum": -1.25, "maximum": 2.5},
    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 3},
    {"type": "number", "exclusiveMinimum": -0.5, "exclusiveMaximum": 0.01},
    {"type": "integer", "multipleOf": 7, "minimum": 0},
    {"type": "number", "multipleOf": 0.25, "minimum": 0, "maximum": 3},
    {"enum": ["a", 1, None, True, {"x": [1.5, "Huế"]}, -2.25, 'q"\\\n\t\u0001', "서울", "🙂", ""]},
    {"const": {"b": [1, 2.5, None], "a": "é"}},
    {"const": 9007199254740992},
    {"type": ["boolean", "null", "integer"], "maximum": 3},
    {"type": "array", "items": _S, "minItems": 1, "maxItems": 3},
    {"type": "array", "prefixItems": [{"type": "null"}, _S], "items": False, "minItems": 2},
    {"type": "array", "prefixItems": [{"type": "null"}], "items": {"const": 3}, "maxItems": 4},
    _CLOSED | {"properties": {"a": _S, "b": {"type": "null"}}, "required": ["b"]},
    _CLOSED | {"properties": {"a": _S, "b": _S}, "minProperties": 1},
    {"type": "object", "additionalProperties": {"type": "null"}, "maxProperties": 2},
    {"type": "object", "properties": {"a": {"const": 1}}, "additionalProperties": {"const": 2}, "required": ["a", "z"]},
    {"type": "object", "patternProperties": {"^n_[a-z]{1,4}$": {"const": 1}}, "additionalProperties": False},
    {"anyOf": [{"type": "integer", "minimum": 5}, {"type": "null"}], "maximum": 9},
    {"oneOf": [_S, {"type": "integer"}]},
    {"allOf": [{"type": "integer", "minimum": 2}, {"maximum": 6}, {"multipleOf": 2}]},
    {"allOf": [_CLOSED | {"properties": {"a": {"const": 1}}}, {"properties": {"b": {"const": 2}}}]},
    {"$defs": {"địa chỉ/~": {"enum": [7, 8]}}, "$ref": "#/$defs/địa%20chỉ~1~0"},
    {"definitions": {"n": _CLOSED | {"properties": {"n": {"$ref": "#/definitions/n"}}}}, "$ref": "#/definitions/n"},
    {"$defs": {"n": {"minimum": 3}}, "$ref": "#/$defs/n", "type": "integer", "maximum": 5},
    {"type": "integer", "maximum": 3, "title": "t", "description": "d", "default": 9, "examples": ["x"], "x-own": [1]},
    *({"type": "string", "format": name} for name in sorted(FORMATS - {"email", "hostname", "uri"})),
]


@pytest.mark.parametrize("schema", PROVED, ids=lambda schema: json.dumps(schema)[:60])
async def test_what_is_honoured(schema: dict[str, Any], real: Grammars, writer: Writer) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    grammar = await real.compiled(spec(schema))
    for max_tokens in [64, 64, 64, 64, 24, 16]:
        text, has_finished = writer.text(grammar.matcher(), max_tokens)
        assert has_finished or max_tokens < 64
        if has_finished:
            validator.validate(json.loads(text.decode()))


async def test_an_older_tuple(real: Grammars, writer: Writer) -> None:
    schema = {"type": "array", "items": [{"type": "null"}], "additionalItems": {"const": 4}, "maxItems": 3}
    grammar = await real.compiled(spec(schema))
    for _ in range(8):
        jsonschema.Draft7Validator(schema).validate(writer.value(grammar.matcher()))


def test_every_word_that_is_honoured_was_proved() -> None:
    words = json.dumps(PROVED)
    assert [word for word in sorted(HONOURED - {"additionalItems"}) if f'"{word}"' not in words] == []


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"uniqueItems": True}, "'uniqueItems' is not supported"),
        ({"not": {}}, "'not' is not supported"),
        ({"if": {}, "then": {}}, "'if' is not supported"),
        ({"dependentRequired": {"a": ["b"]}}, "'dependentRequired'"),
        ({"contains": {}}, "'contains'"),
        ({"propertyNames": {}}, "'propertyNames'"),
        ({"unevaluatedProperties": False}, "'unevaluatedProperties'"),
        ({"$dynamicRef": "#"}, "'$dynamicRef'"),
        ({"$anchor": "a"}, "'$anchor'"),
        ({"nullable": True}, "'nullable'"),
        ({"maxLenght": 3}, "'maxLenght'"),
        ({"x-guidance": {"lenient": True}}, "'x-guidance'"),
        ({"items": {"anyOf": [{"not": {}}]}}, "at '#/items/anyOf/0': 'not'"),
        ({"$defs": {"a/b": {"not": {}}}}, "at '#/$defs/a~1b': 'not'"),
        ({"properties": {"a": {"$id": "http://b"}}}, "'$id' is supported at the root alone"),
        ({"type": "string", "format": "regex"}, 'the format "regex"'),
        ({"type": "integer", "format": "int32"}, 'the format "int32"'),
        ({"const": 2**53 + 1}, "beyond ±2^53"),
        ({"enum": [{"a": [1e300]}]}, "beyond ±2^53"),
        ({"maximum": 10**30}, "beyond ±2^53"),
        ({"minimum": 3, "exclusiveMinimum": True}, "'exclusiveMinimum' must be a number"),
        ({"maxLength": 2.5}, "'maxLength' must be an integer"),
        ({"minItems": -1}, "'minItems' must be an integer"),
        ({"minProperties": 2}, "'minProperties' above 1"),
        ({"exclusiveMinimum": 0, "maximum": 0.5}, "exclusive bound of 0"),
        ({"multipleOf": 0}, "'multipleOf' must be above 0"),
        ({"multipleOf": 9_999_991}, "remainders"),
        ({"allOf": [{"multipleOf": 9973}, {"multipleOf": 9967}]}, "remainders"),
        ({"$ref": "http://a/b"}, "'$ref' must point to a schema in this one"),
        ({"$ref": "#/$defs/none"}, "'$ref' must point to a schema in this one"),
        ({"$ref": 3}, "'$ref' must point to a schema in this one"),
        ({"prefixItems": [{}], "additionalItems": False}, "'additionalItems' is supported only"),
        ({"prefixItems": [{}], "items": [{}]}, "'prefixItems' is not supported where"),
        ({"properties": []}, "must be an object of schemas"),
        ({"anyOf": {}}, "'anyOf' must be a list"),
        ({"items": 3}, "a schema must be an object or a boolean"),
        ([], "a schema must be an object"),
        (True, "a schema must be an object"),
    ],
)
def test_what_is_refused(schema: Any, why: str) -> None:
    with pytest.raises(SchemaRefused) as caught:
        checked(schema)
    assert why in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "{", "nope", '{"const": NaN}', '{"const": 1e999}', '{"maximum": %s}' % ("9" * 5000)]
)
def test_what_is_no_json(text: str) -> None:
    with pytest.raises(SchemaRefused):
        checked(parsed(text))


@pytest.mark.parametrize("depth", [MAX_DEPTH, 100_000])
def test_what_is_nested_too_deeply(depth: int) -> None:
    with pytest.raises(SchemaRefused, match="deep"):
        checked(parsed('{"items":' * depth + "{}" + "}" * depth))


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"type": "string", "pattern": "(?=a)"}, "look-around"),
        ({"oneOf": [{"type": "number"}, {"type": "integer"}]}, "oneOf"),
        ({"type": "integer", "minimum": 3, "maximum": 2}, "greater than"),
        ({"type": "nothing"}, "nothing"),
        ({"$ref": "#"}, "no finite value"),
        ({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "no finite value"),
    ],
)
async def test_what_the_compiler_refuses(schema: dict[str, Any], why: str, real: Grammars) -> None:
    with pytest.raises(InvalidRequest, match=why) as caught:
        await real.compiled(spec(schema))
    assert (caught.value.status, caught.value.param) == (400, "response_format")
    assert "non-verbose" not in caught.value.message


async def test_what_a_schema_in_lark_does_not_get_past(real: Grammars, writer: Writer) -> None:
    with pytest.raises(InvalidRequest, match="'not' is not supported"):
        await real.compiled(text_spec("lark", 'start: "a" %json {"not": {}}'))
    with pytest.raises(InvalidRequest, match="%json must be followed"):
        await real.compiled(text_spec("lark", "start: %json nope"))
    schema = '{"type": "array", "items": {"const": 1}, "minItems": 2, "maxItems": 2}'
    grammar = await real.compiled(text_spec("lark", f'start: "<a>" %json {schema} "</a>"'))
    assert writer.text(grammar.matcher()) == (b"<a>[1,1]</a>", True)


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ({}, b'{"a":[1,1],"b":0}'),
        ({"item_separator": ", "}, b'{"a":[1, 1], "b":0}'),
        ({"item_separator": ", ", "key_separator": ": "}, b'{"a": [1, 1], "b": 0}'),
        ({"item_separator": ",", "key_separator": ":"}, b'{"a":[1,1],"b":0}'),
    ],
)
async def test_a_schema_in_lark_may_have_spaces_between_its_parts(
    form: dict[str, str], text: bytes, real: Grammars, writer: Writer
) -> None:
    ones = {"type": "array", "items": {"const": 1}, "minItems": 2, "maxItems": 2}
    properties = {"a": ones, "b": {"const": 0}}
    schema = {"type": "object", "properties": properties, "required": ["a", "b"], "additionalProperties": False}
    grammar = await real.compiled(text_spec("lark", f"start: %json {json.dumps(schema | {'x-guidance': form})}"))
    assert writer.text(grammar.matcher()) == (text, True)


@pytest.mark.parametrize(
    "form",
    ["", [], {"item_separator": " , "}, {"item_separator": []}, {"whitespace_flexible": True}, {"lenient": True}],
)
async def test_no_other_form_gets_past(form: Any, real: Grammars) -> None:
    with pytest.raises(InvalidRequest, match="'x-guidance' may set"):
        await real.compiled(text_spec("lark", f"start: %json {json.dumps({'const': 1, 'x-guidance': form})}"))
    inner = {"type": "array", "items": {"const": 1, "x-guidance": {"item_separator": ", "}}}
    with pytest.raises(InvalidRequest, match="'x-guidance' is not supported"):
        await real.compiled(text_spec("lark", f"start: %json {json.dumps(inner)}"))
