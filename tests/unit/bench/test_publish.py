"""`make report`: what is measured is kept, and the page is made of that alone."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from genkan.bench import measured, page, publish, report, sections
from genkan.bench.client.figures import Objective, figures
from genkan.bench.client.outcome import Outcome, Seen
from genkan.bench.measured import Measurement

MACHINE = {
    "cpu": "A CPU, 2 cores",
    "memory": "4.0 GiB",
    "system": "Linux 6",
    "python": "3.11.7",
    "packages": "torch 2",
    "date": "2026-01-02",
    "commit": "abc1234+",
    "load": "0.1",
}


def _kind(arms: tuple[str, ...]) -> dict[str, Any]:
    places = ("", "_p99_ms_c64", "_p50_ms_c1", "_first_byte_p50_ms_c1")
    ratio = {"genkan_of_raw_asgi": {"median": 0.5, "low": 0.4, "high": 0.6}}
    return {f"{arm}{place}": 1234.5 for arm in arms for place in places} | ratio


def _served() -> dict[str, Any]:
    arms = {arm: figures([Outcome(arm, 0.0, 0.0, Seen(1.0, token_s=[0.5, 0.6]))], Objective()) for arm in ("x", "y")}
    return {"stored": {"title": "Stored", "load": "closed loop", "arms": arms, "client": {"faults": ["it was late"]}}}


RESULTS: dict[str, dict[str, Any]] = {
    "gateway": {
        "nonstream": _kind(("direct", "genkan")),
        "stream": _kind(("direct", "genkan")),
        "rss_bytes": {"direct": 30_000_000, "genkan": 120_000_000},
    },
    "served": _served(),
    "hedge": {
        **{f"{place}_ms_{route}": 20.0 for place in ("p50", "p99") for route in ("default", "hedging")},
        "p99_cut": 0.9,
        "extra_attempts": 0.05,
    },
    "cache": {"exact": {"whole, 1": {"rps": 1.0, "p50_ms": 2.0, "p99_ms": 3.0}}, "semantic": {}},
    "affinity": {"usual": {"one cache": {"hit_rate": 0.9}, "affinity": {"hit_rate": 0.85}}},
    "prefix": {
        "shared": {"rps_on": 4, "rps_off": 1, "ttft_p50_ms_on": 9, "ttft_p50_ms_off": 90, "tokens_saved": 0.9},
        "unique": {"rps_on": 1, "rps_off": 1, "cpu_s_on": 1.0, "cpu_s_off": 1.0},
        "chat": {"reused": 0.97},
        "continuous_vs_static": 1.5,
        "concurrent_vs_serial": 7.0,
        "chunked": {"itl_p99_over_p50": 1.6, "itl_p99_over_p50_off": 21.8},
    },
    "engine": {
        "decode": {"1": {"genkan": 60.0, "transformers": None}},
        "prefill_1k": {"genkan": 700.0, "transformers": 300.0},
        "cold_start_s": 1.8,
    },
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A page with a place for everything, and every measurement kept."""
    places = "".join(f"## {name}\n<!-- begin: {name} -->\n<!-- end: {name} -->\n" for name in sections.NAMES)
    (tmp_path / "page.md").write_text(places)
    (tmp_path / "front.md").write_text("# A\n<!-- begin: measured -->\n<!-- end: measured -->\n## B\n")
    for name, result in RESULTS.items():
        measured.write(tmp_path / "kept", name, Measurement(f"make bench-{name}", MACHINE, result))
    return tmp_path


def published(folder: Path) -> str:
    publish.publish(folder / "page.md", folder / "front.md", folder / "kept", folder / "img")
    return (folder / "page.md").read_text()


def test_every_benchmark_has_a_section_and_every_section_a_benchmark() -> None:
    assert set(sections.NAMES) == set(RESULTS) == {benchmark.name for benchmark in publish.BENCHMARKS}


