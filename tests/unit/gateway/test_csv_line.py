"""Lines of CSV."""

import csv

import pytest

from genkan.gateway.csv_line import csv_line


def test_quotes_what_would_break_a_line() -> None:
    cells = ["a,b", 'a"b', "a\nb", "ü", ""]
    assert next(csv.reader(csv_line(cells).decode().splitlines(keepends=True))) == cells


def test_numbers_and_nothing() -> None:
    assert csv_line([1, None, 0]) == b"1,,0\n"


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_no_cell_is_a_formula(begin: str) -> None:
    cell = f'{begin}HYPERLINK("http://evil.example")'
    assert next(csv.reader(csv_line([cell]).decode().splitlines(keepends=True))) == [f"'{cell}"]
