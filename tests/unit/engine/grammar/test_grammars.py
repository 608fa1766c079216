"""Compiling beside the event loop: once each, within limits, and kept."""

import asyncio
import json
import time

import pytest
from grammar_rigs import Writer, grammars, spec, text_spec

from genkan.engine.grammar.grammars import Grammars
from genkan.engine.grammar.token_table import TokenTable
from genkan.errors import EngineOverloaded, EngineUnavailable, InvalidRequest

pytestmark = pytest.mark.anyio

SLOW = text_spec("lark", r"start: T" + "\n" + r"T: /(.*a.{14})/ & /(.*b.{13})/ & ~/.*c.{12}/")  # a second, and refused


async def test_who_asks_at_once_gets_the_same(real: Grammars) -> None:
    one, other = await asyncio.gather(*(real.compiled(spec({"const": "at once"})) for _ in range(2)))
    assert one is other
    assert await real.compiled(spec({"const": "at once"})) is one


async def test_the_grammar_asked_for_longest_ago_is_forgotten(table: TokenTable) -> None:
    few = grammars(table, cache=2)
    first, second = [await few.compiled(spec({"const": number})) for number in (1, 2)]
    assert await few.compiled(spec({"const": 1})) is first
    await few.compiled(spec({"const": 3}))
    assert await few.compiled(spec({"const": 1})) is first
    assert await few.compiled(spec({"const": 2})) is not second
    few.close()


async def test_what_takes_too_long_is_given_up_and_holds_nobody_up(table: TokenTable) -> None:
    hasty = grammars(table, timeout_s=0.3)
    began = time.monotonic()
    slow = asyncio.gather(hasty.compiled(SLOW), hasty.compiled(SLOW), return_exceptions=True)
    await asyncio.sleep(0)
    await hasty.compiled(spec({"const": 1}))
    for error in await slow:
        assert isinstance(error, InvalidRequest)
        assert "longer than 0.3 s" in error.message
    assert time.monotonic() - began < 5
    await hasty.compiled(spec({"const": 2}))
    hasty.close()


async def test_a_crowd_is_turned_away(table: TokenTable) -> None:
    crowded = grammars(table)
    asked = [crowded.compiled(spec({"const": number})) for number in range(100)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, BaseException)]
    assert len(refused) == 36
    assert all(isinstance(each, EngineOverloaded) for each in refused)
    crowded.close()


async def test_what_is_too_long(table: TokenTable) -> None:
    small = grammars(table, max_bytes=1024)
    for text in ("x" * 1025, "é" * 513):
        with pytest.raises(InvalidRequest, match="longer than 1024 bytes") as caught:
            await small.compiled(text_spec("regex", text), "structured_outputs")
        assert caught.value.param == "structured_outputs"
    small.close()


async def test_after_close(table: TokenTable) -> None:
    closed = grammars(table)
    closed.close()
    with pytest.raises(EngineUnavailable):
        await closed.compiled(spec({}))


@pytest.mark.parametrize(
    ("kind", "text", "why"),
    [
        ("regex", "(", "Invalid regular expression: .*unclosed group"),
        ("regex", r"a\b", "Invalid regular expression"),
        ("regex", "a{1000000}", "too many expressions"),
        ("choice", "[]", "Invalid list of choices"),
        ("choice", '["a", 3]', "Invalid list of choices"),
        ("choice", '[""]', "Invalid list of choices"),
        ("lark", "start: start", "Invalid grammar"),
        ("lark", "begin: 'a'", "Invalid grammar"),
    ],
)
async def test_what_is_wrong_is_said_again_at_once(kind: str, text: str, why: str, real: Grammars) -> None:
    for _ in range(2):
        with pytest.raises(InvalidRequest, match=why):
            await real.compiled(text_spec(kind, text))  # type: ignore[arg-type] # the literals above


async def test_all_kinds(real: Grammars, writer: Writer) -> None:
    choices = ["đỏ", 'x"y', "a\nb", "a"]
    grammar = await real.compiled(text_spec("choice", json.dumps(choices)))
    assert {writer.text(grammar.matcher())[0].decode() for _ in range(40)} == set(choices)
    grammar = await real.compiled(text_spec("regex", "^[a-c]{2}(x|y)$"))
    text, has_finished = writer.text(grammar.matcher())
    assert has_finished
    assert len(text) == 3
    grammar = await real.compiled(text_spec("json_object", ""))
    assert isinstance(writer.value(grammar.matcher()), dict)
