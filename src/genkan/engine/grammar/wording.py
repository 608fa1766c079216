"""From a GrammarSpec to what llguidance compiles."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from llguidance import LLMatcher

from genkan.engine.grammar.json_schema import Schema, SchemaRefused, checked, parsed
from genkan.engine.grammar.reach import Reach, reach_of
from genkan.engine.grammar.spec import GrammarSpec

#: No white space between the parts of JSON: where it is free, a weak model may write nothing else, for ever.
_COMPACT: dict[str, Any] = {"whitespace_flexible": False}
#: What an embedded schema may say of its own form. Any other, as of a space before a comma, is no better than free.
_SEPARATORS: Final = {"item_separator": (",", ", "), "key_separator": (":", ": ")}
_EMBEDDED = "%json"
_LITERAL = re.compile(r'"((?:[^"\\]|\\.?)*+)"?', re.DOTALL)  # without an end too: it is not looked for twice
_LEAST_SPELT = 16  # tokens, for what its regular expressions ask for
_MOST_SPELT = 64  # tokens that one choice commits to, beside a schema: more are those of other choices
_OF_EXPRESSIONS = Reach(least=8, step=8, most=None)


@dataclass(frozen=True, slots=True)
class Wording:
    """``text`` is for llguidance; ``required`` are the names that some object in it requires.

    ``is_json``: but for the words of a Lark, all that it allows is JSON.
    """

    text: str
    reach: Reach
    required: frozenset[str] = frozenset()
    is_json: bool = False


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
            return _lark(spec.text, tokens_of)


def _json(root: Any, tokens_of: Callable[[str], int]) -> Wording:
    schema = checked(root)
    text = LLMatcher.grammar_from_json_schema(json.dumps(schema.root), overrides=_COMPACT)
    return Wording(text, reach_of(schema, tokens_of), _required(schema), is_json=True)


def _required(schema: Schema) -> frozenset[str]:
    required = [node.get("required", []) for node in schema.nodes.values() if isinstance(node, dict)]
    return frozenset(name for some in required if isinstance(some, list) for name in some if isinstance(name, str))


def _choice(text: str, tokens_of: Callable[[str], int]) -> Wording:
    choices = parsed(text)
    if not isinstance(choices, list) or not choices or not all(isinstance(each, str) and each for each in choices):
        raise SchemaRefused("", "choices must be a list of strings, none of them empty")
    longest = max(map(tokens_of, choices)) + 1
    lark = "start: " + " | ".join(map(json.dumps, choices))
    return Wording(LLMatcher.grammar_from_lark(lark), Reach(longest, longest, longest))


def _lark(text: str, tokens_of: Callable[[str], int]) -> Wording:
    """``text`` with the schema behind each ``%json`` checked and made compact.

    Any token may be the last of a word that commits the answer to the longest of its words and a whole value.
    """
    before, *others = text.split(_EMBEDDED)
    parts, words, required = [before], [before], frozenset[str]()
    value = Reach(0, 0, None)
    for other in others:
        schema, form, rest = _schema_before(other)
        parts.append(f" {json.dumps(schema.root | {'x-guidance': form})}{rest}")
        words.append(rest)
        its = reach_of(schema, tokens_of)
        value = Reach(max(value.least, its.least), max(value.step, its.step), None)
        required |= _required(schema)
    spelt = sum(1 + tokens_of(word) for part in words for word in _LITERAL.findall(part))
    one = max(min(spelt, _MOST_SPELT), _LEAST_SPELT) + value.least
    lark = LLMatcher.grammar_from_lark(_EMBEDDED.join(parts))
    return Wording(lark, Reach(one, one + value.step, None), required, is_json=bool(others))


def _schema_before(text: str) -> tuple[Schema, dict[str, Any], str]:
    """The schema that ``text`` begins with, the form of its JSON, and the rest. Raises SchemaRefused, ValueError."""
    text = text.lstrip()
    try:
        root, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        raise ValueError(f"{_EMBEDDED} must be followed by a JSON schema") from None
    form = root.get("x-guidance") if isinstance(root, dict) else None
    if form is None:
        return checked(root), _COMPACT, text[end:]
    if not isinstance(form, dict) or not all(form[word] in _SEPARATORS.get(word, ()) for word in form):
        raise SchemaRefused("", "'x-guidance' may set 'item_separator' and 'key_separator', with a space or without")
    return checked({word: root[word] for word in root if word != "x-guidance"}), _COMPACT | form, text[end:]
