"""``genkan cost compare``."""

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from genkan.cli.cost import cost

SETTINGS = "upstreams: [{name: e, kind: engine}]\nmodels: [{name: m, upstream: e}]\n"
PRICES = "models: [{model: gpt-4.1, input: 2, output: 8, flat: 8}, {model: gpt-4.1, upstream: u, flat: 0.42}]\n"


@pytest.fixture
def prices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A price list, and a configuration without one."""
    config = tmp_path / "genkan.yaml"
    config.write_text(SETTINGS, encoding="utf-8")
    monkeypatch.setenv("GENKAN_CONFIG", str(config))
    path = tmp_path / "a: list.yaml"
    path.write_text(PRICES, encoding="utf-8")
    return path


def compare(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cost, ["compare", *map(str, arguments)])


def test_a_table(prices: Path) -> None:
    result = compare("--prices", prices, "--gpu-hour-usd", "6.50", "--gpus", "2")
    assert (result.exit_code, result.stderr) == (0, "")
    title, headings, *rows = result.stdout.splitlines()
    assert "10,000 requests a day" in title
    assert "85 %" in title
    assert headings.split("  ")[0] == "model"
    assert [row.split() for row in rows] == [
        ["gpt-4.1@u", "flat", "252.00", "37.80", "214.20", "2,476,191"],
        ["gpt-4.1", "flat", "4,800.00", "720.00", "4,080.00", "130,000"],
        ["self-hosted", "on", "2", "GPUs", "GPU", "hours", "9,360.00", "9,360.00", "0.00", "-"],
    ]


def test_without_gpus_no_break_even_is_shown(prices: Path) -> None:
    result = compare("--prices", prices)
    assert "GPU" not in result.stdout
    assert result.stdout.splitlines()[-1].split()[-1] == "4,080.00"


def test_its_last_line_is_json(prices: Path, tmp_path: Path) -> None:
    result = compare("--prices", prices, "--json", "--input-tokens", "1500", "--output-tokens", "500")
    content = json.loads(result.stdout.splitlines()[-1])
    assert content["workload"]["input_tokens"] == 1500
    assert [(row["model"], row["upstream"], row["basis"]) for row in content["rows"]] == [
        ("gpt-4.1", "u", "flat"),
        ("gpt-4.1", None, "split"),
    ]


def test_the_configuration_s_own_prices(prices: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = prices.parent / "own.yaml"
    config.write_text(f"{SETTINGS}prices: {{models: [{{model: mine, flat: 1}}]}}\n", encoding="utf-8")
    monkeypatch.setenv("GENKAN_CONFIG", str(config))
    own = compare("--json")
    assert [row["model"] for row in json.loads(own.stdout)["rows"]] == ["mine"]


def test_without_prices_it_says_where_to_get_them(prices: Path) -> None:
    result = compare()
    assert result.exit_code == 1
    assert "--prices names a file" in result.stderr


def test_a_wrong_number_is_named_by_its_option(prices: Path) -> None:
    result = compare("--prices", prices, "--cache-hit-rate", "85")
    assert result.exit_code == 2
    assert "--cache-hit-rate" in result.stderr
    assert "from 0 to 1" in result.stderr


def test_a_wrong_price_list_is_named_by_its_place(prices: Path) -> None:
    prices.write_text("models: [{model: m, input: 1}]\n", encoding="utf-8")
    result = compare("--prices", prices)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: prices.models[0]: needs 'input' and 'output'")
    prices.write_text("models: [{model: m, flat: -1}]\n", encoding="utf-8")
    assert "prices.models[0].flat" in compare("--prices", prices).stderr


def test_a_plot(prices: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for name, begin in (("cost.png", b"\x89PNG"), ("cost.svg", b"<?xml")):
        result = compare("--prices", prices, "--plot", tmp_path / name)
        assert (result.exit_code, result.stderr) == (0, "")
        assert (tmp_path / name).read_bytes().startswith(begin)
    missing = compare("--prices", prices, "--plot", tmp_path / "no" / "cost.png")
    assert (missing.exit_code, "cannot draw" in missing.stderr) == (1, True)
    assert compare("--prices", prices, "--plot", tmp_path / "cost.doc").exit_code == 1


def test_a_plot_without_matplotlib_is_refused_clearly(
    prices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = compare("--prices", prices, "--plot", tmp_path / "cost.png")
    assert result.exit_code == 1
    assert "needs matplotlib" in result.stderr
