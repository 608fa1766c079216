"""What form a request wants its answer in: OpenAI's ``response_format``, and vLLM's structured outputs.

At most one form is asked for: two would be a grammar that nobody wrote. All of it is bounded here, before anything is
tokenised; whether a schema or a grammar means anything is found out when it is compiled.

``json_object`` does not ask for the word JSON in the messages, as OpenAI does. There the check keeps a model that was
told nothing from writing white space for ever; here the grammar lets it write none. A ``json_schema`` constrains the
answer with ``strict`` or without; without, keywords that the grammar cannot express are passed over, with it they are
refused.

Source: OpenAI's API reference for chat completions; vLLM's structured outputs (``structured_outputs``, and
``guided_json`` with its siblings before).
"""

import json
import re
from typing import Any, Final

from genkan.engine.grammar.spec import GrammarSpec
from genkan.errors import InvalidRequest, UnsupportedOption
from genkan.serving.loose_schema import loosened
from genkan.wire.chat import GenerationRequest
from genkan.wire.fields import Fields, wrong_type

MAX_SCHEMA_BYTES = 64 << 10
MAX_SCHEMA_DEPTH = 64
MAX_SCHEMA_VALUES = 10_000
MAX_REGEX_CHARS = 4096
MAX_CHOICES = 1000
MAX_CHOICES_BYTES = 64 << 10
MAX_GRAMMAR_CHARS = 64 << 10

_FORMATS: Final = ("text", "json_object", "json_schema")
_SCHEMA_KEYS: Final = frozenset({"name", "description", "schema", "strict"})
_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
#: vLLM's structured outputs, and what they were called before; in this order they are looked for.
_KINDS: Final = ("json", "json_object", "regex", "choice", "grammar")
_OLDER: Final = {"guided_json": "json", "guided_regex": "regex", "guided_choice": "choice", "guided_grammar": "grammar"}
_OPTIONS: Final = frozenset({"response_format", "structured_outputs", *_OLDER})


def constraint_of(request: GenerationRequest) -> GrammarSpec | None:
    """The form that ``request`` asks for; None: any text.

    Raises InvalidRequest naming the field that is wrong, or the second of two that ask. Cost: one set test where there
    is none, else one pass over the schema.
    """
    raw = request.raw
    if _OPTIONS.isdisjoint(raw):
        return None
    fields, found = Fields(raw), []
    if (spec := _response_format(fields)) is not None:
        found.append(("response_format", spec))
    if (asked := fields.object("structured_outputs")) is not None:
        found += _structured(asked, raw["structured_outputs"])
    found += [(name, _spec(kind, raw[name], name)) for name, kind in _OLDER.items() if raw.get(name) is not None]
    if len(found) > 1:
        first, second = found[0][0], found[1][0]
        raise InvalidRequest(f"'{first}' and '{second}' both say what form the answer has; give one.", param=second)
    return found[0][1] if found else None


def bounded_json(value: dict[str, Any], path: str) -> str:
    """``value`` as JSON in ASCII. Raises InvalidRequest naming ``path`` where it is larger or deeper than schemas are.

    Cost: stops at the limit, about 1 ms at most.
    """
    level: list[Any] = [value]
    depth = num_values = num_chars = 0
    while level:
        depth += 1
        if depth > MAX_SCHEMA_DEPTH:
            raise InvalidRequest(f"'{path}' must be nested at most {MAX_SCHEMA_DEPTH} levels deep.", param=path)
        inner_level: list[Any] = []
        for outer in level:
            num_values += len(outer)
            num_chars += sum(map(len, outer)) if type(outer) is dict else 0
            if num_values > MAX_SCHEMA_VALUES or num_chars > MAX_SCHEMA_BYTES:
                raise _too_large(path)
            for inner in outer.values() if type(outer) is dict else outer:
                if type(inner) is dict or type(inner) is list:
                    inner_level.append(inner)
                elif type(inner) is str:
                    num_chars += len(inner)
        level = inner_level
    text = json.dumps(value, separators=(",", ":"))
    if len(text) > MAX_SCHEMA_BYTES:
        raise _too_large(path)
    return text


