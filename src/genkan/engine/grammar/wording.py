"""From a GrammarSpec to what llguidance compiles."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llguidance import LLMatcher

from genkan.engine.grammar.json_schema import SchemaRefused, checked, parsed
from genkan.engine.grammar.reach import Reach, reach_of
from genkan.engine.grammar.spec import GrammarSpec

#: No white space between the parts of JSON: where it is free, a weak model may write nothing else, for ever.
_COMPACT: dict[str, Any] = {"whitespace_flexible": False}
_EMBEDDED = "%json"
_UNKNOWN = Reach(least=16, step=16, most=None)
_OF_JSON = Reach(least=32, step=16, most=None, by_marks=True)  # with few words around it
_OF_EXPRESSIONS = Reach(least=8, step=8, most=None)


@dataclass(frozen=True, slots=True)
class Wording:
    """``text`` is for llguidance; ``required`` are the names that some object in it requires."""

    text: str
    reach: Reach
    required: frozenset[str] = frozenset()


def worded(spec: GrammarSpec, tokens_of: Callable[[str], int]) -> Wording:
    """``spec`` for llguidance, compact wherever it is JSON. Raises SchemaRefused, ValueError: it cannot be honoured."""
    match spec.kind:
        case "json_object":
            return _json({"type": "object"}, tokens_of)
        case "json_schema":
            return _json(parsed(spec.text), tokens_of)
        case "regex":
            return Wording(LLMatcher.grammar_from_regex(spec.text), _OF_EXPRESSIONS)
        case "choice":
            return _choice(spec.text, tokens_of)
        case "lark":
            lark = _with_checked_schemas(spec.text)
            return Wording(LLMatcher.grammar_from_lark(lark), _OF_JSON if _EMBEDDED in lark else _UNKNOWN)


def _json(root: Any, tokens_of: Callable[[str], int]) -> Wording:
    schema = checked(root)
    text = LLMatcher.grammar_from_json_schema(json.dumps(schema.root), overrides=_COMPACT)
    required = [node.get("required", []) for node in schema.nodes.values() if isinstance(node, dict)]
    names = (name for some in required if isinstance(some, list) for name in some if isinstance(name, str))
    return Wording(text, reach_of(schema, tokens_of), frozenset(names))


def _choice(text: str, tokens_of: Callable[[str], int]) -> Wording:
    choices = parsed(text)
    if not isinstance(choices, list) or not choices or not all(isinstance(each, str) and each for each in choices):
        raise SchemaRefused("", "choices must be a list of strings, none of them empty")
    longest = max(map(tokens_of, choices)) + 1
    lark = "start: " + " | ".join(map(json.dumps, choices))
    return Wording(LLMatcher.grammar_from_lark(lark), Reach(longest, longest, longest))


def _with_checked_schemas(lark: str) -> str:
    """``lark`` with the schema behind each ``%json`` checked and made compact. Raises SchemaRefused, ValueError."""
    before, *others = lark.split(_EMBEDDED)
    parts = [before]
    for other in others:
        text = other.lstrip()
        try:
            schema, end = json.JSONDecoder().raw_decode(text)
        except (ValueError, RecursionError):
            raise ValueError(f"{_EMBEDDED} must be followed by a JSON schema") from None
        compact = checked(schema).root | {"x-guidance": _COMPACT}
        parts.append(f" {json.dumps(compact)}{text[end:]}")
    return _EMBEDDED.join(parts)
