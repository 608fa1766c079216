"""Typed reading of what a file says of its model: key-values of a GGUF file, or a ``config.json``."""

from collections.abc import Mapping
from typing import Any

from genkan.errors import ModelFileError

MAX_LAYERS = 10_000
MAX_HEAD_DIM = 1 << 16
MAX_CONTEXT = 1 << 24  # tokens; a file that promises more is damaged


class Description:
    """Values by name; ModelFileError names what is missing or of another kind. An entry of null is one that is missing.

    ``prefix`` is put before each name.
    """

    def __init__(self, values: Mapping[str, Any], prefix: str = "") -> None:
        self._values, self._prefix = values, prefix

    def given(self, name: str) -> Any:
        """The value as it is, or None."""
        return self._values.get(self._prefix + name)

    def has(self, name: str) -> bool:
        """Whether there is an entry, be it null."""
        return self._prefix + name in self._values

    def must_be(self, name: str, *known: object) -> None:
        """Refuses a value that is none of ``known``, of which the first is meant where there is none."""
        value = self.given(name)
        if value is not None and value not in known:
            raise ModelFileError(
                f"the model's {self._prefix}{name} is {value!r}; the engine runs: {', '.join(map(str, known))}"
            )

    def count(self, name: str, *, default: int | None = None, most: int = (1 << 31) - 1) -> int:
        value = self._or(name, default)
        if type(value) is not int or not 0 < value <= most:
            raise ModelFileError(
                f"the model file must say {self._prefix}{name}, a number from 1 to {most}; it says: {value!r}"
            )
        return value

    def number(self, name: str, *, default: float | None = None) -> float:
        value = self._or(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e300:
            raise ModelFileError(f"the model file must say {self._prefix}{name}, a positive number; it says: {value!r}")
        return float(value)

    def flag(self, name: str, *, default: bool = False) -> bool:
        value = self._or(name, default)
        if not isinstance(value, bool):
            raise ModelFileError(f"the model file must say {self._prefix}{name}, true or false; it says: {value!r}")
        return value

    def part(self, name: str) -> "Description":
        """The values within a value; none where it is missing."""
        value = self._or(name, {})
        if not isinstance(value, Mapping):
            raise ModelFileError(f"the model's {self._prefix}{name} must be an object; it is: {value!r}")
        return Description(value)

    def __contains__(self, name: str) -> bool:
        return self.given(name) is not None

    def _or(self, name: str, default: object) -> Any:
        value = self.given(name)
        return default if value is None else value
