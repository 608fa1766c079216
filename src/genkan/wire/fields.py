"""Reads typed fields out of a parsed JSON object, naming the exact path of what is wrong.

An absent field and a null one are the same: ``None``. Types are strict: ``true`` is no integer, ``1.0`` is no
integer, ``"1"`` is no number. Every refusal says what was expected and what was given.
"""

from collections.abc import Sequence
from typing import Any, Final

from genkan.errors import InvalidRequest

_NAMES_GIVEN: Final[dict[type, str]] = {
    dict: "an object",
    list: "a list",
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    type(None): "null",
}


class Fields:
    """A view of one JSON object at ``path`` ('' at the top)."""

    # Each request reads a dozen fields: its readers share no code that would cost a call.

    __slots__ = ("_path", "_values")

    def __init__(self, values: dict[str, Any], path: str = "") -> None:
        self._values = values
        self._path = path

    def path_of(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name

    def raw(self, name: str) -> Any:
        return self._values.get(name)

    def require(self, name: str) -> Any:
        """The value of a field that must be there; InvalidRequest when it is absent or null."""
        value = self._values.get(name)
        if value is None:
            raise self.missing(name)
        return value

    def missing(self, name: str) -> "MissingField":
        """The error for a field that must be there and is not."""
        path = self.path_of(name)
        return MissingField(f"Missing required parameter: '{path}'.", param=path)

    def string(self, name: str, *, max_chars: int | None = None) -> str | None:
        value = self._values.get(name)
        if value is None:
            return None
        if type(value) is not str:
            raise wrong_type(self.path_of(name), "a string", value)
        if max_chars is not None and len(value) > max_chars:
            raise self._refuse(name, f"must be at most {max_chars} characters; given: {len(value)}")
        return value

    def boolean(self, name: str) -> bool | None:
        value = self._values.get(name)
        if value is None or type(value) is bool:
            return value
        raise wrong_type(self.path_of(name), "a boolean", value)

    def object(self, name: str) -> "Fields | None":
        value = self._values.get(name)
        if value is None:
            return None
        if type(value) is not dict:
            raise wrong_type(self.path_of(name), "an object", value)
        return Fields(value, self.path_of(name))

    def list(self, name: str) -> list[Any] | None:
        value = self._values.get(name)
        if value is None or type(value) is list:
            return value
        raise wrong_type(self.path_of(name), "a list", value)

    def integer(self, name: str, *, low: int, high: int) -> int | None:
        """An integer in ``[low, high]``."""
        value = self._values.get(name)
        if value is None:
            return None
        if type(value) is not int:
            raise wrong_type(self.path_of(name), "an integer", value)
        if not low <= value <= high:
            raise self._refuse(name, f"must be an integer between {low} and {high}; given: {value}")
        return value

    def number(self, name: str, *, low: float, high: float, above_low: bool = False) -> float | None:
        """A finite number in ``[low, high]``, or in ``(low, high]`` with ``above_low``."""
        value = self._values.get(name)
        if value is None:
            return None
        if type(value) is not float and type(value) is not int:
            raise wrong_type(self.path_of(name), "a number", value)
        if not low <= value <= high or (above_low and value == low):
            bounds = f"greater than {low:g} and at most {high:g}" if above_low else f"between {low:g} and {high:g}"
            raise self._refuse(name, f"must be {bounds}; given: {value}")
        return float(value)

    def choice(self, name: str, allowed: Sequence[str]) -> str | None:
        value = self.string(name)
        if value is not None and value not in allowed:
            raise self._refuse(name, f"must be one of {', '.join(allowed)}; given: '{value[:100]}'")
        return value

    def only(self, allowed: frozenset[str]) -> None:
        """Refuse any key that is not in ``allowed``."""
        for name in self._values:
            if name not in allowed:
                raise self._refuse(name, f"is not known here; allowed: {', '.join(sorted(allowed))}")

    def _refuse(self, name: str, problem: str) -> InvalidRequest:
        path = self.path_of(name)
        return InvalidRequest(f"'{path[:200]}' {problem}.", param=path[:200])


class MissingField(InvalidRequest):
    """A field that must be there is not."""

    code = "missing_required_parameter"


class WrongType(InvalidRequest):
    """A field has another JSON type than it must have."""

    code = "invalid_type"


def wrong_type(path: str, expected: str, value: Any) -> WrongType:
    """The error for ``value`` at ``path`` where ``expected`` was."""
    given = _NAMES_GIVEN.get(type(value), "something else")
    path = path[:200]
    return WrongType(f"Invalid type for '{path}': expected {expected}, but got {given} instead.", param=path)
