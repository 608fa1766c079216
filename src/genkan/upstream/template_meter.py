"""What a template may cost: a budget of work that its every step is paid from, and a bound on what it may make.

Work is counted in units of a node of the template, about a tenth of a microsecond. Sixteen characters that are copied
or searched cost one; an item of a list costs one where C runs along it and eight where Python does. Nothing here looks
at a clock, so a template is refused on a busy machine exactly where it is on an idle one.
"""

from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from typing import Any, NamedTuple

from jinja2 import TemplateRuntimeError

_BASE_UNITS, _UNITS_PER_ITEM, _UNITS_PER_CHAR = 1_000_000, 1_000, 4
_BASE_CHARS, _CHARS_PER_CHAR = 1 << 20, 8
_CHARS_PER_UNIT = 16
_WALK_UNITS = 8  # of one item of a container, or one pass of a filter over it
_MAX_BITS = 256
_CHARS_OF_OTHERS = 24  # of a number, or whatever else is no text and holds nothing
_CONTAINERS = (list, tuple, dict, KeysView, ValuesView, ItemsView)
_SIZED = (*_CONTAINERS, range)


class Overworked(TemplateRuntimeError):
    """The template does more than it may."""


class Size(NamedTuple):
    """How much there is to a value: its items at every depth, and the characters of its texts."""

    items: int
    chars: int


class Meter:
    """The budget of one rendering at a time. Every method raises Overworked when what it checks is beyond bounds.

    ``max_chars`` is the longest text that may be made.
    """

    def __init__(self) -> None:
        self.allow(Size(0, 0))

    def allow(self, given: Size) -> None:
        """Begin anew, with a budget for a template that is given so much.

        The base is worth about half a second, and some hundred times what the longest known templates need.
        """
        self.left = _BASE_UNITS + _UNITS_PER_ITEM * given.items + _UNITS_PER_CHAR * given.chars
        self.max_chars = _BASE_CHARS + _CHARS_PER_CHAR * given.chars

    def spend(self, units: int) -> None:
        """Pay for work that is about to be done."""
        self.left -= units
        if self.left < 0:
            raise Overworked("it does too much work")

    def make_text(self, chars: int) -> None:
        """Pay for a text that is about to be made."""
        if chars > self.max_chars:
            raise Overworked("it makes too long a text")
        self.spend(1 + chars // _CHARS_PER_UNIT)

    def pass_over(self, value: Any) -> None:
        """Pay for doing something with each item of ``value``, if it is known how many they are."""
        if isinstance(value, _SIZED):
            self.spend(2 * _WALK_UNITS * len(value))

    def make_items(self, count: int) -> None:
        """Pay for a list that is about to be made."""
        self.make_text(8 * count)  # a reference takes eight bytes

    def make_number(self, bits: int) -> None:
        """Bound a whole number that is about to be made."""
        if bits > _MAX_BITS:
            raise Overworked("it makes too large a number")

    def skim(self, value: Any) -> None:
        """Pay for a walk along ``value`` that goes into none of its items."""
        if isinstance(value, str):
            self.spend(1 + len(value) // _CHARS_PER_UNIT)
        elif isinstance(value, _SIZED):
            self.spend(1 + len(value))

    def walk(self, value: Any) -> int:
        """Pay for a walk through all of ``value``, however deep; the characters that it takes to write it out.

        A value may hold another many times over, so that a short list is long when it is written or compared.
        """
        if isinstance(value, str):
            self.skim(value)
            return len(value)
        chars = 0
        for length in _lengths(value):
            chars += 4 + length
            self.spend(_WALK_UNITS + length // _CHARS_PER_UNIT)
            if chars > self.max_chars:
                raise Overworked("it makes too long a text")
        return chars


def size_of(value: Any) -> Size:
    """How much there is to a value of JSON's kinds."""
    items = chars = 0
    for length in _lengths(value):
        items, chars = items + 1, chars + length
    return Size(items, chars)


def _lengths(value: Any) -> Iterator[int]:
    """The characters of ``value``, of each value in it, and so on. Needs no stack, so depth costs nothing."""
    left = [iter((value,))]
    while left:
        for item in left[-1]:
            if isinstance(item, str):
                yield len(item)
            elif isinstance(item, _CONTAINERS):
                yield 0
                left.append(_items(item))
                break
            else:
                yield item.bit_length() // 3 if isinstance(item, int) else _CHARS_OF_OTHERS
        else:
            left.pop()


def _items(container: Any) -> Iterator[Any]:
    if isinstance(container, dict):
        return (part for pair in container.items() for part in pair)
    return iter(container)
