"""An upstream's export of what it served, CSV or JSONL, read one record at a time. Pure."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

from genkan.gateway.money import read_usd
from genkan.gateway.reconciliation import Used

_DIGITS = 15  # of a number of tokens


@dataclass(frozen=True, slots=True)
class Columns:
    """What the upstream calls them. In JSONL a dot leads into an object: ``usage.prompt_tokens``."""

    request_id: str = "request_id"
    prompt_tokens: str = "prompt_tokens"
    completion_tokens: str = "completion_tokens"
    cost_usd: str | None = "cost_usd"  # None, or a column that is not there: cost is not compared


class Record(NamedTuple):
    """One request as the upstream has it."""

    request_id: str
    used: Used


def read_csv(lines: Iterable[str], columns: Columns) -> Iterator[Record | None]:
    """The records of a CSV file with a header; None for one that cannot be read.

    Raises ValueError if a column is missing, naming those that are there, and for what is not CSV.
    """
    reader = csv.DictReader(lines, strict=True)
    try:
        present = reader.fieldnames or ()
        for column in (columns.request_id, columns.prompt_tokens, columns.completion_tokens):
            if column not in present:
                raise ValueError(f"there is no column {column!r}; there are: {', '.join(present) or 'none'}")
        for cells in reader:
            yield _record(cells, columns)
    except csv.Error as error:
        raise ValueError(f"what comes after line {reader.line_num} is not CSV: {error}") from None


def read_jsonl(lines: Iterable[str], columns: Columns) -> Iterator[Record | None]:
    """The records of a file with one JSON object a line; None for one that cannot be read. Empty lines are skipped."""
    for line in lines:
        if line.strip():
            yield _parsed(line, columns)


def _parsed(line: str, columns: Columns) -> Record | None:
    try:
        fields = json.loads(line, parse_float=Decimal)
    except (ValueError, RecursionError):
        return None
    return _record(fields, columns) if type(fields) is dict else None


def _record(fields: Mapping[str, Any], columns: Columns) -> Record | None:
    try:
        name = _at(fields, columns.request_id)
        used = Used(
            _tokens(_at(fields, columns.prompt_tokens)),
            _tokens(_at(fields, columns.completion_tokens)),
            _cost(_at(fields, columns.cost_usd)) if columns.cost_usd else None,
        )
    except (TypeError, ValueError):
        return None
    return Record(name.strip() if isinstance(name, str) else "", used)


def _at(fields: Any, path: str) -> Any:
    if path in fields:
        return fields[path]
    for name in path.split("."):
        fields = fields.get(name) if isinstance(fields, Mapping) else None
    return fields


def _tokens(value: Any) -> int:
    digits = value.strip() if isinstance(value, str) else str(value) if type(value) is int else ""
    if not (digits.isascii() and digits.isdigit() and len(digits) <= _DIGITS):
        raise ValueError
    return int(digits)


def _cost(value: Any) -> int | None:
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if type(value) not in (str, int, Decimal):
        raise TypeError
    return read_usd(str(value))
