"""Tables, plots and the JSON that is the last line."""

import json
from pathlib import Path

import pytest

from genkan.bench import report

GROUPS: report.Groups = {"1": {"genkan": 41.234, "other": None}, "32": {"genkan": 1234.5, "other": 99.99}}


def test_a_table_has_a_row_a_group_and_a_column_an_arm() -> None:
    assert report.table("Decode", GROUPS).splitlines() == [
        "Decode",
        "    genkan  other",
        " 1    41.2      -",
        "32   1,234    100",
    ]


def test_an_arm_that_only_a_later_group_has_gets_a_column() -> None:
    assert report.table("", {"a": {"x": 1.0}, "b": {"y": 2.0}}).splitlines()[1:] == ["   x  y", "a  1  -", "b  -  2"]


def test_the_result_is_the_last_line_and_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = {"decode": {"1": {"genkan": 41.23456, "transformers_cb": None}}, "requests": 200}
    report.finish(tmp_path / "new", "engine", result)
    last = capsys.readouterr().out.splitlines()[-1]
    assert json.loads(last) == {"decode": {"1": {"genkan": 41.23, "transformers_cb": None}}, "requests": 200}
    assert (tmp_path / "new" / "engine.json").read_text() == last + "\n"


def test_plots_are_drawn_where_matplotlib_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    paths = tmp_path / "new" / "bars.png", tmp_path / "shares.png", tmp_path / "points.png"
    report.bars(paths[0], "Decode", "tokens/s", GROUPS)
    report.shares(paths[1], "Gaps", "ms", {"chunked": [1.0, 2.0, 30.0], "whole": [1.0, 900.0]})
    report.points(paths[2], "Latency", "ms", {"all": [(0.0, 1.0), (1.5, 3.0)]})
    assert capsys.readouterr().out.splitlines() == [f"plot: {path}" for path in paths]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_without_matplotlib_a_line_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "find_spec", lambda _: None)
    report.bars(tmp_path / "bars.png", "Decode", "tokens/s", GROUPS)
    report.shares(tmp_path / "shares.png", "Gaps", "ms", {"chunked": [1.0]})
    report.points(tmp_path / "points.png", "Latency", "ms", {"all": [(0.0, 1.0)]})
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out.count("matplotlib is not installed") == 3


def test_a_result_may_be_for_stdout_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report.finish(None, "bench", {"faults": [0.123456, "late"]})
    assert json.loads(capsys.readouterr().out) == {"faults": [0.1235, "late"]}
