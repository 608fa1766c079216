"""CSV that spreadsheets take for data and nothing else."""

import csv
import io
from collections.abc import Iterable

#: A cell that begins with one of these is a formula to spreadsheets. Source: OWASP, "CSV injection".
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def csv_line(cells: Iterable[str | int | None]) -> bytes:
    """One line with its line feed; None is an empty cell. Text that could be a formula gets an apostrophe before it."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow([_harmless(cell) for cell in cells])
    return line.getvalue().encode()


def _harmless(cell: str | int | None) -> str | int | None:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell
