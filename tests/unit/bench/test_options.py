"""The options of the benchmarks' commands."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from genkan.bench.options import Options, benchmark


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ([], Options(False, 3, "fast", Path("bench/out"))),
        (["--quick"], Options(True, 1, "fast", Path("bench/out"))),
        (["--quick", "--rounds", "2"], Options(True, 2, "fast", Path("bench/out"))),
        (["--profile", "exact", "--out", "elsewhere"], Options(False, 3, "exact", Path("elsewhere"))),
    ],
)
def test_a_quick_run_is_one_round_unless_told_otherwise(arguments: list[str], options: Options) -> None:
    given: list[Options] = []
    result = CliRunner().invoke(benchmark(default_rounds=3)(given.append), arguments)
    assert (result.exit_code, given) == (0, [options])


@pytest.mark.parametrize("load", [0.1, 3.4])
def test_a_busy_machine_is_told_of(load: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (load, 0.0, 0.0))
    result = CliRunner().invoke(benchmark(default_rounds=3)(lambda _: None), [])
    assert ("(load 3.4)" in result.stderr) == (load == 3.4)
