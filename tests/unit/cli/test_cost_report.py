"""``genkan cost report``, on a real Redis."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from ledger_rows import DAY_1, attempt, row
from ledger_servers import LedgerServer, running_ledger

from genkan.cli.cost_report import report
from genkan.store.accounts import Amounts, Settlement

DAY_S = 86_400


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LedgerServer]:
    with running_ledger(tmp_path) as running:
        yield running


def cost_report(server: LedgerServer, *arguments: str) -> Result:
    return CliRunner().invoke(report, arguments, env=server.environ)


def test_a_table_by_model_with_the_sum(server: LedgerServer) -> None:
    own = attempt(deployment="smollm2@engine", cost_nano_usd=None)
    server.append(row("a"), row("b"), row("c", attempts=[own], saved_nano_usd=0), row("d", attempts=[], state="x"))
    result = cost_report(server)
    assert (result.exit_code, result.stderr) == (0, "")
    assert [" ".join(line.split()) for line in result.stdout.splitlines()] == [
        "model requests errors lost prompt completion cached cost $ saved $ no price",
        "gpt-4.1 2 0 0 20 10 8 0.000108000 0.000012000 0",
        "(none) 1 1 0 10 5 4 0.000054000 0.000006000 0",
        "smollm2 1 0 0 10 5 4 0.000000000 0.000000000 1",
        "total 4 1 0 40 20 16 0.000162000 0.000018000 1",
    ]


def test_an_empty_ledger_is_a_table_of_nothing(server: LedgerServer) -> None:
    result = cost_report(server)
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 2)


@pytest.mark.parametrize("by", ["model", "key", "tenant", "route", "day"])
def test_json_is_one_object(server: LedgerServer, by: str) -> None:
    server.append(*(row(f"req_{number}", t=DAY_1 + number * DAY_S) for number in range(4)))
    result = cost_report(server, "--by", by, "--json", "--since", "2026-12-01", "--until", "2026-12-02")
    answer = json.loads(result.stdout)
    assert (answer["by"], answer["total"]["requests"], answer["total"]["cost_nano_usd"]) == (by, 2, 108_000)
    assert sum(group["requests"] for group in answer["groups"]) == 2
    assert len(answer["groups"]) == (2 if by == "day" else 1)


def test_csv_has_exact_money(server: LedgerServer) -> None:
    server.append(row("a", tenant="=1+1", cost_nano_usd=1_000_000_001))
    (found,) = csv.DictReader(cost_report(server, "--by", "tenant", "--csv").stdout.splitlines())
    assert (found["tenant"], found["cost_nano_usd"]) == ("'=1+1", "1000000001")
    assert (found["cost_usd"], found["saved_usd"], found["cached_tokens"]) == ("1.000000001", "0.000006000", "4")


def test_rows_that_are_none_are_left_out_and_told_of(server: LedgerServer) -> None:
    server.use(lambda accounts: accounts.settle([Settlement("b", (), Amounts(), Amounts(), b"{}", was_admitted=False)]))
    result = cost_report(server)
    assert result.stderr == "left out: 1 malformed rows\n"


@pytest.mark.parametrize(
    "arguments", [("--by", "colour"), ("--since", "yesterday"), ("--json", "--csv"), ("--until", "2026-02-30")]
)
def test_a_wrong_option_is_a_usage_error(server: LedgerServer, arguments: tuple[str, ...]) -> None:
    assert cost_report(server, *arguments).exit_code == 2