def _response_format(fields: Fields) -> GrammarSpec | None:
    asked = fields.object("response_format")
    if asked is None:
        return None
    asked.require("type")
    kind = asked.choice("type", _FORMATS)
    if kind == "text":
        return None
    if kind == "json_object":
        return GrammarSpec("json_object")
    asked.require("json_schema")
    asked.object("json_schema")  # is one
    return _named_schema(asked.raw("json_schema"), asked.path_of("json_schema"))


def _named_schema(values: dict[str, Any], path: str) -> GrammarSpec:
    fields = Fields(values, path)
    fields.only(_SCHEMA_KEYS)
    fields.require("name")
    name = fields.string("name")
    if name is None or not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"'{path}.name' must be 1 to 64 letters, digits, underscores and dashes; given: '{(name or '')[:100]}'.",
            param=f"{path}.name",
        )
    fields.string("description")
    strict = fields.boolean("strict") or False
    fields.require("schema")
    fields.object("schema")  # is one
    return _schema_spec(fields.raw("schema"), f"{path}.schema", strict=strict)


def _structured(fields: Fields, values: dict[str, Any]) -> list[tuple[str, GrammarSpec]]:
    given = {name: value for name, value in values.items() if value is not None and value is not False}
    path = fields.path_of
    for name in given:
        if name not in _KINDS and name != "disable_any_whitespace":  # the engine's JSON never has any
            raise UnsupportedOption(path(name[:200]), f"only {', '.join(_KINDS)}")
    found = [(path(kind), _spec(kind, given[kind], path(kind))) for kind in _KINDS if kind in given]
    if not found:
        raise InvalidRequest(f"'structured_outputs' must have one of {', '.join(_KINDS)}.", param="structured_outputs")
    return found


def _spec(kind: str, value: Any, path: str) -> GrammarSpec:
    if kind == "json":
        return _json(value, path)
    if kind == "json_object":
        if value is not True:
            raise wrong_type(path, "a boolean", value)
        return GrammarSpec("json_object")
    if kind == "choice":
        return _choice(value, path)
    if type(value) is not str:
        raise wrong_type(path, "a string", value)
    limit = MAX_REGEX_CHARS if kind == "regex" else MAX_GRAMMAR_CHARS
    if not 1 <= len(value) <= limit:
        raise InvalidRequest(f"'{path}' must have 1 to {limit} characters; given: {len(value)}.", param=path)
    return GrammarSpec("regex" if kind == "regex" else "lark", value)


def _json(value: Any, path: str) -> GrammarSpec:
    """vLLM takes the schema as an object or as its text."""
    if type(value) is str:
        if len(value) > MAX_SCHEMA_BYTES:
            raise _too_large(path)
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise InvalidRequest(f"'{path}' is not JSON.", param=path) from None
    if type(value) is not dict:
        raise wrong_type(path, "an object, or its JSON text", value)
    return _schema_spec(value, path, strict=True)


def _schema_spec(schema: dict[str, Any], path: str, *, strict: bool) -> GrammarSpec:
    text = bounded_json(schema, path)
    return GrammarSpec("json_schema", text if strict else json.dumps(loosened(schema), separators=(",", ":")))


def _choice(value: Any, path: str) -> GrammarSpec:
    if type(value) is not list:
        raise wrong_type(path, "a list of strings", value)
    if not 1 <= len(value) <= MAX_CHOICES:
        raise InvalidRequest(f"'{path}' must have 1 to {MAX_CHOICES} entries; given: {len(value)}.", param=path)
    num_chars = 0
    for index, choice in enumerate(value):
        if type(choice) is not str:
            raise wrong_type(f"{path}[{index}]", "a string", choice)
        if not choice:
            raise InvalidRequest(f"'{path}[{index}]' must not be empty.", param=f"{path}[{index}]")
        num_chars += len(choice)
    if num_chars > MAX_CHOICES_BYTES:
        raise InvalidRequest(
            f"'{path}' must have at most {MAX_CHOICES_BYTES} characters in all; given: {num_chars}.", param=path
        )
    return GrammarSpec("choice", json.dumps(value))


def _too_large(path: str) -> InvalidRequest:
    return InvalidRequest(
        f"'{path}' must be at most {MAX_SCHEMA_BYTES} bytes of JSON and {MAX_SCHEMA_VALUES} values.", param=path
    )
