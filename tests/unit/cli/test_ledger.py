"""``genkan ledger``, on a real Redis."""

import asyncio
import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from ledger_rows import DAY_1, append, attempt, failed, lost_row, row
from ledger_servers import LedgerServer, configuration, running_ledger

from genkan.cli.ledger import ledger
from genkan.store.accounts import Accounts, Admission, Amounts, Line, Settlement, Unit

DAY_S = 86_400
HEADER = "request_id,prompt_tokens,completion_tokens,cost_usd\n"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LedgerServer]:
    with running_ledger(tmp_path) as running:
        yield running


def genkan(server: LedgerServer, *arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(ledger, arguments, env=server.environ, input=stdin)


def cursor_of(result: Result) -> str:
    assert result.exit_code == 0, result.output
    (line,) = (line for line in result.stderr.splitlines() if line.startswith("cursor: "))
    return line.removeprefix("cursor: ")


def test_exports_rows_as_they_are_and_the_cursor_after_them(server: LedgerServer) -> None:
    server.append(row("a"), row("b"))
    result = genkan(server, "export")
    assert result.stdout_bytes == row("a") + b"\n" + row("b") + b"\n"
    assert cursor_of(result)


def test_going_on_after_the_cursor_gives_every_row_once(server: LedgerServer) -> None:
    rows = [row(f"req_{number}") for number in range(1300)]
    server.append(*rows)
    exported, after = b"", ""
    for limit in (1, 600, 10_000):
        result = genkan(server, "export", "--after", after, "--limit", str(limit))
        exported, after = exported + result.stdout_bytes, cursor_of(result)
    assert exported == b"".join(raw + b"\n" for raw in rows)
    server.append(row("later"))
    result = genkan(server, "export", "--after", after)
    assert result.stdout_bytes == row("later") + b"\n"
    assert genkan(server, "export", "--after", cursor_of(result)).stdout == ""


def test_an_empty_ledger_is_an_empty_export_that_can_be_gone_on_from(server: LedgerServer) -> None:
    result = genkan(server, "export")
    assert (result.stdout, cursor_of(result)) == ("", "")


def test_csv_has_its_header_once_however_it_was_exported(server: LedgerServer) -> None:
    server.append(row("a"), row("b"))
    first = genkan(server, "export", "--format", "csv", "--limit", "1")
    second = genkan(server, "export", "--format", "csv", "--after", cursor_of(first))
    found = csv.DictReader((first.stdout + second.stdout).splitlines())
    assert [line["id"] for line in found] == ["a", "b"]
    with_header = genkan(server, "export", "--format", "csv", "--after", cursor_of(first), "--header")
    assert with_header.stdout.splitlines()[0] == first.stdout.splitlines()[0]


def test_exports_attempts(server: LedgerServer) -> None:
    server.append(row("a", attempts=[failed(1), attempt(2)]))
    lines = genkan(server, "export", "--attempts").stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["a.1", "a.2"]


def test_rows_that_are_none_are_left_out_and_told_of(server: LedgerServer) -> None:
    server.use(lambda accounts: accounts.settle([Settlement("b", (), Amounts(), Amounts(), b"{}", was_admitted=False)]))
    server.append(row("a"))
    result = genkan(server, "export")
    assert result.stdout_bytes == row("a") + b"\n"
    assert "left out: 1 malformed rows\n" in result.stderr


def test_what_is_no_cursor_is_an_error(server: LedgerServer) -> None:
    for garbage in ("yesterday", "1", "1-", "1-1 ", "1-1\n", "-", "$", "٣-٣"):
        result = genkan(server, "export", "--format", "csv", "--after", garbage)
        assert (result.exit_code, result.stdout) == (2, ""), garbage
        assert "must be a cursor" in result.stderr


def test_an_interrupted_export_says_how_far_it_came(server: LedgerServer, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row(f"req_{number}") for number in range(700)]
    server.append(*rows)
    whole = genkan(server, "export", "--limit", "500")

    async def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(asyncio, "sleep", interrupted)  # after the first page
    result = genkan(server, "export")
    assert result.exit_code == 1
    assert result.stdout_bytes == whole.stdout_bytes
    assert f"cursor: {cursor_of(whole)}\n" in result.stderr


def test_lists_lost_requests_but_not_those_that_were_found(server: LedgerServer) -> None:
    async def lose(accounts: Accounts) -> None:
        lease = (Line("t:acme:concurrent", "lease", Unit.REQUESTS, 9, 0.001),)
        for name in ("a", "b"):
            await accounts.admit(Admission(name, lease, Amounts(), lost_row(name)), timeout_s=10)
        while not (closed := await accounts.close_lost()):
            pass
        while closed < 2:
            closed += await accounts.close_lost()
        assert await accounts.settle([Settlement("a", lease, Amounts(), Amounts(), row("a"))]) == ["late"]
        await append(accounts, [row("c")])

    server.use(lose)
    result = genkan(server, "lost")
    assert (result.exit_code, result.stdout) == (0, "2026-11-30T00:01:00+00:00  b  acme  key_1  default\n")
    assert genkan(server, "lost", "--json").stdout_bytes == lost_row("b") + b"\n"
    assert genkan(server, "lost", "--since", "2026-12-01").stdout == ""


def test_a_ledger_that_agrees_with_the_upstream(server: LedgerServer, tmp_path: Path) -> None:
    server.append(row("a"), row("b", attempts=[failed(1), attempt(2)]), row("c", t=DAY_1 + DAY_S))
    (tmp_path / "usage.csv").write_text(f"{HEADER}a.1,10,5,0.000054\nb.2,10,5,0.000054\n", encoding="utf-8-sig")
    result = genkan(server, "reconcile", str(tmp_path / "usage.csv"), "--until", "2026-11-30", "--upstream", "openai")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "matched                      2",
        "missing there                0",
        "missing here                 0",
        "unknown here                 0",
        "different tokens             0",
        "different cost               0",
        "duplicates there             0",
        "duplicates here              0",
        "unused                       1",
        "malformed there              0",
        "here:  3 attempts, 20 + 10 tokens (not known of 1), 0.000108000 $ (not known of 1)",
        "there: 2 attempts, 20 + 10 tokens (not known of 0), 0.000108000 $ (not known of 0)",
    ]


