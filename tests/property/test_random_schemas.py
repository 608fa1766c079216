"""Whatever the schema and however the tokens are drawn, an answer that ends is valid, and nearly all end."""

import json

import jsonschema
import pytest
from grammar_rigs import Writer, grammars, real_table, spec

from genkan.bench.random_schemas import RandomSchemas

SCHEMAS = 60


@pytest.mark.anyio
async def test_random_schemas_on_random_logits() -> None:
    made, writer, source = grammars(real_table()), Writer(real_table(), seed=3), RandomSchemas(seed=11)
    for number in range(SCHEMAS):
        schema = source.schema()
        jsonschema.Draft202012Validator.check_schema(schema)
        matcher = (await made.compiled(spec(schema))).matcher()
        text, has_finished = writer.text(matcher, max_tokens=256 if number % 2 else 128)
        writer.tally.add(schema, text, len(text), has_finished)
        assert not writer.tally.invalid, (json.dumps(schema), text)
    assert writer.tally.finished >= 0.95 * SCHEMAS
    made.close()
