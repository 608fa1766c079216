"""Which soaks are run, and what is told of them."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from genkan.bench import soak
from genkan.bench.bars import Bar, Soaked
from genkan.bench.cores import Cores


def done(name: str, value: float) -> soak.Soak:
    return lambda cores, size: Soaked(name, [Bar("figure", value, "≤", 10, "MB")], {"requests": size.requests})


@pytest.fixture(autouse=True)
def soaks(monkeypatch: pytest.MonkeyPatch) -> None:
    made = {"memory": done("memory", 3), "overload-cpu": done("one", 9), "overload-upstream": done("other", 11)}
    monkeypatch.setattr(soak, "SOAKS", made)
    monkeypatch.setattr(soak, "divide", lambda: Cores(frozenset({0}), frozenset({0})))


def run(tmp_path: Path, *arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(soak.main, ["--out", str(tmp_path), *arguments])
    return result.exit_code, result.stdout


def test_all_of_them_by_default_and_the_last_line_is_json(tmp_path: Path) -> None:
    code, text = run(tmp_path)
    assert code == 1
    assert "MISSED" in text
    assert {name: figures["is_met"] for name, figures in json.loads(text.splitlines()[-1]).items()} == {
        "memory": True, "one": True, "other": False,
    }  # fmt: skip


def test_only_what_is_named(tmp_path: Path) -> None:
    code, text = run(tmp_path, "--only", "memory", "--only", "overload-c", "--requests", "2000")
    assert code == 0
    assert json.loads(text.splitlines()[-1])["memory"]["requests"] == 2000
    assert "MISSED" not in text


def test_a_name_that_is_none(tmp_path: Path) -> None:
    code, _ = run(tmp_path, "--only", "nothing")
    assert code == 2


@pytest.mark.parametrize(
    ("value", "sense", "met"), [(10, "≤", True), (10.1, "≤", False), (10, "≥", True), (9, "≥", False)]
)
def test_a_bar_is_met_or_not(value: float, sense: str, met: bool) -> None:
    assert Bar("figure", value, sense, 10).is_met is met  # type: ignore[arg-type]
