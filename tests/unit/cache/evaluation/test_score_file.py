"""The file of a score."""

import json
from pathlib import Path

import pytest

from genkan.cache.calibrated import MULTILINGUAL_E5_SMALL
from genkan.cache.evaluation.score_file import read_score, score_text


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "score.json"
    path.write_text(score_text(MULTILINGUAL_E5_SMALL, {"pairs": {"en": 5000}, "files": ["câu.csv"]}), encoding="utf-8")
    assert read_score(path) == MULTILINGUAL_E5_SMALL
    assert json.loads(path.read_text(encoding="utf-8"))["fitted"]["files"] == ["câu.csv"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "Expecting value"),
        ("[]", "not a score of format 1"),
        ('{"format": 2}', "not a score of format 1"),
        (json.dumps(MULTILINGUAL_E5_SMALL.as_dict()), "not a score of format 1"),
        ('{"format": 1, "weights": {"cosine": 1.0}}', "other features"),
        ("[" * 100_000, "score.json"),
    ],
)
def test_what_is_no_score_is_told_with_the_name_of_the_file(tmp_path: Path, content: str, problem: str) -> None:
    path = tmp_path / "score.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=problem) as caught:
        read_score(path)
    assert str(path) in str(caught.value)
