"""Files of labelled pairs of questions."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_COLUMNS = ("text_a", "text_b", "same")
_LABELS = {"1": True, "0": False, "true": True, "false": False}


class LabelledPair(NamedTuple):
    """Two questions, and whether one answer serves both."""

    one: str
    two: str
    same: bool


def read_pairs(path: Path) -> list[LabelledPair]:
    """The pairs of a file: CSV with the columns text_a, text_b, same if it is named so, else JSON lines with a, b and
    same or same_answer. Other columns and fields are ignored, empty lines too.

    ValueError: it has no pairs, or a line is none; with the number of the line. OSError: it cannot be read.
    """
    with path.open(encoding="utf-8-sig", newline="") as lines:
        read = _of_csv(lines) if path.suffix.lower() == ".csv" else _of_json(lines)
        pairs = list[LabelledPair]()
        try:
            pairs.extend(read)
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: not UTF-8, after {len(pairs)} pairs: {error.reason}") from None
        except ValueError as error:
            raise ValueError(f"{path}, {error}") from None
    if not pairs:
        raise ValueError(f"{path} has no pairs")
    return pairs


def _of_csv(lines: Iterator[str]) -> Iterator[LabelledPair]:
    reader = csv.DictReader(lines, strict=True)
    try:
        missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"line 1: no column {missing[0]}; a CSV file begins with {','.join(_COLUMNS)}")
        for row in reader:
            one, two, label = (row[name] for name in _COLUMNS)
            yield _pair(one, two, _LABELS.get((label or "").strip().lower()), reader.line_num)
    except csv.Error as error:
        raise ValueError(f"line {reader.reader.line_num}: {error}") from None


def _of_json(lines: Iterator[str]) -> Iterator[LabelledPair]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            raise ValueError(f"line {number}: not JSON") from None
        if not isinstance(found, dict):
            raise ValueError(f"line {number}: not a JSON object")
        yield _pair(found.get("a"), found.get("b"), found.get("same", found.get("same_answer")), number)


def _pair(one: object, two: object, same: object, line: int) -> LabelledPair:
    for text, name in ((one, "first"), (two, "second")):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"line {line}: no {name} text")
    if same not in (True, False):  # 1 and 0 are these as well
        raise ValueError(f"line {line}: whether they are the same must be 1 or 0, true or false")
    return LabelledPair(str(one), str(two), bool(same))
