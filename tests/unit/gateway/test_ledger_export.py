"""Rows for other programs."""

import csv
import json

import pytest
from ledger_rows import attempt, failed, lost_row, row, stored_row

from genkan.gateway.ledger_export import ATTEMPT_COLUMNS, REQUEST_COLUMNS, Form, LedgerExport


def csv_rows(export: LedgerExport, *rows: bytes) -> list[dict[str, str]]:
    text = (export.head + b"".join(export.lines(raw) for raw in rows)).decode()
    return list(csv.DictReader(text.splitlines(keepends=True)))


def test_jsonl_is_the_row_itself() -> None:
    export = LedgerExport("jsonl")
    assert export.head == b""
    assert export.lines(row()) == row() + b"\n"


def test_a_row_is_one_line_however_it_was_written() -> None:
    indented = json.dumps(json.loads(row()), indent=1).encode()
    line = LedgerExport("jsonl").lines(indented)
    assert line.count(b"\n") == 1
    assert json.loads(line) == json.loads(row())


def test_jsonl_of_attempts_has_their_ids_and_whose_they_are() -> None:
    lines = LedgerExport("jsonl", attempts=True).lines(row(attempts=[failed(1), attempt(2)], late=True)).splitlines()
    first, second = map(json.loads, lines)
    assert (first["id"], second["id"]) == ("req_1.1", "req_1.2")
    assert (second["request"], second["tenant"], second["key"], second["route"]) == (
        "req_1",
        "acme",
        "key_1",
        "default",
    )
    assert (first["usage"], first["cost_nano_usd"], first["state"]) == (None, None, "upstream_unreachable")
    assert (second["usage"]["prompt"], second["cost_nano_usd"], second["late"]) == (10, 54_000, True)


def test_csv_of_requests() -> None:
    export = LedgerExport("csv")
    assert export.head.decode().strip().split(",") == list(REQUEST_COLUMNS)
    (found,) = csv_rows(export, row(attempts=[failed(1, "a@x"), attempt(2, "b@y")]))
    assert found == {
        "id": "req_1",
        "time": "2026-11-30T00:01:00.000+00:00",
        "tenant": "acme",
        "key": "key_1",
        "route": "default",
        "stream": "false",
        "state": "ok",
        "late": "false",
        "prompt_tokens": "10",
        "completion_tokens": "5",
        "cached_tokens": "4",
        "cache_write_tokens": "0",
        "estimated": "false",
        "cost_usd": "0.000054000",
        "saved_usd": "0.000006000",
        "attempts": "2",
        "deployments": "a@x b@y",
        "stored": "",
        "arm": "",
    }


def test_a_stored_answer_names_its_tier_and_who_had_given_it() -> None:
    (found,) = csv_rows(LedgerExport("csv"), stored_row())
    told = {name: found[name] for name in ("cost_usd", "saved_usd", "attempts", "deployments", "stored")}
    assert told == {
        "cost_usd": "0.000000000",
        "saved_usd": "0.000054000",
        "attempts": "0",
        "deployments": "gpt-4.1@openai",
        "stored": "exact",
    }


def test_csv_of_attempts() -> None:
    export = LedgerExport("csv", attempts=True)
    assert export.head.decode().strip().split(",") == list(ATTEMPT_COLUMNS)
    first, second = csv_rows(export, row(attempts=[failed(1, "a@x"), attempt(2, "b@y")]))
    assert (first["id"], first["deployment"], first["prompt_tokens"], first["cost_usd"]) == ("req_1.1", "a@x", "", "")
    assert (second["id"], second["request"], second["n"], second["cost_usd"]) == (
        "req_1.2",
        "req_1",
        "2",
        "0.000054000",
    )
    assert second["seconds"] == "0.250000"


def test_what_is_not_known_is_an_empty_cell() -> None:
    (found,) = csv_rows(LedgerExport("csv"), row(key=None, usage=None, cost_nano_usd=None))
    assert (found["key"], found["prompt_tokens"], found["cost_usd"]) == ("", "", "")


def test_csv_is_no_formula_and_stays_one_line_a_row() -> None:
    (found,) = csv_rows(LedgerExport("csv"), row(tenant='=cmd|" /C calc"!A0', route="a\nb,c"))
    assert (found["tenant"], found["route"]) == ('\'=cmd|" /C calc"!A0', "a\nb,c")


@pytest.mark.parametrize("form", ["jsonl", "csv"])
@pytest.mark.parametrize("attempts", [False, True])
def test_malformed_rows_are_left_out_and_counted(form: Form, attempts: bool) -> None:
    export = LedgerExport(form, attempts=attempts)
    assert b"".join(export.lines(raw) for raw in (b"{", b"", b"[]", b"\xff")) == b""
    assert export.malformed == 4


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_a_lost_request_is_a_line_but_has_no_attempts(form: Form) -> None:
    assert LedgerExport(form).lines(lost_row()).count(b"\n") == 1
    assert LedgerExport(form, attempts=True).lines(lost_row()) == b""
