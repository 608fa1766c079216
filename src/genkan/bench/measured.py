"""What benchmarks measured, kept with how and on what: a file each in ``docs/measured``."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Measurement:
    """A benchmark's result, the command that gave it, and the machine as `machine.py` tells of it."""

    command: str
    machine: Mapping[str, str]
    result: Mapping[str, Any]


def read(folder: Path) -> dict[str, Measurement]:
    """Every measurement in ``folder``, by name. Raises ValueError for a file that is none."""
    return {path.stem: _read(path) for path in sorted(folder.glob("*.json"))}


def write(folder: Path, name: str, measurement: Measurement) -> None:
    """Keep it in place of the last one of that name."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(asdict(measurement), indent=1, ensure_ascii=False)
    (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def taken_from(path: Path, machine: Mapping[str, str]) -> Measurement:
    """The result that a benchmark left at ``path``, of the day it was written and of a commit nobody knows.

    Raises ValueError when it is no JSON object.
    """
    day = datetime.fromtimestamp(path.stat().st_mtime, UTC).date().isoformat()
    about = {**machine, "date": day, "commit": "unknown", "load": "unknown"}
    return Measurement(f"make bench-{path.stem}", about, _object(path))


def _read(path: Path) -> Measurement:
    found = _object(path)
    try:
        return Measurement(found["command"], found["machine"], found["result"])
    except KeyError as error:
        raise ValueError(f"{path}: {error} is missing") from None


def _object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: no JSON object")
    return found
