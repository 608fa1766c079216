"""The bytes behind token ids: what may end an answer, and what is never part of one."""

import pytest
from grammar_rigs import PADDING, allowed, grammars, spec, text_spec

from genkan.engine.grammar.token_table import TokenTable
from genkan.errors import EngineFailed

pytestmark = pytest.mark.anyio

_BYTES = [bytes([byte]) for byte in range(256)]
END, TURN, SPECIAL, NOTHING, TWICE = 256, 257, 258, 259, 260
TABLE = TokenTable(
    [*_BYTES, b"</s>", b"", b"ab", b"", b"a"], frozenset({END, TURN}), TURN, frozenset({END, TURN, SPECIAL})
)


async def test_special_tokens_are_no_text_and_padding_is_nothing() -> None:
    grammar = await grammars(TABLE).compiled(text_spec("regex", "(.|\n)+"))
    ids = allowed(grammar.matcher(), len(TABLE.tokens) + PADDING)
    assert {ord("a"), ord("<"), TWICE} <= ids
    assert not ids & {END, TURN, SPECIAL, NOTHING}
    assert max(ids) < len(TABLE.tokens)


async def test_all_that_end_an_answer_may_come_where_it_may_end_and_nowhere_else() -> None:
    matcher = (await grammars(TABLE).compiled(text_spec("regex", "ab?"))).matcher()
    size = len(TABLE.tokens) + PADDING
    assert allowed(matcher, size) == {ord("a")}  # of two that read the same, one is forced
    assert matcher.take(ord("a"), 8) == ord("a")
    assert allowed(matcher, size) == {ord("b"), END, TURN}
    assert matcher.take(END, 7) == END
    assert matcher.is_closed


async def test_a_head_without_padding() -> None:
    matcher = (await grammars(TABLE).compiled(spec({"const": 7}))).matcher()
    assert allowed(matcher, len(TABLE.tokens)) == {ord("7")}
    with pytest.raises(EngineFailed, match="no more"):
        matcher.take(ord("8"), 5)


def test_the_id_that_ends_comes_first() -> None:
    assert TABLE.ending_ids() == [TURN, END]


def test_a_head_that_is_too_small() -> None:
    table = TokenTable(_BYTES * 2, frozenset({1}), 1, frozenset({1}))
    with pytest.raises(ValueError, match="512 tokens"):
        type(grammars(TABLE))(table, timeout_s=1, max_bytes=9, cache=1, vocab_size=511)
