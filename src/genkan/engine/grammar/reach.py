"""How far from its end an answer can be, so that it is known when to look.

The figures are in tokens, and estimates on the safe side: what they decide is how often the way to the end is looked
up, never what is valid.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from genkan.engine.grammar.json_schema import Json, Pointer, Schema, SchemaRefused, children, escaped, target

_INFINITE = 1 << 30
_MAX_ROUNDS = 8  # values flow one reference further in each; what takes more is taken as without limit
_FAR = 1 << 20
_BRACKETS = 2
_LETTERS = 4  # in a token that fills a string
_SHAPED = 16  # tokens of a string that must match a pattern


@dataclass(frozen=True, slots=True)
class Reach:
    """``least`` tokens take an answer from its beginning to its end. ``step`` is the most that a choice adds to that:
    an optional property, one more item, the longer of two ways to put it. ``most`` is the farthest that any answer may
    be from its end; None where there is no limit, as in a list of lists of lists.

    ``by_marks``: only what comes with one of JSON's marks is a choice, so that the text of a string costs nothing.
    """

    least: int
    step: int
    most: int | None
    by_marks: bool = False


def reach_of(schema: Schema, tokens_of: Callable[[str], int]) -> Reach:
    """The reach of ``schema``; ``tokens_of`` counts the tokens of a text.

    Raises SchemaRefused where no finite value is valid, as where an object requires one like itself.
    """
    least, settled = _settled(schema, lambda pointer, node, known: _least(pointer, node, known, tokens_of))
    if settled and least[""] >= _INFINITE:
        raise SchemaRefused("", "no finite value satisfies it")
    deepest, ends = _settled(schema, lambda pointer, node, known: _deepest(pointer, node, known, least))
    step = _BRACKETS + max(_added(pointer, node, least, tokens_of) for pointer, node in schema.nodes.items())
    is_finite = ends and deepest[""] < _INFINITE
    first = min(least[""] + least[""] // 2 + _BRACKETS, _FAR)
    return Reach(first, step, max(first, deepest[""]) + step if is_finite else None, by_marks=True)


_Known = dict[Pointer, int]


def _settled(schema: Schema, cost: Callable[[Pointer, Json, _Known], int]) -> tuple[_Known, bool]:
    """The cost of each node, from those of the nodes it refers to; and whether it came to rest."""
    known: _Known = {}
    inner_first = list(reversed(schema.nodes.items()))
    for _ in range(_MAX_ROUNDS):
        changed = False
        for pointer, node in inner_first:
            now = min(cost(pointer, node, known), _INFINITE)
            changed |= known.get(pointer) != now
            known[pointer] = now
        if not changed:
            return known, True
    return known, False


def _names(node: dict[str, Json]) -> list[str]:
    properties = node.get("properties")
    return list(properties) if isinstance(properties, dict) else []


def _least(pointer: Pointer, node: Json, known: _Known, tokens_of: Callable[[str], int]) -> int:
    """Tokens of the shortest valid value, where words beside each other add up."""
    if isinstance(node, bool):
        return 1 if node else _INFINITE
    if "const" in node:
        return tokens_of(_compact(node["const"]))
    if isinstance(node.get("enum"), list):
        return min((tokens_of(_compact(value)) for value in node["enum"]), default=_INFINITE)
    cost = 0
    for word in ("anyOf", "oneOf"):
        if isinstance(node.get(word), list):
            places = [f"{pointer}/{word}/{index}" for index in range(len(node[word]))]
            cost += min((known.get(place, _INFINITE) for place in places), default=_INFINITE)
    if isinstance(node.get("allOf"), list):
        cost += sum(known.get(f"{pointer}/allOf/{index}", _INFINITE) for index in range(len(node["allOf"])))
    if "$ref" in node:
        cost += known.get(target(node["$ref"]) or "", _INFINITE)
    return cost + _least_of_types(pointer, node, known, tokens_of)


def _least_of_types(pointer: Pointer, node: dict[str, Json], known: _Known, tokens_of: Callable[[str], int]) -> int:
    types = node.get("type", [])
    types = types if isinstance(types, list) else [types]
    costs = [
        _least_object(pointer, node, known, tokens_of)
        if each == "object"
        else _least_array(pointer, node, known)
        if each == "array"
        else _least_scalar(each, node)
        for each in types
    ]
    return min(costs, default=_least_object(pointer, node, known, tokens_of) if "required" in node else 1)


def _least_scalar(kind: Any, node: dict[str, Json]) -> int:
    if kind == "string":
        shaped = _SHAPED if "pattern" in node or "format" in node else 0
        return min(_BRACKETS + int(node.get("minLength", 0)) // _LETTERS + shaped, _INFINITE)
    bounds = [node[word] for word in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum") if word in node]
    return max((len(_compact(bound)) for bound in bounds), default=1)


def _least_array(pointer: Pointer, node: dict[str, Json], known: _Known) -> int:
    cost, count = _BRACKETS, int(node.get("minItems", 0))
    word = "prefixItems" if "prefixItems" in node else "items" if isinstance(node.get("items"), list) else None
    first = len(node[word]) if word else 0
    for index in range(min(count, first)):
        cost += 1 + known.get(f"{pointer}/{word}/{index}", _INFINITE)
    others = "additionalItems" if word == "items" else "items"
    return min(cost + max(0, count - first) * (1 + known.get(f"{pointer}/{others}", 1)), _INFINITE)


def _least_object(pointer: Pointer, node: dict[str, Json], known: _Known, tokens_of: Callable[[str], int]) -> int:
    cost = _BRACKETS
    required = node.get("required", [])
    for name in required if isinstance(required, list) else []:
        if name in _names(node):
            value = known.get(f"{pointer}/properties/{escaped(name)}", _INFINITE)
        else:
            value = 1 if "patternProperties" in node else known.get(f"{pointer}/additionalProperties", 1)
        cost += 1 + tokens_of(_compact(name)) + value
    return cost


def _deepest(pointer: Pointer, node: Json, known: _Known, least: _Known) -> int:
    """The farthest from the end that one can be in a value: what it takes itself, and what the deepest in it takes."""
    if isinstance(node, bool):
        return _INFINITE if node else 0
    defined = (f"{pointer}/$defs/", f"{pointer}/definitions/")
    places = [place for place, _ in children(pointer, node) if not place.startswith(defined)]
    if "$ref" in node:
        places.append(target(node["$ref"]) or "")
    inner = max((known.get(place, 0) for place in places), default=0)
    return min(least[pointer], _INFINITE) + inner if not _is_open(node) else _INFINITE


def _added(pointer: Pointer, node: Json, least: _Known, tokens_of: Callable[[str], int]) -> int:
    """The most that one choice in ``node`` itself may add to its shortest value."""
    if isinstance(node, bool):
        return 1
    added = [_SHAPED if node.keys() & {"pattern", "format"} else 1]
    required = node.get("required", [])
    added += [
        1 + tokens_of(_compact(name)) + least[f"{pointer}/properties/{escaped(name)}"]
        for name in _names(node)
        if name not in required
    ]
    counted = (f"{pointer}/properties/", f"{pointer}/$defs/", f"{pointer}/definitions/")
    added += [1 + least[place] for place, _ in children(pointer, node) if not place.startswith(counted)]
    if isinstance(node.get("enum"), list):
        added += [tokens_of(_compact(value)) for value in node["enum"]]
    return max(each for each in added if each < _INFINITE)


def _is_open(node: dict[str, Json]) -> bool:
    """Whether it has room for any value, of any depth."""
    if node.keys() & {"const", "enum", "$ref", "anyOf", "oneOf", "allOf"}:
        return False
    types = node.get("type", ["object", "array"])
    types = types if isinstance(types, list) else [types]
    return ("object" in types and "additionalProperties" not in node) or (
        "array" in types and "items" not in node and "prefixItems" not in node
    )


def _compact(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
