"""JSON schemas: which are honoured to the letter, and an error by name for all others.

llguidance compiles most of JSON Schema 2020-12 and refuses much of the rest, but it passes over what it does not know:
words it has never heard of, formats, integers beyond the precision of a double, and options of its own that a client
could put into a schema. So a schema is read here first, and only what has been shown to hold goes through. What was
shown: ``tests/unit/engine/grammar/test_json_schema.py``.

A number without bounds may be one that no double holds, 1e999: valid, and infinite to some readers. llguidance writes
numbers that have bounds without an exponent, so bounds of ours would forbid 6.02e23 as well.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import quote, unquote

Json = Any  # what json.loads gives
Pointer = str  # RFC 6901, '' for the root

MAX_DEPTH = 64  # of nesting, counted in JSON's brackets; llguidance's own parser ends at 128
MAX_MULTIPLE = 10_000  # the lexer has a state for each remainder: 30 ms at this, 5 GB and minutes at ten million
_EXACT_INTEGERS = 1 << 53  # llguidance reads numbers as doubles

_VALUES = frozenset({"const", "enum"})
_BOUNDS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})
_COUNTS = frozenset({"minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"})
_ONE_SCHEMA = frozenset({"items", "additionalItems", "additionalProperties"})
_LISTS_OF_SCHEMAS = frozenset({"anyOf", "oneOf", "allOf", "prefixItems", "items"})
_MAPS_OF_SCHEMAS = frozenset({"properties", "patternProperties", "$defs", "definitions"})
_OTHERS = frozenset({"type", "required", "pattern", "format", "$ref"})
HONOURED = _VALUES | _BOUNDS | _COUNTS | _ONE_SCHEMA | _LISTS_OF_SCHEMAS | _MAPS_OF_SCHEMAS | _OTHERS
#: Words that say nothing about which values are valid, by the specification or, for the last row, by their makers.
ANNOTATIONS = frozenset(
    {"$schema", "$id", "$comment", "title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"}
    | {"contentEncoding", "contentMediaType", "contentSchema", "strict", "example", "discriminator", "externalDocs"}
)
FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"})


class SchemaRefused(ValueError):
    """A schema that cannot be honoured; the text says where and why."""

    def __init__(self, pointer: Pointer, why: str) -> None:
        super().__init__(f"at '#{pointer}': {why}")


@dataclass(frozen=True, slots=True)
class Schema:
    """A schema that can be honoured. ``nodes`` are all the schemas in it by their pointers, outer ones first."""

    root: dict[str, Json]
    nodes: dict[Pointer, Json]


def parsed(text: str) -> Json:
    """The value that ``text`` is. Raises SchemaRefused: it is not JSON, or nested too deeply to be looked at."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise SchemaRefused("", f"it is nested more than {MAX_DEPTH} deep") from None
    except ValueError as error:
        raise SchemaRefused("", f"it is not JSON: {error}") from None


def checked(root: Json) -> Schema:
    """``root`` as a schema whose every word is honoured; its references are changed in place to how a URI is spelt.

    Raises SchemaRefused. Cost: some 10 µs for each schema in it.
    """
    if not isinstance(root, dict):
        raise SchemaRefused("", "a schema must be an object")
    _check_depth(root)
    nodes: dict[Pointer, Json] = {}
    waiting: list[tuple[Pointer, Json]] = [("", root)]
    while waiting:
        pointer, node = waiting.pop()
        nodes[pointer] = node
        if isinstance(node, dict):
            _check_words(pointer, node)
            _check_items(pointer, node)
            waiting.extend(children(pointer, node))
        elif not isinstance(node, bool):
            raise SchemaRefused(pointer, "a schema must be an object or a boolean")
    _check_references(nodes)
    _check_multiples(nodes)
    _check_zeros(nodes)
    return Schema(root, nodes)


def children(pointer: Pointer, node: dict[str, Json]) -> Iterator[tuple[Pointer, Json]]:
    """The schemas directly in ``node``, with their pointers."""
    for word, value in node.items():
        place = f"{pointer}/{escaped(word)}"
        if word in _MAPS_OF_SCHEMAS:
            yield from ((f"{place}/{escaped(name)}", schema) for name, schema in _mapping(place, value).items())
        elif word in _LISTS_OF_SCHEMAS and isinstance(value, list):
            yield from ((f"{place}/{index}", schema) for index, schema in enumerate(value))
        elif word in _ONE_SCHEMA:
            yield place, value
        elif word in _LISTS_OF_SCHEMAS:
            raise SchemaRefused(place, f"'{word}' must be a list of schemas")


def escaped(name: str) -> str:
    """``name`` as a step of a pointer."""
    return name.replace("~", "~0").replace("/", "~1")


def _no_constant(name: str) -> Json:
    raise ValueError(f"{name} is not a JSON value")


def _mapping(place: Pointer, value: Json) -> dict[str, Json]:
    if not isinstance(value, dict):
        raise SchemaRefused(place, "it must be an object of schemas")
    return value


