"""Reading rows."""

import json
from typing import Any

import pytest
from ledger_rows import DAY_1, attempt, failed, lost_row, row, stored_row

from genkan.gateway.ledger_row import AttemptRow, read_row
from genkan.wire.usage import Usage


def test_reads_everything_of_a_row() -> None:
    read = read_row(row(key=None, stream=True, late=True))
    assert read is not None
    assert (read.id, read.t_s, read.tenant, read.key, read.route) == ("req_1", DAY_1 + 60, "acme", None, "default")
    assert (read.stream, read.state, read.late, read.estimated) == (True, "ok", True, False)
    assert (read.usage, read.cost_nano_usd, read.saved_nano_usd) == (Usage(10, 5, 4, 0), 54_000, 6_000)
    assert read.attempts == (AttemptRow(1, "gpt-4.1@openai", "ok", Usage(10, 5, 4, 0), False, 54_000, 0.25),)


@pytest.mark.parametrize(("answered", "deployment"), [(1, "a@x"), (2, "b@y"), (None, "b@y")])
def test_the_deployment_is_that_which_answered_or_else_the_last(answered: int | None, deployment: str) -> None:
    read = read_row(row(attempts=[attempt(1, "a@x"), failed(2, "b@y")], answered=answered))
    assert read is not None
    assert read.deployment == deployment


def test_a_lost_row_has_no_attempts() -> None:
    read = read_row(lost_row())
    assert read is not None
    assert (read.state, read.deployment, read.usage, read.cost_nano_usd) == ("lost", "", None, None)


def test_a_stored_answer_has_the_deployment_that_had_given_it() -> None:
    read = read_row(stored_row(tier="semantic"))
    assert read is not None
    assert (read.tier, read.deployment, read.cost_nano_usd, read.saved_nano_usd) == (
        "semantic",
        "gpt-4.1@openai",
        0,
        54_000,
    )


@pytest.mark.parametrize("stored", [{}, {"tier": "exact"}, {"tier": 1, "deployment": "a"}, "exact", [1]])
def test_what_is_no_stored_answer_makes_no_row(stored: object) -> None:
    assert read_row(row(stored=stored)) is None


def test_what_it_does_not_know_it_ignores() -> None:
    assert read_row(row(invented=1)) == read_row(row())


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b"{}", b'"req_1"', b"\xff", b"[" * 5000])
def test_what_is_no_row_is_none(raw: bytes) -> None:
    assert read_row(raw) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", 1),
        ("t", "yesterday"),
        ("t", -1),
        ("t", 1e300),
        ("t", True),
        ("tenant", None),
        ("key", 1),
        ("route", None),
        ("stream", 1),
        ("state", None),
        ("late", "true"),
        ("usage", {}),
        ("usage", {"prompt": -1, "completion": 1}),
        ("usage", {"prompt": 1.5, "completion": 1}),
        ("usage", {"prompt": True, "completion": 1}),
        ("usage", [1, 2]),
        ("estimated", None),
        ("cost_nano_usd", 0.5),
        ("cost_nano_usd", -1),
        ("saved_nano_usd", None),
        ("answered", 0),
        ("answered", 2),
        ("answered", True),
        ("attempts", None),
        ("attempts", [1]),
        ("attempts", [attempt(cost_nano_usd="1")]),
        ("attempts", [{"n": 1}]),
    ],
)
def test_a_wrong_field_makes_it_none(field: str, value: Any) -> None:
    assert read_row(json.dumps(json.loads(row()) | {field: value}).encode()) is None


@pytest.mark.parametrize("field", ["id", "t", "tenant", "key", "route", "state", "usage", "cost_nano_usd"])
def test_a_missing_field_makes_it_none(field: str) -> None:
    fields = json.loads(row())
    del fields[field]
    assert read_row(json.dumps(fields).encode()) is None
