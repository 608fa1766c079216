"""``genkan cache calibrate`` and ``genkan cache eval``."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from pair_makers import english_pairs
from word_vectors import word_vectors

from genkan.cache.calibrated import MULTILINGUAL_E5_SMALL
from genkan.cache.evaluation.score_file import read_score
from genkan.cache.normalise import canonical
from genkan.cli.cache import cache

SETTINGS = "upstreams: [{name: e, kind: engine}]\nmodels: [{name: m, upstream: e}]\n"
LANGUAGES = ({"a": "비밀번호를 어떻게 바꾸나요?", "b": "비밀번호 변경 방법 알려주세요", "same": True},)


@pytest.fixture(autouse=True)
def _configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "genkan.yaml"
    config.write_text(SETTINGS, encoding="utf-8")
    monkeypatch.setenv("GENKAN_CONFIG", str(config))


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """English pairs, and one Korean."""
    rows = [{"a": pair.one, "b": pair.two, "same": pair.same} for pair in english_pairs()]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *LANGUAGES]), encoding="utf-8")
    return path


@pytest.fixture
def vectors(tmp_path: Path, pairs: Path) -> Path:
    texts = dict.fromkeys(
        canonical(row[side]) for row in map(json.loads, pairs.read_text("utf-8").splitlines()) for side in ("a", "b")
    )
    path = tmp_path / "vectors.npz"
    np.savez(path, texts=np.array(list(texts)), vectors=word_vectors(list(texts)))
    return path


def genkan(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cache, [*map(str, arguments)])


def test_what_calibrate_writes_is_read_and_what_eval_tells_is_of_it(pairs: Path, vectors: Path, tmp_path: Path) -> None:
    out = tmp_path / "score.json"
    result = genkan("calibrate", "--train", pairs, "--out", out, "--vectors", vectors, "--label-noise", "0.01")
    assert (result.exit_code, result.stdout) == (0, ""), result.output
    assert "161 pairs" in result.stderr
    assert set(read_score(out).thresholds) == {"en", "vi", "ko"}
    fitted = json.loads(out.read_text(encoding="utf-8"))["fitted"]
    assert (fitted["embedder"], fitted["label_noise"]) == ("multilingual-e5-small", 0.01)
    assert (fitted["pairs"], fitted["files"]) == ({"en": 160, "ko": 1}, ["pairs.jsonl"])
    result = genkan("eval", pairs, "--score", out, "--vectors", vectors, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    content = json.loads(result.stdout)
    assert (content["score"], content["max_error_rate"]) == ("multilingual-e5-small", 0.01)
    assert [group["language"] for group in content["languages"]] == ["en", "ko", "all"]
    english = content["languages"][0]
    assert (english["same"], english["different"]) == (80, 80)
    assert english["served"]["hits"]["share"] > 0.9
    assert english["served"]["wrong"]["count"] == 0


def test_eval_tells_people_tables_bounds_losses_and_a_plot(pairs: Path, vectors: Path) -> None:
    result = genkan("eval", pairs, "--vectors", vectors)
    assert (result.exit_code, result.stderr) == (0, "")
    for told in (
        "en: 160 pairs, 80 the same", "ko: 1 pairs, 1 the same", "all: 161 pairs", "(95 %)", "cosine >= 0.95",
        "guards alone", "guards + score, as configured", "refused first by", "wrong, up to 10 %", "# guards + score",
    ):  # fmt: skip
        assert told in result.stdout, told


def test_the_verdict_knows_few_pairs_from_many(tmp_path: Path) -> None:
    path, texts = tmp_path / "p.jsonl", ("Is it open on Monday?", "Is it open for 14 days?", "Where is my parcel?")
    np.savez(tmp_path / "v.npz", texts=np.array(texts), vectors=np.ones((3, 4), dtype=np.float32) / 2)
    near, far = ({"a": texts[0], "b": other, "same": False} for other in (texts[0], texts[1]))
    for rows, verdict in (
        ([far] * 400, "no more wrong than 1 %, with 95 % confidence"),
        ([far] * 300, "300 pairs are too few"),
        ([far, near], "more wrong than 1 %"),
    ):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        assert verdict in genkan("eval", path, "--vectors", tmp_path / "v.npz").stdout


def test_without_a_score_it_is_the_one_that_ships(pairs: Path, vectors: Path) -> None:
    content = json.loads(genkan("eval", pairs, "--vectors", vectors, "--json").stdout)
    assert content["score"] == MULTILINGUAL_E5_SMALL.version


def test_a_plot(pairs: Path, vectors: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for name, begin in (("eval.png", b"\x89PNG"), ("eval.svg", b"<?xml")):
        result = genkan("eval", pairs, "--vectors", vectors, "--plot", tmp_path / name)
        assert (result.exit_code, result.stderr) == (0, "")
        assert (tmp_path / name).read_bytes().startswith(begin)
    missing = genkan("eval", pairs, "--vectors", vectors, "--plot", tmp_path / "no" / "eval.png")
    assert (missing.exit_code, "cannot draw" in missing.stderr) == (1, True)


def test_a_plot_without_matplotlib_is_refused_clearly(
    pairs: Path, vectors: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = genkan("eval", pairs, "--vectors", vectors, "--plot", tmp_path / "eval.png")
    assert (result.exit_code, "needs matplotlib" in result.stderr) == (1, True)


def test_a_wrong_line_is_told_by_its_number(pairs: Path, vectors: Path, tmp_path: Path) -> None:
    with pairs.open("a", encoding="utf-8") as lines:
        lines.write('{"a": "x"}\n')
    commands: list[list[str | Path]] = [["eval", pairs], ["calibrate", "--train", pairs, "--out", tmp_path / "s.json"]]
    for command in commands:
        result = genkan(*command, "--vectors", vectors)
        assert (result.exit_code, "pairs.jsonl, line 162: no second text" in result.stderr) == (1, True)
    assert not (tmp_path / "s.json").exists()


def test_vectors_that_are_none_or_lack_a_text_are_refused(pairs: Path, vectors: Path, tmp_path: Path) -> None:
    result = genkan("eval", pairs, "--vectors", pairs)
    assert (result.exit_code, "has no vectors of texts" in result.stderr) == (1, True)
    (tmp_path / "cut.npz").write_bytes(vectors.read_bytes()[:1000])
    assert "has no vectors of texts" in genkan("eval", pairs, "--vectors", tmp_path / "cut.npz").stderr
    for texts, vector, problem in (
        (["x"], [1.0, 0.0], "texts have no vector, such as"),
        ([english_pairs()[0].one], [1.0, 0.0], "their lengths differ"),
        (["x"], [1.0, 1.0], "unit length"),
        (["x"], [np.nan, 0.0], "unit length"),
        (["x", "y"], [1.0, 0.0], "has no vectors of texts"),
    ):
        np.savez(tmp_path / "other.npz", texts=np.array(texts), vectors=np.array([vector]))
        known = [vectors] if "differ" in problem else []
        files = [part for file in (*known, tmp_path / "other.npz") for part in ("--vectors", file)]
        result = genkan("eval", pairs, *files)
        assert (result.exit_code, problem in result.stderr) == (1, True), problem


def test_pairs_of_one_kind_calibrate_nothing(vectors: Path, tmp_path: Path) -> None:
    path = tmp_path / "korean.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in LANGUAGES), encoding="utf-8")
    result = genkan("calibrate", "--train", path, "--out", tmp_path / "s.json", "--vectors", vectors)
    assert (result.exit_code, "both needed" in result.stderr) == (1, True)


def test_what_is_no_score_is_refused(pairs: Path, vectors: Path) -> None:
    result = genkan("eval", pairs, "--score", pairs, "--vectors", vectors)
    assert (result.exit_code, str(pairs) in result.stderr) == (1, True)


def test_an_embedder_elsewhere_cannot_be_asked_from_here(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENKAN__EMBEDDER__MODEL", "upstream:far/embedding-3")
    monkeypatch.setenv(
        "GENKAN__UPSTREAMS", '[{name: e, kind: engine}, {name: far, kind: openai, base_url: "http://x/v1"}]'
    )
    result = genkan("eval", pairs)
    assert (result.exit_code, "--vectors" in result.stderr) == (1, True)


def test_without_torch_it_says_what_to_do(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "genkan.embedding.embedder", None)
    result = genkan("eval", pairs)
    assert (result.exit_code, "--vectors needs no embedder" in result.stderr) == (1, True)
