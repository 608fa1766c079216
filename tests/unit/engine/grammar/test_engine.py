"""An engine whose answers follow a grammar, over the real vocabulary and a model that says what it is told."""

import pytest
from fakes import FakeRunner, answering
from grammar_rigs import PADDING, text_spec
from grammar_rigs import spec as schema_spec
from running import MakeEngine, greedy, whole

from genkan.engine.grammar.grammars import Grammars
from genkan.engine.grammar.spec import GrammarSpec
from genkan.engine.grammar.token_table import TokenTable

pytestmark = pytest.mark.anyio

FREE = text_spec("lark", "start: TEXT\nTEXT: /(?s:.*)/")


@pytest.mark.parametrize(
    ("spec", "text", "max_tokens", "written", "reason"),
    [
        (FREE, "once upon a time", 9, "once upon", "length"),
        (FREE, "một", 2, b"m\xe1", "length"),
        (FREE, "once", 9, "once", "stop"),
        (schema_spec({"type": "integer"}), "123456", 4, "123", "stop"),
        (text_spec("choice", '["once", "upon"]'), "once", 9, "once", "stop"),
        (schema_spec({"type": "string"}), '"một', 4, '"m"', "stop"),
        (text_spec("regex", '"[a-z]*"'), '"once upon', 5, '"onc"', "stop"),
    ],
)
async def test_why_an_answer_ends(
    make_engine: MakeEngine,
    real: Grammars,
    table: TokenTable,
    spec: GrammarSpec,
    text: str,
    max_tokens: int,
    written: str | bytes,
    reason: str,
) -> None:
    ids = list(table.tokens)
    answer = [*(ids.index(bytes([byte])) for byte in text.encode()), table.eos_id]
    runner = FakeRunner(answering(answer), vocab_size=len(ids) + PADDING)
    engine = make_engine(runner, {"grammars": real})
    tokens = await whole(engine, [5, 6, 7], greedy(max_tokens, grammar=spec, stop_ids=table.stop_ids))
    said = b"".join(table.tokens[token.id] for token in tokens)
    assert said == (written if isinstance(written, bytes) else written.encode())
    assert tokens[-1].finish_reason == reason
