"""The file of a score: what ``genkan cache calibrate`` writes and ``cache.score`` names."""

import json
from collections.abc import Mapping
from pathlib import Path

from genkan.cache.score import Score

_FORMAT = 1


def score_text(score: Score, fitted_on: Mapping[str, object]) -> str:
    """What the file holds: the score, and for people what it was fitted on."""
    content = {"format": _FORMAT, **score.as_dict(), "fitted": dict(fitted_on)}
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def read_score(path: Path) -> Score:
    """The score of a file. ValueError: it is none, or one of another version of genkan. OSError: it cannot be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise ValueError(f"not a score of format {_FORMAT}; calibrate again")
        return Score.from_dict(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {error}") from None
