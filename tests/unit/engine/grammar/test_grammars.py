"""Compiling beside the event loop: once each, within limits, and kept."""

import asyncio
import json
import time
from collections import Counter

import pytest
from grammar_rigs import Writer, allowed, grammars, spec, text_spec

from genkan.engine.grammar.grammars import Grammars
from genkan.engine.grammar.observer import GrammarResult
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


class Told:
    def __init__(self) -> None:
        self.asked: Counter[GrammarResult] = Counter()
        self.compiled: list[float] = []

    def grammar_asked(self, result: GrammarResult) -> None:
        self.asked[result] += 1

    def grammar_compiled(self, seconds: float) -> None:
        self.compiled.append(seconds)


async def test_every_request_is_told_with_what_became_of_it(table: TokenTable) -> None:
    told = Told()
    some = grammars(table, max_bytes=1024, observer=told)
    one, wrong, long = spec({"const": "told"}), text_spec("regex", "("), text_spec("regex", "x" * 1025)
    await asyncio.gather(some.compiled(one), some.compiled(one))
    await some.compiled(one)
    for each in (wrong, wrong, long):
        with pytest.raises(InvalidRequest):
            await some.compiled(each)
    assert told.asked == {"compiled": 2, "cached": 1, "refused": 3}
    assert len(told.compiled) == 2, "one for both who asked at once, and the wrong one"
    assert all(seconds > 0 for seconds in told.compiled)
    some.close()


async def test_who_is_given_up_or_turned_away_is_told_so(table: TokenTable) -> None:
    told = Told()
    hasty = grammars(table, timeout_s=0.01, observer=told)
    asked = [hasty.compiled(SLOW), *(hasty.compiled(spec({"const": number})) for number in range(64))]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(answers[-1], EngineOverloaded)
    assert told.asked["overloaded"] == 1
    assert told.asked["timed_out"] == sum(type(answer) is InvalidRequest for answer in answers) > 0
    assert told.asked.total() == 65
    hasty.close()


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


# Answers that were begun


async def test_after_a_text_what_may_follow_is_what_may_follow_it(real: Grammars, table: TokenTable) -> None:
    form = {"type": "object", "properties": {"a": {"enum": [1, 27]}}, "required": ["a"], "additionalProperties": False}
    grammar = await real.compiled(spec(form))
    ids = {text: index for index, text in enumerate(table.tokens)}
    begun = grammar.after([ids[b'{"'], ids[b"a"], ids[b'":'], ids[b"2"]])
    assert allowed(begun.matcher(), len(table.tokens)) == {ids[b"7"]} | ({ids[b"7}"]} if b"7}" in ids else set())
    assert ids[b"2"] in allowed(grammar.after([ids[b'{"'], ids[b"a"], ids[b'":']]).matcher(), len(table.tokens))
    matcher = begun.matcher()
    matcher.take(ids[b"7"], 5)
    assert matcher.take(ids[b"}"], 4) == ids[b"}"]
    assert matcher.is_closed
    assert ids[b'{"'] in allowed(grammar.matcher(), len(table.tokens))  # it is where it was


async def test_a_begun_answer_still_closes_before_its_tokens_run_out(real: Grammars, writer: Writer) -> None:
    grammar = await real.compiled(spec({"type": "array", "items": {"type": "array", "items": {"type": "string"}}}))
    for _ in range(20):
        matcher, begun = grammar.matcher(), []
        ids = iter(writer.rows())
        for remaining in range(200, 180, -1):
            row = next(ids).copy()
            matcher.mask(row)
            begun.append(matcher.take(int(row.argmax()), remaining))
            if matcher.is_closed:
                break
        else:
            text, has_finished = writer.text(grammar.after(begun).matcher(), 24)
            assert has_finished, (begun, text)


async def test_what_no_answer_begins_with_is_refused_by_name(real: Grammars, table: TokenTable) -> None:
    grammar = await real.compiled(spec({"const": 1}))
    [two] = [index for index, text in enumerate(table.tokens) if text == b"2"]
    with pytest.raises(InvalidRequest, match="does not begin") as caught:
        grammar.after([two])
    assert caught.value.param == "continue_text"