def test_the_page_has_every_figure_with_its_command_and_machine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "find_spec", lambda _: None)
    text = published(folder)
    for name in RESULTS:
        assert f"`make bench-{name}` · 2026-01-02 · commit abc1234+ · A CPU, 2 cores, 4.0 GiB" in text
    for line in (
        "| genkan | 1,234 | 1,234 | 1,234 | 1,234 | 120 |",
        "genkan / raw_asgi: 0.5 (rounds: 0.4 to 0.6).",
        "The p99 is cut by 90.0 %, for 5.0 % more attempts.",
        "| decode, batch 1 | 700 | 300 |".replace("700 | 300", "60 | -"),
        "| usual | 90.0 % | 85.0 % |",
        "The client was at fault too: it was late.",
    ):
        assert line in text


@pytest.mark.parametrize(("load", "is_warned"), [("0.5", False), ("0.6", True), ("unknown", True)])
def test_figures_of_a_busy_machine_are_marked(load: str, is_warned: bool) -> None:
    told = sections.section("hedge", Measurement("x", {**MACHINE, "load": load}, RESULTS["hedge"]))
    assert ("do not compare" in told) is is_warned


def test_to_publish_again_changes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "find_spec", lambda _: None)
    first = published(folder), (folder / "front.md").read_text()
    assert (published(folder), (folder / "front.md").read_text()) == first


def test_plots_are_drawn_where_matplotlib_is(folder: Path) -> None:
    pytest.importorskip("matplotlib")
    published(folder)
    assert {path.stem for path in (folder / "img").iterdir()} == set(RESULTS) - {"cache", "served"} | {"served-stored"}


def test_what_is_kept_is_read_as_it_was_written(folder: Path) -> None:
    kept = measured.read(folder / "kept")
    assert {name: one.result for name, one in kept.items()} == json.loads(json.dumps(RESULTS))
    assert kept["hedge"].machine == MACHINE


def test_a_result_that_lay_there_is_taken_with_its_day_and_no_commit(tmp_path: Path) -> None:
    path = tmp_path / "hedge.json"
    path.write_text('{"p50_ms_default": 1}')
    taken = measured.taken_from(path, MACHINE)
    assert (taken.command, taken.machine["commit"], taken.result) == (
        "make bench-hedge",
        "unknown",
        {"p50_ms_default": 1},
    )


@pytest.mark.parametrize("text", ["[]", "{", '{"command": "x"}'])
def test_a_file_that_is_no_measurement_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match=r"x\.json"):
        measured.read(tmp_path)


def test_a_benchmark_that_fails_keeps_its_last_figures(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, path in (("DOC", "page.md"), ("README", "front.md"), ("KEPT", "kept"), ("IMAGES", "img"), ("ROOT", "")):
        monkeypatch.setattr(publish, name, folder / path)
    monkeypatch.setattr(report, "find_spec", lambda _: None)
    monkeypatch.setattr(publish, "BENCHMARKS", (publish.Benchmark("nothing_of_that_name", ()),))
    ended = CliRunner().invoke(publish.main, [])
    assert ended.exit_code == 1
    assert json.loads(ended.stdout.splitlines()[-1])["failed"] == ["nothing_of_that_name"]
    assert "make bench-hedge" in (folder / "page.md").read_text()


def test_what_is_left_by_other_runs_is_taken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, path in (("DOC", "page.md"), ("README", "front.md"), ("KEPT", "kept"), ("IMAGES", "img"), ("ROOT", "")):
        monkeypatch.setattr(publish, name, folder / path)
    monkeypatch.setattr(report, "find_spec", lambda _: None)
    left = folder / "out"
    left.mkdir()
    (left / "hedge.json").write_text(json.dumps(RESULTS["hedge"] | {"p99_cut": 0.125}))
    ended = CliRunner().invoke(publish.main, ["--from", str(left)])
    assert ended.exit_code == 0, ended.output
    assert "The p99 is cut by 12.5 %" in (folder / "page.md").read_text()


def test_the_page_of_this_repository_is_what_is_kept() -> None:
    text = publish.DOC.read_text(encoding="utf-8")
    assert set(page.names(text)) == set(sections.NAMES)
    assert publish.rendered(text, measured.read(publish.KEPT)) == text, "make report ARGS=--no-run"


def test_the_figures_of_this_repositorys_readme_are_those_that_are_kept() -> None:
    text = publish.README.read_text(encoding="utf-8")
    assert publish.summarised(text, measured.read(publish.KEPT)) == text, "make report ARGS=--no-run"
