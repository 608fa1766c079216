"""The support desk's benchmark."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from word_vectors import word_vectors

from genkan.bench.support_desk import main, told
from genkan.cache.evaluation.workload import Outcome, Phrasing, Wrong


@pytest.fixture
def questions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two intents of one phrasing each, and their vectors beside them."""
    settings = "upstreams: [{name: e, kind: engine}]\nmodels: [{name: m, upstream: e}]\n"
    (tmp_path / "genkan.yaml").write_text(settings, encoding="utf-8")
    monkeypatch.setenv("GENKAN_CONFIG", str(tmp_path / "genkan.yaml"))
    texts = ["How do I pay?", "Where is my order?"]
    np.savez(tmp_path / "vectors.npz", texts=np.array(texts), vectors=word_vectors(texts))
    path = tmp_path / "questions.jsonl"
    rows = [{"intent": text, "language": "en", "text": text} for text in texts]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def ask(questions: Path, *options: str) -> Result:
    return CliRunner().invoke(main, [str(questions), "--vectors", str(questions.with_name("vectors.npz")), *options])


def test_tells_what_was_served_by_seed(questions: Path) -> None:
    result = ask(questions, "--seeds", "2", "--requests", "100")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line.split(":")[0] for line in lines if not line.startswith(" ")] == ["all"]
    assert lines[1].split() == ["0", "98.0", "%", "98", "0", "0", "(0.0", "%)", "0"]


def test_english_is_told_apart_where_there_are_other_languages(questions: Path) -> None:
    rows = questions.read_text(encoding="utf-8")
    questions.write_text(rows.replace('"en"', '"vi"', 1), encoding="utf-8")
    lines = ask(questions, "--seeds", "1", "--requests", "100").stdout.splitlines()
    assert [line.split()[3:4] for line in lines if line.startswith("   0")] == [["98"], ["99"]]


def test_few_served_is_a_failure(questions: Path) -> None:
    assert ask(questions, "--seeds", "1", "--requests", "1").exit_code == 1


def test_wrong_answers_are_named_once() -> None:
    wrong = Wrong(Phrasing("pause", "en", "pause it"), "stop it", "cancel")
    shown = told("English", [Outcome(10, 4, 1, 2, (wrong, wrong))])
    assert shown.splitlines()[1:] == [
        "   0  70.0 %  4  1  2 (40.0 %)  2",
        "  wrong: 'pause it' got the answer of 'stop it'",
    ]
