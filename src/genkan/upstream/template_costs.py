"""What each operator, method and filter of a template costs, reckoned before it is done.

What is not named here costs a walk through its operands.
"""

import re
from collections.abc import Iterable, Mapping
from types import GeneratorType
from typing import Any

from genkan.upstream.template_meter import Meter, Overworked

_SORTING = 15  # walks that sorting is worth, beside the one that everything costs
_MAX_ARGUMENT_CHARS = 256  # of an attribute's path, a set of characters to strip and the like
_MAX_INDENT = 64
_MAX_DIGITS = 20
_FORMATTED_CHARS = 400  # of a number at its longest, with a width of two digits

_CONSTANT = frozenset(["attr", "count", "d", "default", "first", "items", "last", "length"])
_LAZY = frozenset(["list", "map", "reject", "rejectattr", "reverse", "select", "selectattr"])
_SORTERS = frozenset(["dictsort", "groupby", "max", "min", "sort", "unique"])
_LONG_ARGUMENTS = frozenset(["d", "default", "format", "join", "replace"])
_STRIPS = frozenset(["lstrip", "rstrip", "strip"])

_WIDE_PERCENT = re.compile(r"%(?:\([^)]*\))?[^a-zA-Z%]*(?:\*|\d{3})")
_WIDE_BRACES = re.compile(r"\{[^{}]*:[^{}]*(?:\{|\d{3})")


class Costs:
    """Pays from ``meter``. Every method raises Overworked where that does not suffice."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def operate(self, operator: str, left: Any, right: Any) -> None:
        """Pay for a binary operator."""
        if operator == "%" and isinstance(left, str):
            self.format_percent(left, right)
        elif operator == "*" and not isinstance(left, int | float):
            self._repeat(left, right)
        elif operator == "*" and not isinstance(right, int | float):
            self._repeat(right, left)
        elif isinstance(left, int) and isinstance(right, int):
            self._meter.make_number(_bits(operator, left, right))
        elif isinstance(left, str) and isinstance(right, str):
            self._meter.make_text(len(left) + len(right))
        elif isinstance(left, list | tuple) and isinstance(right, list | tuple):
            self._meter.make_items(len(left) + len(right))

    def call_method(self, owner: Any, name: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Pay for a method of a text or a container; the arguments to call it with, generators made lists."""
        if name == "join":
            args = (self._listed(args[0]), *args[1:]) if args else args
            self.join(owner, *args[:1])
            return args
        for value in args:
            self._meter.walk(value)
        if name in ("count", "index"):
            self._meter.walk(owner)
        else:
            self._meter.skim(owner)
        if isinstance(owner, str):
            if name == "replace":
                self.replace(owner, *args[:2])
            elif name in _STRIPS:
                self._check_short(args)
        return args

    def call_filter(self, name: str, value: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Pay for a filter; the value to give it, a generator that must be gone through made a list."""
        given = (*args, *kwargs.values())
        for argument in given:
            self._meter.walk(argument)
        if name not in _LONG_ARGUMENTS:
            self._check_short(given)
        if name in _CONSTANT:
            return value
        if name in _LAZY:
            self._meter.pass_over(value)
            return value
        value = self._listed(value) if isinstance(value, GeneratorType) else value
        before = self._meter.left
        chars = self._meter.walk(value)
        if name in _SORTERS:
            self._meter.spend(_SORTING * (before - self._meter.left))
        self._filter_by_name(name, value, chars, args, kwargs)
        return value

    def _filter_by_name(
        self, name: str, value: Any, chars: int, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        if name == "join":
            self.join(kwargs.get("d", args[0] if args else ""), value)
        elif name == "replace":
            named = [kwargs[name] for name in ("old", "new")[len(args) :] if name in kwargs]
            self.replace(str(value), *map(str, [*args, *named][:2]))
        elif name == "format":
            self.format_percent(str(value), args or kwargs)
        elif name == "indent":
            self._indent(str(value), kwargs.get("width", args[0] if args else 4))
        elif name == "round":
            _check_number(kwargs.get("precision", args[0] if args else 0), _MAX_DIGITS)
        else:
            self._meter.make_text(chars)

    def join(self, between: Any, parts: Any = ()) -> None:
        """Pay for putting ``parts`` together with ``between``."""
        count = len(parts) if hasattr(parts, "__len__") else 0
        self._meter.make_text(self._meter.walk(parts) + count * self._meter.walk(between))

    def replace(self, text: str, old: Any = None, new: Any = None) -> None:
        """Pay for ``text`` with every ``old`` made ``new``."""
        if isinstance(old, str) and isinstance(new, str):
            self._meter.make_text(len(text) + text.count(old) * max(0, len(new) - len(old)))

    def format_percent(self, form: str, args: Any) -> None:
        """Pay for ``form % args``."""
        if _WIDE_PERCENT.search(form):
            raise Overworked("it formats to too wide a field")
        self._format(form, "%", args)

    def format_braces(self, form: str, args: Any) -> None:
        """Pay for ``form.format(...)``."""
        if _WIDE_BRACES.search(form):
            raise Overworked("it formats to too wide a field")
        self._format(form, "{", args)

    def _format(self, form: str, mark: str, args: Any) -> None:
        fields = form.count(mark)
        self._meter.make_text(len(form) + fields * (_FORMATTED_CHARS + self._meter.walk(args)))

    def check_json(self, indent: Any, separators: Any) -> None:
        """Bound what JSON is written with."""
        for each in (indent, *(separators or ())):
            if isinstance(each, str):
                self._check_short((each,))
            elif each is not None:
                _check_number(each, _MAX_INDENT)

    def _repeat(self, sequence: Any, times: Any) -> None:
        count = len(sequence) * times if isinstance(times, int) and isinstance(sequence, str | list | tuple) else 0
        self._meter.make_text(count) if isinstance(sequence, str) else self._meter.make_items(count)

    def _indent(self, text: str, width: Any) -> None:
        if isinstance(width, str):
            self._check_short((width,))
        else:
            _check_number(width, _MAX_INDENT)
        each = len(width) if isinstance(width, str) else int(width)
        self._meter.make_text(len(text) + (1 + len(text.splitlines())) * each)

    def _listed(self, values: Iterable[Any]) -> Any:
        self._meter.skim(values)
        return list(values) if isinstance(values, GeneratorType) else values

    def _check_short(self, values: Iterable[Any]) -> None:
        if any(isinstance(value, str) and len(value) > _MAX_ARGUMENT_CHARS for value in values):
            raise Overworked("it gives too long an argument")


def _check_number(value: Any, most: int) -> None:
    if not isinstance(value, int) or abs(value) > most:
        raise Overworked(f"it gives a number that is not from {-most} to {most}")


def _bits(operator: str, left: int, right: int) -> int:
    if operator == "**":
        return left.bit_length() * max(right, 0)
    if operator == "*":
        return left.bit_length() + right.bit_length()
    return max(left.bit_length(), right.bit_length()) + 1
