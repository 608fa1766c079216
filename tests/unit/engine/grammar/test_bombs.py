"""Grammars made to cost: each is refused or harmless, and none holds up a step for long."""

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from grammar_rigs import Writer, grammars, text_spec

from genkan.engine.grammar.grammars import Grammars
from genkan.engine.grammar.spec import GrammarSpec
from genkan.engine.grammar.token_table import TokenTable
from genkan.errors import EngineFailed, InvalidRequest

pytestmark = pytest.mark.anyio

MAX_STEP_S = 1.0  # of one thread's time; the worst that was found takes a ninth


def _json(schema: dict[str, Any]) -> GrammarSpec:
    return text_spec("json_schema", json.dumps(schema))


def _bombs() -> Iterator[GrammarSpec]:
    for regex in (
        "(a|a)*b",
        "((a*)*)*b",
        "a{1000000000}",
        "((a{1000}){1000}){1000}",
        "(.{0,1000}x){0,100}",
        "(.*a.{12}){3}",
    ):
        yield text_spec("regex", regex)
    yield text_spec("regex", r"(\w{0,50}\W{0,50}){50}")
    yield text_spec("regex", "(" * 20_000 + "a" + ")" * 20_000)
    yield text_spec("lark", 'start: s\ns: s s | "a" | ')
    yield text_spec("lark", 'start: a{1000}\na: b{1000}\nb: c{1000}\nc: "x"')
    yield text_spec("lark", "start: " + "(" * 20_000 + '"a"' + ")" * 20_000)
    yield text_spec("lark", 'start: "a"\n# "' + r"\"" * 30_000)
    yield text_spec("lark", "start: v0\n" + "\n".join(f"v{n}: %json {{}}" for n in range(2500)))
    yield _json({"enum": [f"value number {number}" for number in range(2000)]})
    yield _json({"enum": list(range(5000))})
    yield _json({"type": "string", "maxLength": 10**9})
    yield _json({"type": "string", "minLength": 10**9})
    yield _json({"type": "string", "pattern": ".*a.{15}b", "maxLength": 3000})
    yield _json({"type": "string", "pattern": "^(a|b|.c)*$", "maxLength": 100_000})
    yield _json({"type": "array", "minItems": 10**9})
    yield _json({"type": "integer", "multipleOf": 9973})
    yield _json({"type": "object", "properties": {f"k{number}": {"type": "string"} for number in range(800)}})
    options = [{"anyOf": [{"properties": {f"k{i}{j}": {"type": "null"}}} for j in range(4)]} for i in range(12)]
    yield _json({"allOf": options})
    chain = {f"d{n}": {"type": "array", "items": {"$ref": f"#/$defs/d{n + 1}"}} for n in range(600)}
    yield _json({"$defs": chain | {"d600": {"type": "null"}}, "$ref": "#/$defs/d0"})


@pytest.mark.parametrize("bomb", list(_bombs()), ids=lambda bomb: f"{bomb.kind} {bomb.text[:40]}")
async def test_a_bomb(bomb: GrammarSpec, table: TokenTable, real: Grammars) -> None:
    writer = Writer(table)
    with suppress(InvalidRequest, EngineFailed):
        grammar = await real.compiled(bomb)
        writer.text(grammar.matcher(), 40)
    assert max([0.0, *writer.tally.mask_s, *writer.tally.take_s]) < MAX_STEP_S


async def test_bombs_leave_nothing_behind(table: TokenTable) -> None:
    made = grammars(table)
    for bomb in (text_spec("regex", "a{1000000000}"), text_spec("regex", "((a{1000}){1000}){1000}")):
        with pytest.raises(InvalidRequest):
            await made.compiled(bomb)
    grammar = await made.compiled(_json({"const": 1}))
    assert Writer(table).value(grammar.matcher()) == 1
    made.close()