def test_one_that_differs_ends_with_1_and_says_where(server: LedgerServer) -> None:
    server.append(row("a"), row("b"))
    lines = '{"id":"a.1","u":{"in":10,"out":6}}\n{"id":"x.1","u":{"in":1,"out":1}}\n'
    options = ("--id-column", "id", "--prompt-column", "u.in", "--completion-column", "u.out")
    result = genkan(server, "reconcile", "-", *options, stdin=lines)
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-3:] == [
        "different tokens: a.1: here 10 + 5 tokens, 0.000054000 $; there 10 + 6 tokens, ? $",
        "missing there: b.1: here 10 + 5 tokens, 0.000054000 $; there nothing",
        "missing here: x.1: here nothing; there 1 + 1 tokens, ? $",
    ]
    answer = json.loads(genkan(server, "reconcile", "-", *options, "--json", stdin=lines).stdout)
    assert (answer["agrees"], answer["missing_here"], answer["different_tokens"]) == (False, 1, 1)


def test_how_the_upstream_rounds_can_be_tolerated(server: LedgerServer) -> None:
    server.append(row("a"))
    export = f"{HEADER}a.1,10,5,0.0001\n"
    strict = genkan(server, "reconcile", "-", "--format", "csv", stdin=export)
    lenient = genkan(server, "reconcile", "-", "--format", "csv", "--cost-tolerance-usd", "0.0001", stdin=export)
    assert (strict.exit_code, lenient.exit_code) == (1, 0)


@pytest.mark.parametrize(
    ("arguments", "stdin", "says"),
    [
        (("-", "--format", "csv"), "a,b\n", "there is no column 'request_id'; there are: a, b"),
        (("-", "--cost-tolerance-usd", "much"), "", "not a number: 'much'"),
        (("nowhere.csv",), "", "does not exist"),
    ],
)
def test_what_cannot_be_compared_ends_with_2(
    server: LedgerServer, arguments: tuple[str, ...], stdin: str, says: str
) -> None:
    result = genkan(server, "reconcile", *arguments, stdin=stdin)
    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr


@pytest.mark.parametrize(
    ("redis", "says"),
    [({"url": "memory"}, "keeps nothing"), ({"url_env": "OUR_REDIS"}, "the ledger cannot be read")],
)
@pytest.mark.parametrize("command", [("export",), ("lost",), ("reconcile", "-")])
def test_without_a_ledger_there_is_an_error(
    tmp_path: Path,
    redis: dict[str, object],
    says: str,
    command: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OUR_REDIS", "redis://:hunter2@127.0.0.1:1")
    config = tmp_path / "genkan.yaml"
    config.write_text(configuration(**redis), encoding="utf-8")
    result = genkan(LedgerServer("", config), *command)
    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr
    assert "hunter2" not in result.output


def test_the_embedded_redis_is_started_for_the_command_alone(tmp_path: Path) -> None:
    config = tmp_path / "genkan.yaml"
    config.write_text(configuration(data_dir=str(tmp_path / "data")), encoding="utf-8")
    result = genkan(LedgerServer("", config), "export")
    assert (result.exit_code, result.stdout) == (0, "")
