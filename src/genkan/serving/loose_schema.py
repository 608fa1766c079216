"""JSON schemas as far as grammars honour them: for requests that ask for a schema, but not strictly.

A word that the grammar cannot express says no more than the schema without it would: what is written is constrained by
all the others. Words that only describe go too; the model reads them in its prompt, and a grammar is smaller without.
"""

from typing import Any, Final

from genkan.engine.grammar.json_schema import FORMATS, HONOURED, MAX_MULTIPLE

_EXACT: Final = 1 << 53  # beyond it, doubles skip integers
_MAPS: Final = ("properties", "patternProperties", "$defs", "definitions")
_BOUNDS: Final = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")


def loosened(schema: Any) -> Any:
    """``schema`` without what no grammar honours, and without descriptions; what is no schema stays, to be refused.

    Cost: a microsecond or two for each word.
    """
    if type(schema) is not dict:
        return schema
    return {word: _inside(word, value) for word, value in schema.items() if _is_kept(word, value)}


def _inside(word: str, value: Any) -> Any:
    if word in _MAPS and type(value) is dict:
        return {name: loosened(schema) for name, schema in value.items()}
    if word in ("const", "enum", "required", "type"):
        return value
    return [loosened(schema) for schema in value] if type(value) is list else loosened(value)


def _is_kept(word: str, value: Any) -> bool:
    if word == "format":
        return value in FORMATS
    if word == "minProperties":
        return value in (0, 1)
    if word in _BOUNDS:
        return type(value) in (int, float) and abs(value) <= _EXACT
    if word == "multipleOf":
        return type(value) in (int, float) and 0 < value <= MAX_MULTIPLE
    return word in HONOURED
