"""The benchmarks run, end to end on the real model, and end with the line that CI reads."""

import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from engine.checkpoints import load_gguf_checkpoint
from transformers import modeling_gguf_pytorch_utils

from genkan.bench import engine, prefix


def last_line(command: click.Command, out: Path) -> dict[str, Any]:
    result = CliRunner().invoke(command, ["--quick", "--out", str(out)], catch_exceptions=False)
    assert result.exit_code == 0
    figures: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return figures


def test_the_prefix_benchmark(tmp_path: Path) -> None:
    figures = last_line(prefix.main, tmp_path)
    assert figures["shared"]["hit_rate"] == 0.5  # 40 requests after 20 prompts
    assert figures["shared"]["tokens_saved"] > 0.3
    assert figures["chat"]["reused"] > 0.9
    assert figures["unique"].keys() == {"rps_on", "rps_off", "cpu_s_on", "cpu_s_off", "cpu_cost"}
    assert figures["chunked"].keys() == {"itl_p50_ms", "itl_p99_over_p50", "itl_p99_over_p50_off"}
    assert all(figures[name] > 0 for name in ("continuous_vs_static", "concurrent_vs_serial"))
    assert "short_p50_latency_drop" in figures


@pytest.mark.timeout(300)  # transformers needs some 20 s to load, and more on a busy machine
def test_the_engine_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modeling_gguf_pytorch_utils, "load_gguf_checkpoint", load_gguf_checkpoint)
    figures = last_line(engine.main, tmp_path)
    arms = {"genkan", "transformers", "transformers_cb"}
    assert {batch: set(rates) for batch, rates in figures["decode"].items()} == {"1": arms, "2": arms}
    assert figures["prefill_1k"].keys() == {"genkan", "transformers"}
    assert all(rate > 0 for rate in [*figures["decode"]["2"].values(), *figures["prefill_1k"].values()])
    assert figures["cold_start_s"] > 0
