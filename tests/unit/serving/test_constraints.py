"""Which form a request wants its answer in, and what is refused before anything is tokenised."""

import json
from typing import Any

import pytest

from genkan.engine.grammar.spec import GrammarSpec
from genkan.errors import InvalidRequest
from genkan.serving.constraints import (
    MAX_CHOICES,
    MAX_REGEX_CHARS,
    MAX_SCHEMA_BYTES,
    MAX_SCHEMA_DEPTH,
    constraint_of,
)
from genkan.wire.chat import ChatRequest, CompletionRequest

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"b": {"type": "integer"}, "a": {}}, "required": ["b"]}


def chat(**options: Any) -> ChatRequest:
    return ChatRequest.from_object({"model": "m", "messages": [{"role": "user", "content": "hi"}], **options})


def schema_format(schema: Any = SCHEMA, **more: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, **more}}


def refused(**options: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        constraint_of(chat(**options))
    return caught.value


@pytest.mark.parametrize("options", [{}, {"response_format": None}, {"response_format": {"type": "text"}}])
def test_any_text_will_do_where_nothing_else_is_asked_for(options: dict[str, Any]) -> None:
    assert constraint_of(chat(**options)) is None


def test_a_json_object_needs_no_word_in_the_messages() -> None:
    assert constraint_of(chat(response_format={"type": "json_object"})) == GrammarSpec("json_object")


def test_a_strict_schema_is_taken_as_it_is_in_its_own_order() -> None:
    spec = constraint_of(chat(response_format=schema_format(strict=True)))
    assert spec == GrammarSpec("json_schema", json.dumps(SCHEMA, separators=(",", ":")))


def test_a_schema_that_is_not_strict_loses_what_no_grammar_honours() -> None:
    schema = {**SCHEMA, "description": "An answer", "dependentRequired": {"a": ["b"]}}
    spec = constraint_of(chat(response_format=schema_format(schema)))
    assert spec is not None
    assert json.loads(spec.text) == SCHEMA


def test_completions_have_forms_too() -> None:
    body = {"model": "m", "prompt": "x", "response_format": {"type": "json_object"}}
    assert constraint_of(CompletionRequest.from_object(body)) == GrammarSpec("json_object")


@pytest.mark.parametrize(
    ("asked", "spec"),
    [
        ({"regex": "[ab]+"}, GrammarSpec("regex", "[ab]+")),
        ({"choice": ["ja", "nein"]}, GrammarSpec("choice", '["ja", "nein"]')),
        ({"grammar": 'start: "a"'}, GrammarSpec("lark", 'start: "a"')),
        ({"json": {"type": "null"}}, GrammarSpec("json_schema", '{"type":"null"}')),
        ({"json": '{"type": "null"}'}, GrammarSpec("json_schema", '{"type":"null"}')),
        ({"json_object": True, "json": None}, GrammarSpec("json_object")),
    ],
)
def test_reads_vllms_structured_outputs(asked: dict[str, Any], spec: GrammarSpec) -> None:
    assert constraint_of(chat(structured_outputs=asked)) == spec


@pytest.mark.parametrize("kind", ["json", "regex", "choice", "grammar"])
def test_reads_what_structured_outputs_were_called_before(kind: str) -> None:
    value: Any = {"json": {"type": "null"}, "choice": ["a"]}.get(kind, "a")
    older = constraint_of(chat(**{f"guided_{kind}": value}))
    assert older is not None
    assert older == constraint_of(chat(structured_outputs={kind: value}))


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {}}, "response_format.type"),
        ({"response_format": {"type": "grammar"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
            "response_format.json_schema.name",
        ),
        ({"response_format": schema_format(name="a b")}, "response_format.json_schema.name"),
        ({"response_format": schema_format(name="a" * 65)}, "response_format.json_schema.name"),
        ({"response_format": schema_format(name="")}, "response_format.json_schema.name"),
        ({"response_format": schema_format(True)}, "response_format.json_schema.schema"),
        ({"response_format": schema_format(strict="yes")}, "response_format.json_schema.strict"),
        ({"response_format": schema_format(extra=1)}, "response_format.json_schema.extra"),
        ({"structured_outputs": []}, "structured_outputs"),
        ({"structured_outputs": {}}, "structured_outputs"),
        ({"structured_outputs": {"structural_tag": "x"}}, "structured_outputs.structural_tag"),
        ({"structured_outputs": {"json": 5}}, "structured_outputs.json"),
        ({"structured_outputs": {"json": "{"}}, "structured_outputs.json"),
        ({"structured_outputs": {"json": "[" * 60_000}}, "structured_outputs.json"),
        ({"structured_outputs": {"json_object": 1}}, "structured_outputs.json_object"),
        ({"structured_outputs": {"regex": 5}}, "structured_outputs.regex"),
        ({"structured_outputs": {"regex": ""}}, "structured_outputs.regex"),
        ({"guided_regex": "a" * (MAX_REGEX_CHARS + 1)}, "guided_regex"),
        ({"guided_choice": "a"}, "guided_choice"),
        ({"guided_choice": []}, "guided_choice"),
        ({"guided_choice": ["a"] * (MAX_CHOICES + 1)}, "guided_choice"),
        ({"guided_choice": ["a" * 40_000, "b" * 40_000]}, "guided_choice"),
        ({"guided_choice": ["a", 5]}, "guided_choice[1]"),
        ({"guided_choice": ["a", ""]}, "guided_choice[1]"),
    ],
)
def test_what_is_wrong_is_named(options: dict[str, Any], param: str) -> None:
    assert refused(**options).param == param


@pytest.mark.parametrize(
    ("options", "second"),
    [
        ({"structured_outputs": {"json": {}, "regex": "a"}}, "structured_outputs.regex"),
        ({"response_format": {"type": "json_object"}, "guided_choice": ["a"]}, "guided_choice"),
        (
            {"response_format": {"type": "json_object"}, "structured_outputs": {"regex": "a"}},
            "structured_outputs.regex",
        ),
        ({"guided_json": {}, "guided_regex": "a"}, "guided_regex"),
    ],
)
def test_of_two_forms_the_second_is_refused(options: dict[str, Any], second: str) -> None:
    assert refused(**options).param == second


def test_plain_text_beside_another_form_is_no_contradiction() -> None:
    both = chat(response_format={"type": "text"}, guided_choice=["a"])
    assert constraint_of(both) == GrammarSpec("choice", '["a"]')


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(depth - 1):
        schema = {"items": schema}
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        nested(MAX_SCHEMA_DEPTH + 1),
        {"description": "x" * MAX_SCHEMA_BYTES},
        {"x" * MAX_SCHEMA_BYTES: 1},
        {"enum": list(range(10_001))},
        {"enum": ["é" * 20_000]},  # as JSON in ASCII it is six times as long
    ],
    ids=["deep", "long text", "long name", "many values", "long as JSON"],
)
def test_a_schema_is_bounded_before_anything_else(schema: dict[str, Any]) -> None:
    error = refused(response_format=schema_format(schema))
    assert error.param == "response_format.json_schema.schema"
    assert "at most" in error.message


def test_a_schema_at_the_bound_of_depth_is_taken() -> None:
    assert constraint_of(chat(response_format=schema_format(nested(MAX_SCHEMA_DEPTH)))) is not None
