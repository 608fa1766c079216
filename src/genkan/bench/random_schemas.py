"""Random JSON schemas of the kinds that people send, for what must hold for all of them."""

import random
from typing import Any

_WORDS = [
    "name",
    "Tên",
    "이름",
    "tags",
    "café",
    "a b",
    'q"t',
    "x",
    "địa chỉ",
    "주소",
    "n_1",
    "value",
    "日付",
    "🙂",
    "ok",
]
_VALUES = [
    "red",
    "xanh",
    "Hà Nội",
    "서울",
    "Đà Nẵng",
    "부산",
    "a\nb",
    'say "hi"',
    "🙂👍",
    "",
    "0",
    "long choice of words",
]
_DEFINED = "#/$defs/"


class RandomSchemas:
    """Schemas by a seed: nested no more than ``depth`` deep, their strings bounded and no property left to chance."""

    def __init__(self, seed: int, depth: int = 5) -> None:
        self._random = random.Random(seed)  # noqa: S311 - to be repeatable
        self._depth = depth

    def schema(self) -> dict[str, Any]:
        """One with a few definitions, of which some refer to themselves or to each other."""
        names = self._random.sample(["node", "item", "địa_chỉ"], self._random.randint(0, 2))
        root = self._object(self._depth - 1, names) if self._random.random() < 0.8 else self._any(self._depth, names)
        if names:
            root["$defs"] = {name: self._definition(names) for name in names}
        return root

    def _definition(self, names: list[str]) -> dict[str, Any]:
        schema = self._object(1, names)
        if self._random.random() < 0.6:  # recursive, with a way out
            again = {"$ref": _DEFINED + self._random.choice(names)}
            schema["properties"]["next"] = self._random.choice(
                [{"anyOf": [{"type": "null"}, again]}, {"type": "array", "items": again, "maxItems": 2}]
            )
        return schema

    def _any(self, depth: int, names: list[str]) -> dict[str, Any]:
        kinds = [self._string, self._enum, self._const, self._integer, self._number, self._plain]
        if depth > 1:
            inner = self._random.choice([self._object, self._object, self._array, self._any_of])
            kinds += 4 * [lambda: inner(depth - 1, names)]
        if names and depth < self._depth - 1:
            kinds.append(lambda: {"$ref": _DEFINED + self._random.choice(names)})
        return self._random.choice(kinds)()

    def _object(self, depth: int, names: list[str]) -> dict[str, Any]:
        properties = self._random.sample(_WORDS, self._random.randint(1, 4))
        required = [name for name in properties if self._random.random() < 0.6]
        return {
            "type": "object",
            "properties": {name: self._any(depth, [] if name in required else names) for name in properties},
            "required": required,
            "additionalProperties": False,
        }

    def _array(self, depth: int, names: list[str]) -> dict[str, Any]:
        least = self._random.randint(0, 2)
        schema: dict[str, Any] = {"type": "array", "minItems": least, "maxItems": least + self._random.randint(0, 3)}
        return schema | {"items": self._any(depth, [] if least else names)}

    def _any_of(self, depth: int, names: list[str]) -> dict[str, Any]:
        return {"anyOf": [self._any(depth, names) for _ in range(self._random.randint(2, 3))]}

    def _string(self) -> dict[str, Any]:
        least = self._random.choice([0, 0, 1, 5])
        schema: dict[str, Any] = {"type": "string", "maxLength": least + self._random.randint(0, 20)}
        if least:
            schema["minLength"] = least
        if self._random.random() < 0.15:
            return {
                "type": "string",
                "pattern": self._random.choice(["^[A-Z]{2}-[0-9]{3,5}$", "^(xin|chào)+$", "^[가-힣]{1,6}$"]),
            }
        return schema

    def _enum(self) -> dict[str, Any]:
        values: list[Any] = self._random.sample(_VALUES, self._random.randint(1, 5))
        if self._random.random() < 0.3:
            values += [None, 7, -2.5, True, {"k": ["서울", 1]}]
        return {"enum": values}

    def _const(self) -> dict[str, Any]:
        return {"const": self._random.choice([*_VALUES, 42, 1.5, None, False, ["Huế", {}], {"a": {"b": 1}}])}

    def _integer(self) -> dict[str, Any]:
        low = self._random.randint(-1000, 1000)
        choices: list[dict[str, Any]] = [
            {"minimum": low, "maximum": low + self._random.randint(0, 5000)},
            {"exclusiveMinimum": low},
            {"maximum": low},
            {"minimum": 0, "maximum": 1000, "multipleOf": self._random.randint(1, 12)},
        ]
        return {"type": "integer"} | self._random.choice(choices)

    def _number(self) -> dict[str, Any]:
        low = round(self._random.uniform(-100, 100), 2)
        high = round(low + self._random.uniform(0.01, 1000), 2)
        choices: list[dict[str, Any]] = [{}, {"minimum": low, "maximum": high}, {"exclusiveMinimum": low}]
        return {"type": "number"} | self._random.choice(choices)

    def _plain(self) -> dict[str, Any]:
        return {"type": self._random.choice(["boolean", "null", ["boolean", "null"], ["integer", "null"]])}
