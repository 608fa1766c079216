"""The gateway's benchmark: what it makes of its figures, and that it runs."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from genkan.bench import gateway
from genkan.bench.gateway import SHAPES, Outcome, Shape, Times
from genkan.bench.rounds import Rounds

METRICS = {"p50_ms": 2.0, "p99_ms": 3.0, "first_byte_p50_ms": 1.0, "busy": 0.99, "rss_bytes": 1e8}


def outcome(rps: Mapping[str, list[float]], **more: float) -> Outcome:
    by_shape: dict[Shape, Rounds] = {}
    for shape in SHAPES:
        rounds = by_shape[shape] = Rounds(rps)
        for arm, values in rps.items():
            for value in values:
                # Alone a connection is slower, and everything is when streamed.
                scale = (0.1 if shape.connections == 1 else 1) / (2 if shape.stream else 1)
                rounds.add(arm, {**METRICS, "rps": value * scale, **more})
    return Outcome(by_shape)


def test_the_rates_are_those_of_64_connections() -> None:
    summary = outcome({"raw_asgi": [100, 300, 200], "genkan": [150, 160, 140]}).summary()
    assert (summary["nonstream"]["raw_asgi"], summary["nonstream"]["genkan"]) == (200, 150)
    assert (summary["stream"]["raw_asgi"], summary["stream"]["genkan"]) == (100, 75)
    assert summary["nonstream"]["genkan_p50_ms_c1"] == 2.0
    assert summary["nonstream"]["genkan_of_raw_asgi"] == {
        "median": 0.75,
        "low": pytest.approx(160 / 300),
        "high": 1.5,
    }
    assert summary["rss_bytes"] == {"raw_asgi": 100_000_000, "genkan": 100_000_000}


def test_without_both_there_is_no_ratio() -> None:
    lone = outcome({"genkan": [150]})
    assert "genkan_of_raw_asgi" not in lone.summary()["nonstream"]
    assert "genkan /" not in lone.tables()


def test_an_arm_that_its_load_limited_is_named() -> None:
    idle = outcome({"direct": [9.0], "raw_asgi": [9.0], "genkan": [9.0]}, busy=0.7).tables()
    assert (
        idle.count("not limited by the server, but by the load, the upstream or others on its core: raw_asgi, genkan")
        == 2
    )
    assert "not limited by" not in outcome({"raw_asgi": [9.0]}).tables()


def run(out: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Result:
    monkeypatch.setattr(gateway, "QUICK", Times(warm_up_s=0.02, measured_s=0.05))
    return CliRunner().invoke(gateway.main, ["--quick", "--out", str(out), *arguments])


def test_it_runs_and_ends_with_one_line_of_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(tmp_path, monkeypatch, "--only", "direct", "--only", "raw_asgi")
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout.splitlines()[-1])
    for kind in ("nonstream", "stream"):
        # Which is faster is for a real run to say: this one measures half a second beside other tests.
        assert all(figures[kind][arm] > 0 for arm in ("direct", "raw_asgi", "direct_p50_ms_c1", "raw_asgi_p50_ms_c1"))
    assert figures["rss_bytes"]["raw_asgi"] > 1e7
    assert json.loads((tmp_path / "gateway.json").read_text()) == figures


def test_a_server_that_does_not_come_up_fails_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genkan.bench.gateway_arms.UPSTREAM_VARIABLE", "ANOTHER")
    result = run(tmp_path, monkeypatch, "--only", "raw_asgi")
    assert result.exit_code == 1
    assert "raw_asgi ended with" in result.stderr
