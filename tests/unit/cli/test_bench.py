"""``genkan bench``: what its options mean, and how it ends."""

import subprocess
import sys
from typing import Any

import pytest
from click.testing import CliRunner

from genkan.bench.client import run
from genkan.bench.client.preflight import CannotMeasure
from genkan.bench.client.prompts import PLAIN, PREFIXES, STORED
from genkan.bench.client.run import Plan
from genkan.cli.bench import bench


class Runs:
    """Takes plans in place of the real thing, and says what share of requests failed."""

    def __init__(self) -> None:
        self.plans: list[Plan] = []
        self.error_rate = 0.0
        self.problem: Exception | None = None

    def __call__(self, plan: Plan, out: object) -> float:
        self.plans.append(plan)
        if self.problem is not None:
            raise self.problem
        return self.error_rate


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    runs = Runs()
    monkeypatch.setattr(run, "run", runs)
    return runs


def ended(*arguments: str, **environ: str) -> tuple[int, str]:
    result = CliRunner().invoke(bench, arguments, env={"GENKAN_API_KEY": None, **environ})
    return result.exit_code, result.stderr


def planned(runs: Runs, *arguments: str, **environ: str) -> Plan:
    assert ended(*arguments, **environ) == (0, "")
    return runs.plans[-1]


def test_by_default_one_client_asks_a_hundred_times_of_the_local_server(runs: Runs) -> None:
    plan = planned(runs)
    assert plan.target.url == "http://127.0.0.1:3000/v1/chat/completions"
    assert (plan.load.rate, plan.load.concurrency, plan.load.requests, plan.load.duration_s) == (None, 1, 100, None)
    assert (plan.model, plan.target.key, plan.prompts.arms, bool(plan.objective)) == (None, None, PLAIN, False)


def test_a_rate_is_an_open_loop_and_a_duration_needs_no_number(runs: Runs) -> None:
    load = planned(runs, "--rate", "20", "--duration", "3").load
    assert (load.rate, load.arrivals, load.requests, load.duration_s) == (20.0, "poisson", None, 3.0)
    assert str(planned(runs, "--rate", "2", "--arrivals", "constant").load).endswith("2 requests/s, constant arrivals")
    assert str(planned(runs, "--concurrency", "8").load) == "closed loop, 8 clients"


def test_the_key_comes_from_a_variable(runs: Runs) -> None:
    assert planned(runs, GENKAN_API_KEY="sk-one").target.key == "sk-one"
    assert planned(runs, "--api-key-env", "OTHER", GENKAN_API_KEY="sk-one", OTHER="sk-two").target.key == "sk-two"
    assert "sk-" not in planned(runs, GENKAN_API_KEY="sk-one").command


def test_two_runs_ask_alike_only_with_one_seed(runs: Runs) -> None:
    assert planned(runs).prompts.seed != planned(runs).prompts.seed
    assert planned(runs, "--seed", "7").prompts.seed == 7


def test_objectives_are_in_milliseconds(runs: Runs) -> None:
    objective = planned(runs, "--slo-ttft-ms", "300", "--slo-itl-ms", "50").objective
    assert (objective.ttft_s, objective.itl_s, objective.tpot_s, objective.latency_s) == (0.3, 0.05, None, None)


def test_what_is_cached_repeats(runs: Runs) -> None:
    stored = planned(runs, "--cached", "--requests", "400").prompts
    assert (stored.arms, stored.questions) == (STORED, 40)
    prefixes = planned(runs, "--prefix-cached", "--languages", "ko, vi").prompts
    assert (prefixes.arms, prefixes.questions, prefixes.prefixes, prefixes.languages) == (PREFIXES, 0, 1, ["vi", "ko"])


@pytest.mark.parametrize(
    "arguments",
    [
        ["ftp://host"],
        ["--rate", "1", "--concurrency", "2"],
        ["--arrivals", "constant"],
        ["--rate", "0"],
        ["--requests", "0"],
        ["--languages", "en,fr"],
        ["--cached", "--prefix-cached"],
        ["--no-stream", "--slo-ttft-ms", "5"],
        ["--max-error-rate", "2"],
        ["--max-error-rate", "nan"],
        ["--rate", "nan"],
        ["--duration", "inf"],
        ["--path", "call"],
    ],
)
def test_options_that_make_no_sense_end_with_2(runs: Runs, arguments: list[str]) -> None:
    code, told = ended(*arguments)
    assert (code, runs.plans) == (2, [])
    assert "Error: " in told


@pytest.mark.parametrize(("error_rate", "code"), [(0.0, 0), (0.05, 0), (0.051, 1)])
def test_too_many_errors_end_with_1(runs: Runs, error_rate: float, code: int) -> None:
    runs.error_rate = error_rate
    assert ended("--max-error-rate", "0.05")[0] == code


def test_a_server_that_cannot_be_measured_ends_with_1_and_says_why(runs: Runs) -> None:
    runs.problem = CannotMeasure("nobody listens")
    assert ended() == (1, "Error: nobody listens\n")


def test_the_list_of_commands_loads_nothing_of_it() -> None:
    code = "import sys, genkan.cli.bench; print([name for name in sys.modules if name.startswith('genkan.bench')])"
    line: list[Any] = [sys.executable, "-c", code]
    assert subprocess.run(line, capture_output=True, text=True, check=True, timeout=60).stdout == "[]\n"
