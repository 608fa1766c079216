"""Parts of a page that are made, and the rest that is not touched."""

import pytest

from genkan.bench import page

TEXT = "# Title\n<!-- begin: a -->\nold\n<!-- end: a -->\nBetween.\n<!-- begin: b -->\n<!-- end: b -->\n"


def test_a_part_is_replaced_and_nothing_else() -> None:
    made = page.filled(TEXT, "a", "| new \\1 |\n")
    assert made == TEXT.replace("old", "| new \\1 |")
    assert page.names(made) == ["a", "b"]


def test_filling_twice_changes_nothing() -> None:
    once = page.filled(TEXT, "b", "new")
    assert page.filled(once, "b", "new") == once
    assert page.filled(page.filled(once, "b", "newer"), "b", "new") == once


def test_a_part_without_a_place_is_an_error() -> None:
    for text in ("nothing", TEXT + TEXT):
        with pytest.raises(KeyError, match="a"):
            page.filled(text, "a", "x")