def _check_depth(root: Json) -> None:
    level = [root]
    for _ in range(MAX_DEPTH):
        level = [inner for value in level for inner in _inner(value)]
        if not level:
            return
    raise SchemaRefused("", f"it is nested more than {MAX_DEPTH} deep")


def _inner(value: Json) -> list[Json]:
    values = value.values() if isinstance(value, dict) else value
    return [inner for inner in values if isinstance(inner, dict | list)]


def _check_words(pointer: Pointer, node: dict[str, Json]) -> None:
    for word, value in node.items():
        if word in _VALUES:
            _check_numbers(f"{pointer}/{word}", value)
        elif word in _BOUNDS:
            _check_bound(pointer, word, value)
        elif word in _COUNTS:
            _check_count(pointer, word, value)
        elif word == "format":
            _check_format(pointer, value)
        elif word in ("$id", "$schema") and pointer:
            raise SchemaRefused(pointer, f"'{word}' is supported at the root alone")
        elif word not in HONOURED | ANNOTATIONS and (not word.startswith("x-") or word == "x-guidance"):
            raise SchemaRefused(pointer, f"'{word}' is not supported")


def _check_numbers(place: Pointer, value: Json) -> None:
    if isinstance(value, bool | str) or value is None:
        return
    if isinstance(value, int | float):
        if abs(value) > _EXACT_INTEGERS:
            raise SchemaRefused(place, "numbers beyond ±2^53 are not supported")
        return
    for inner in value.values() if isinstance(value, dict) else value:
        _check_numbers(place, inner)


def _check_bound(pointer: Pointer, word: str, value: Json) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SchemaRefused(pointer, f"'{word}' must be a number")
    _check_numbers(f"{pointer}/{word}", value)


def _check_count(pointer: Pointer, word: str, value: Json) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _EXACT_INTEGERS:
        raise SchemaRefused(pointer, f"'{word}' must be an integer from 0 on")
    if word == "minProperties" and value > 1:  # a name may come twice where names are free
        raise SchemaRefused(pointer, "'minProperties' above 1 is not supported")


def _check_format(pointer: Pointer, value: Json) -> None:
    if value not in FORMATS:
        raise SchemaRefused(pointer, f"the format {json.dumps(value)[:80]} is not supported")


def _check_items(pointer: Pointer, node: dict[str, Json]) -> None:
    """The older form, ``items`` as a list with ``additionalItems``, or the newer with ``prefixItems``: not both."""
    is_older = isinstance(node.get("items"), list)
    if "additionalItems" in node and not is_older:
        raise SchemaRefused(pointer, "'additionalItems' is supported only where 'items' is a list")
    if "prefixItems" in node and is_older:
        raise SchemaRefused(pointer, "'prefixItems' is not supported where 'items' is a list")


def _check_references(nodes: dict[Pointer, Json]) -> None:
    """Every ``$ref`` leads to one of ``nodes``; it is spelt as a URI then, which llguidance insists on."""
    for pointer, node in nodes.items():
        if isinstance(node, dict) and "$ref" in node:
            place = target(node["$ref"])
            if place is None or place not in nodes:
                raise SchemaRefused(pointer, "'$ref' must point to a schema in this one, as '#/$defs/name' does")
            node["$ref"] = "#" + quote(place, safe="/~$")


def target(reference: Json) -> Pointer | None:
    """The pointer behind a ``$ref``, None for one that leads out of the schema or is none."""
    return unquote(reference[1:]) if isinstance(reference, str) and reference.startswith("#") else None


def _check_multiples(nodes: dict[Pointer, Json]) -> None:
    """All together, for where schemas meet, in ``allOf`` or behind a reference, the lexer counts up to a common one."""
    multiples = {
        Decimal(repr(node["multipleOf"])) for node in nodes.values() if isinstance(node, dict) and "multipleOf" in node
    }
    if not multiples:
        return
    if min(multiples) <= 0:
        raise SchemaRefused("", "'multipleOf' must be above 0")
    finest = min(0, *(int(multiple.normalize().as_tuple().exponent) for multiple in multiples))
    if math.lcm(*(int(multiple.scaleb(-finest)) for multiple in multiples)) > MAX_MULTIPLE:
        raise SchemaRefused("", f"'multipleOf' needs more than {MAX_MULTIPLE} remainders to be told apart")


def _check_zeros(nodes: dict[Pointer, Json]) -> None:
    """llguidance takes 0 for above 0 where the other bound is below 1, and likewise below; bounds may meet anywhere."""
    numbers = [node for node in nodes.values() if isinstance(node, dict) and node.get("type") != "integer"]
    excludes_zero = any(node.get(word) == 0 for node in numbers for word in ("exclusiveMinimum", "exclusiveMaximum"))
    if excludes_zero and any(
        0 < abs(node[word]) < 1 for node in numbers for word in _BOUNDS - {"multipleOf"} & node.keys()
    ):
        raise SchemaRefused("", "an exclusive bound of 0 is not supported together with bounds between -1 and 1")
