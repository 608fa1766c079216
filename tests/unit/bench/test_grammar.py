"""The grammar benchmark: random schemas are schemas, and answers are counted for what they are."""

import json

import jsonschema

from genkan.bench.grammar import LONG_SCHEMA, Tally, is_valid, random_logits
from genkan.bench.random_schemas import RandomSchemas


def test_random_schemas_are_schemas_and_the_same_for_a_seed() -> None:
    one, other = RandomSchemas(1), RandomSchemas(1)
    drawn = [one.schema() for _ in range(50)]
    assert drawn == [other.schema() for _ in range(50)]
    for schema in [*drawn, LONG_SCHEMA]:
        jsonschema.Draft202012Validator.check_schema(schema)
    words = json.dumps(drawn)
    assert all(f'"{word}"' in words for word in ("anyOf", "$ref", "enum", "const", "pattern", "multipleOf", "items"))


def test_what_is_valid() -> None:
    assert is_valid({"const": "서울"}, '"서울"'.encode())
    assert not is_valid({"const": 1}, b"2")
    assert not is_valid({}, b"{")
    assert not is_valid({}, b'"\xff"')


def test_answers_are_counted() -> None:
    tally = Tally(mask_s=[1e-6, 3e-6], take_s=[2e-6, 2e-6])
    tally.add({"const": 1}, b"1", 1, has_finished=True)
    tally.add({"const": 1}, b"2", 1, has_finished=True)
    tally.add({"const": 1}, b"", 4, has_finished=False)
    summary = tally.summary()
    assert (summary["finished"], summary["invalid"], summary["tokens_mean"]) == (2 / 3, 1, 2)
    assert (round(summary["mask_us"], 6), round(summary["take_us"], 6)) == (2, 2)


def test_rows_differ() -> None:
    rows = random_logits(0, 100)
    assert len({int(next(rows).argmax()) for _ in range(50)}) > 10
