"""One answer in its grammar: masks, and the way to its end."""

import json

import pytest
from grammar_rigs import PADDING, Writer, allowed, spec, text_spec

from genkan.engine.grammar.grammars import Grammars
from genkan.engine.grammar.matcher import Matcher
from genkan.engine.grammar.token_table import TokenTable
from genkan.errors import EngineFailed

pytestmark = pytest.mark.anyio

_NESTED = {
    "type": "object",
    "properties": {"child": {"$ref": "#"}, "n": {"type": "integer"}, "name": {"type": "string", "maxLength": 300}},
    "required": ["n", "name"],
    "additionalProperties": False,
}


def _follow(matcher: Matcher, table: TokenTable, text: bytes, remaining: int) -> bytes:
    """Take the bytes of ``text`` one token each; what was taken."""
    taken = b""
    for index in range(len(text)):
        token = list(table.tokens).index(text[index : index + 1])
        taken += table.tokens[matcher.take(token, remaining - index)]
    return taken


@pytest.mark.parametrize("max_tokens", range(14, 64, 5))
async def test_an_answer_is_closed_in_time(max_tokens: int, real: Grammars, writer: Writer) -> None:
    grammar = await real.compiled(spec(_NESTED))
    for _ in range(2):
        value = writer.value(grammar.matcher(), max_tokens)
        assert {"n", "name"} <= value.keys()


@pytest.mark.parametrize(
    ("kind", "text", "least"),
    [
        ("json_object", "", 4),
        ("regex", "[a-z]+@[a-z]{3,9}[.](com|org)", 8),
        ("choice", '["xin chào", "안녕하세요", "a", "ab"]', 12),
        ("lark", 'start: "<a>" %json {"type": "array", "items": {"type": "string"}} "</a>"', 12),
    ],
)
async def test_other_grammars_are_closed_in_time(
    kind: str, text: str, least: int, real: Grammars, writer: Writer
) -> None:
    grammar = await real.compiled(text_spec(kind, text))  # type: ignore[arg-type] # the literals above
    for max_tokens in range(least, 40, 5):
        assert writer.text(grammar.matcher(), max_tokens)[1]


async def test_too_few_tokens_end_in_the_middle(real: Grammars, writer: Writer) -> None:
    grammar = await real.compiled(spec(_NESTED))
    for max_tokens in (1, 2, 5):
        assert not writer.text(grammar.matcher(), max_tokens)[1]


async def test_far_from_the_end_every_token_is_taken_as_it_is(real: Grammars, table: TokenTable) -> None:
    text = json.dumps({"child": {"n": 1, "name": "x" * 40}, "n": 22, "name": "{[" * 20}, separators=(",", ":")).encode()
    matcher = (await real.compiled(spec(_NESTED))).matcher()
    assert _follow(matcher, table, text, 1000) == text
    assert matcher.is_closed


async def test_what_would_leave_too_few_is_replaced(real: Grammars, table: TokenTable) -> None:
    grammar = await real.compiled(spec({"type": "array", "items": {"type": "array", "items": {"const": 1}}}))
    assert _follow(grammar.matcher(), table, b"[[1,", 6) == b"[[1,"
    assert _follow(grammar.matcher(), table, b"[[1,", 4).startswith(b"[[1]")


async def test_masks_follow_the_grammar(real: Grammars, table: TokenTable) -> None:
    matcher = (await real.compiled(spec({"enum": ["a", "bc"]}))).matcher()
    vocab_size = len(table.tokens) + PADDING
    assert {table.tokens[token][:1] for token in allowed(matcher, vocab_size)} == {b'"'}
    _follow(matcher, table, b'"b', 50)
    assert {table.tokens[token] for token in allowed(matcher, vocab_size)} <= {b"c", b'c"'}
    _follow(matcher, table, b'c"', 50)
    assert allowed(matcher, vocab_size) == table.stop_ids
    assert matcher.is_closed


async def test_answers_do_not_touch_each_other(real: Grammars, table: TokenTable) -> None:
    grammar = await real.compiled(spec({"enum": ["a", "bc"]}))
    one, other = grammar.matcher(), grammar.matcher()
    _follow(one, table, b'"a"', 50)
    assert one.is_closed
    assert not other.is_closed
    assert _follow(other, table, b'"bc"', 50) == b'"bc"'


async def test_a_token_that_is_not_allowed(real: Grammars, table: TokenTable) -> None:
    for remaining in (1000, 3):
        matcher = (await real.compiled(spec({"enum": ["a", "bc"]}))).matcher()
        with pytest.raises(EngineFailed, match="go on no more"):
            _follow(matcher, table, b"x", remaining)


FREE = "start: TEXT\nTEXT: /(?s:.*)/"


@pytest.mark.parametrize("text", [b"Once upon", "thị trấn".encode(), "안녕".encode()])
@pytest.mark.parametrize("lark", [FREE, 'start: (lead "!")* TEXT\nlead[lazy]: TEXT "<"\nTEXT: /(?s:.*)/'])
async def test_text_that_is_cut_keeps_its_own_tokens(lark: str, text: bytes, real: Grammars, table: TokenTable) -> None:
    grammar = await real.compiled(text_spec("lark", lark))
    for length in range(1, len(text) + 1):  # within a character as well
        matcher = grammar.matcher()
        assert _follow(matcher, table, text[:length], length - 1) == text[:length]
        assert not matcher.is_closed


async def test_what_was_begun_is_closed_though_text_could_be_cut(real: Grammars, table: TokenTable) -> None:
    grammar = await real.compiled(text_spec("lark", 'start: (TEXT "<" "abcdefgh" ">")* TEXT\nTEXT: /[^<]*/'))
    assert _follow(grammar.matcher(), table, b"ab<", 20) == b"ab<"
    assert _follow(grammar.matcher(), table, b"ab<", 5) == b"ab"  # and the end
