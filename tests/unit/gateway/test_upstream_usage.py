"""Exports of upstreams."""

import pytest

from genkan.gateway.reconciliation import Used
from genkan.gateway.upstream_usage import Columns, Record, read_csv, read_jsonl

COLUMNS = Columns()


def test_csv_with_columns_in_any_order_and_more_of_them() -> None:
    lines = ["model,cost_usd,completion_tokens,prompt_tokens,request_id\n", "m,0.000054,5,10,req_1.1\n"]
    assert list(read_csv(lines, COLUMNS)) == [Record("req_1.1", Used(10, 5, 54_000))]


def test_csv_with_names_of_its_own_and_without_cost() -> None:
    columns = Columns("client id", "in", "out", None)
    assert list(read_csv(["client id,in,out\n", " a.1 , 1 ,2\n"], columns)) == [Record("a.1", Used(1, 2, None))]


def test_cost_may_be_missing_as_a_column_or_in_a_record() -> None:
    assert list(read_csv(["request_id,prompt_tokens,completion_tokens\n", "a,1,2\n"], COLUMNS)) == [
        Record("a", Used(1, 2, None))
    ]
    assert list(read_csv(["request_id,prompt_tokens,completion_tokens,cost_usd\n", "a,1,2,\n"], COLUMNS)) == [
        Record("a", Used(1, 2, None))
    ]


@pytest.mark.parametrize("header", ["request_id,prompt_tokens\n", "a\n", ""])
def test_a_missing_column_is_named_with_those_that_are_there(header: str) -> None:
    with pytest.raises(ValueError, match=r"there is no column '\w+'; there are: "):
        list(read_csv([header] if header else [], COLUMNS))


@pytest.mark.parametrize(
    "cells", ["a,x,1,", "a,-1,1,", "a,1.5,1,", "a,1,,", "a,1,1,free", "a,1,1,NaN", "a,1", "a,٣,1,"]
)
def test_a_record_that_cannot_be_read_is_none(cells: str) -> None:
    lines = ["request_id,prompt_tokens,completion_tokens,cost_usd\n", f"{cells}\n", "b,1,1,1\n"]
    assert list(read_csv(lines, COLUMNS)) == [None, Record("b", Used(1, 1, 10**9))]


def test_what_is_not_csv_is_refused_with_its_line() -> None:
    with pytest.raises(ValueError, match="after line 1 is not CSV"):
        list(read_csv(["request_id,prompt_tokens,completion_tokens\n", '"a" b,1,2\n'], COLUMNS))


def test_jsonl_with_objects_inside_and_exact_money() -> None:
    columns = Columns("metadata.id", "usage.prompt_tokens", "usage.completion_tokens", "cost")
    line = '{"metadata":{"id":"a.1"},"usage":{"prompt_tokens":1,"completion_tokens":2},"cost":1.1e-5}'
    assert list(read_jsonl([line, "\n"], columns)) == [Record("a.1", Used(1, 2, 11_000))]


def test_a_dot_may_belong_to_the_name() -> None:
    line = '{"request_id":"a","usage.in":1,"usage":{"in":3},"completion_tokens":2}'
    assert list(read_jsonl([line], Columns(prompt_tokens="usage.in"))) == [Record("a", Used(1, 2, None))]


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[1]",
        "null",
        '{"request_id":"a"}',
        '{"request_id":"a","prompt_tokens":1.0,"completion_tokens":1}',
        '{"request_id":"a","prompt_tokens":true,"completion_tokens":1}',
        '{"request_id":"a","prompt_tokens":1,"completion_tokens":1,"cost_usd":true}',
        '{"request_id":"a","prompt_tokens":1,"completion_tokens":1,"cost_usd":NaN}',
        '{"request_id":"a","prompt_tokens":1,"completion_tokens":99999999999999999999}',
        "[" * 100_000,
    ],
)
def test_a_line_that_cannot_be_read_is_none(line: str) -> None:
    assert list(read_jsonl([line], COLUMNS)) == [None]


def test_a_record_without_an_id_is_nobodys() -> None:
    line = '{"request_id":null,"prompt_tokens":1,"completion_tokens":2}'
    assert list(read_jsonl([line], COLUMNS)) == [Record("", Used(1, 2, None))]
