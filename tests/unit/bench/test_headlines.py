"""The README's figures: what was measured, each with its command, and nothing that was not."""

import re
from typing import Any

import pytest

from genkan.bench.headlines import headlines
from genkan.bench.measured import Measurement

MACHINE = {
    "cpu": "A CPU, 2 cores",
    "memory": "4.0 GiB",
    "system": "Linux 6",
    "packages": "torch 2",
    "date": "2026-01-02",
    "commit": "abc1234",
    "load": "0.1",
}
KIND = {"genkan": 3000.0, "genkan_of_raw_asgi": {"median": 0.7}, "genkan_p50_ms_c1": 0.75, "direct_p50_ms_c1": 0.25}
TIMES = {"ttft": {"p50_ms": 12.0}}, {"ttft": {"p50_ms": 50.0}}
RESULTS: dict[str, dict[str, Any]] = {
    "gateway": {"nonstream": KIND, "stream": KIND},
    "served": {name: {"arms": dict(zip(("a", "b"), TIMES, strict=True))} for name in ("stored", "prefix")},
    "hedge": {"p99_ms_hedging": 140.0, "p99_ms_default": 1033.0, "extra_attempts": 0.053},
    "cache": {"exact": {"whole, 64": {"rps": 2000.0}}, "semantic": {"like one": {"p50_ms": 6.0}}},
    "affinity": {"usual": {"one cache": {"hit_rate": 0.8}, "affinity": {"hit_rate": 0.72}}},
    "prefix": {"shared": {"rps_on": 4.0, "rps_off": 1.0}, "continuous_vs_static": 1.5},
    "engine": {"decode": {"1": {"genkan": 60.0, "transformers": 20.0}, "8": {"genkan": 90.0, "transformers": None}}},
}


def shown(*names: str, machine: dict[str, str] | None = None, **results: Any) -> str:
    """The block, of these of the results above, and of others by name."""
    found = {name: RESULTS[name] for name in names} | results
    return headlines({name: Measurement(f"make bench-{name}", machine or MACHINE, one) for name, one in found.items()})


def rows(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("| ")][1:]


def test_every_benchmark_has_rows_with_its_command() -> None:
    text = shown(*RESULTS)
    assert {re.findall("`make bench-([a-z]+)`", row)[0] for row in rows(text)} == set(RESULTS)
    assert 8 <= len(rows(text)) <= 14
    for figure in (
        "| 3,000 a second, 70 % of a bare proxy's |",
        "| 0.5 ms |",
        "| 12 / 50 ms |",
        "| 140 / 1,033 ms, for 5.3 % more attempts |",
        "| 2,000 a second |",
        "| 6 ms |",
        "| 90 % |",
        "| 4 / 1 a second |",
        "| 1.5× |",
        "| 60 tokens/s, 3× transformers |",
    ):
        assert figure in text


def test_what_was_not_measured_is_left_out() -> None:
    alone = {"genkan": 3000.0}
    assert len(rows(shown("hedge"))) == 1
    assert len(rows(shown(gateway={"nonstream": alone, "stream": alone}))) == 2
    assert (
        rows(
            shown(
                served={"stored": {"arms": {"a": {"ttft": None}, "b": TIMES[0]}}}, cache={"exact": {}, "semantic": {}}
            )
        )
        == []
    )
    assert len(rows(shown("engine"))) == 1
    assert headlines({}) == "Nothing is measured yet: `make report`."


def test_the_hardware_is_one_line_where_all_was_measured_on_the_same() -> None:
    line = "A CPU, 2 cores, 4.0 GiB, Linux 6, torch 2; 2026-01-02, commit abc1234"
    text = shown("hedge", "engine")
    assert text.startswith(f"{line}.\n")
    other = Measurement("x", {**MACHINE, "commit": "def5678"}, RESULTS["engine"])
    two = headlines({"hedge": Measurement("x", MACHINE, RESULTS["hedge"]), "engine": other}).splitlines()
    assert two[0] == f"{line} (hedge)."
    assert two[2].endswith("commit def5678 (engine).")


@pytest.mark.parametrize(("load", "is_warned"), [("0.5", False), ("0.6", True), ("unknown", True)])
def test_figures_of_a_busy_machine_are_marked_once(load: str, is_warned: bool) -> None:
    text = shown("hedge", "engine", machine={**MACHINE, "load": load})
    assert text.count("do not compare") == is_warned


def test_two_plots_at_most_and_only_of_what_was_measured() -> None:
    assert re.findall(r"img/(\w+)\.png", shown(*RESULTS)) == ["gateway", "engine"]
    assert re.findall(r"img/(\w+)\.png", shown("hedge", "cache")) == ["hedge"]
    assert "docs/img" not in shown("cache")
