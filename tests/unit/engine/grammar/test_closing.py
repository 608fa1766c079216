"""The way to a grammar's end, within what remains."""

import pytest
from grammar_rigs import spec

from genkan.engine.grammar.grammars import Grammars
from genkan.engine.grammar.token_table import TokenTable

pytestmark = pytest.mark.anyio

_NOTE = {
    "type": "object",
    "properties": {"note": {"enum": ["red", "blue and a long way to go"]}},
    "required": ["note"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("written", [b"", b'{"note":"', b'{"note":"b', b'{"note":"r', b'{"note":"red'])
async def test_a_way_is_never_longer_than_what_remains_though_all_of_it_is_forced(
    written: bytes, real: Grammars, table: TokenTable
) -> None:
    grammar = await real.compiled(spec(_NOTE))
    state = grammar._root.deep_copy()
    for index in range(len(written)):
        assert state.consume_token(list(table.tokens).index(written[index : index + 1]))
    ways = [grammar._vocabulary.closing.path(state, limit) for limit in range(30)]
    assert all(way is None or len(way) <= limit for limit, way in enumerate(ways))
    assert ways[0] is None
    assert ways[29] is not None
