"""The ledger against an upstream's own account."""

import json

import pytest
from ledger_rows import attempt, failed, lost_row, row

from genkan.gateway.ledger_row import read_row
from genkan.gateway.reconciliation import EXAMPLES, Comparison, Difference, Reconciliation, Used

THERE = Used(10, 5, 54_000)


def compared(
    rows: list[bytes], records: list[tuple[str, Used]], upstream: str | None = None, *, tolerance: int = 1
) -> Comparison:
    reconciliation = Reconciliation(upstream, cost_tolerance_nano_usd=tolerance)
    for name, used in records:
        reconciliation.add_record(name, used)
    for raw in rows:
        read = read_row(raw)
        assert read is not None
        reconciliation.add_row(read)
    return reconciliation.compared()


def found(comparison: Comparison) -> dict[str, int]:
    return {str(finding): count for finding, count in comparison.counts.items() if count}


def test_both_sides_agree() -> None:
    comparison = compared([row("a"), row("b")], [("b.1", THERE), ("a.1", THERE)])
    assert (comparison.agrees, comparison.matched, found(comparison), comparison.examples) == (True, 2, {}, [])
    assert comparison.here == comparison.there
    assert (comparison.here.attempts, comparison.here.prompt_tokens, comparison.here.cost_nano_usd) == (2, 20, 108_000)


def test_nothing_agrees_with_nothing() -> None:
    assert compared([], []).agrees


@pytest.mark.parametrize(
    ("rows", "records", "finding"),
    [
        ([row()], [], "missing_there"),
        ([], [("req_1.1", THERE)], "missing_here"),
        ([], [("", THERE)], "missing_here"),
        ([row()], [("req_1.1", Used(11, 5, 54_000))], "different_tokens"),
        ([row()], [("req_1.1", Used(10, 4, 54_000))], "different_tokens"),
        ([row()], [("req_1.1", Used(10, 5, 54_002))], "different_cost"),
        ([row()], [("req_1.1", THERE), ("req_1.1", THERE)], "duplicates_there"),
        ([row(), row()], [("req_1.1", THERE)], "duplicates_here"),
        ([row(attempts=[failed()])], [("req_1.1", THERE)], "unknown_here"),
        ([lost_row()], [("req_1.1", THERE)], "unknown_here"),
        ([lost_row(), row("req_2")], [("req_2.1", THERE), ("req_1.12", THERE)], "unknown_here"),
    ],
)
def test_each_difference_is_found(rows: list[bytes], records: list[tuple[str, Used]], finding: str) -> None:
    comparison = compared(rows, records)
    assert not comparison.agrees
    assert found(comparison) == {finding: 1}
    assert [difference.finding for difference in comparison.examples] == [finding]


def test_a_difference_says_what_each_side_has() -> None:
    (difference,) = compared([row()], [("req_1.1", Used(11, 5))]).examples
    assert difference == Difference("different_tokens", "req_1.1", Used(10, 5, 54_000), Used(11, 5, None))


def test_records_without_an_id_are_not_duplicates_of_each_other() -> None:
    assert found(compared([], [("", THERE), ("", THERE)])) == {"missing_here": 2}


def test_attempts_that_used_nothing_need_not_be_there() -> None:
    comparison = compared([row(attempts=[failed(1), attempt(2)])], [("req_1.2", THERE)])
    assert (comparison.agrees, comparison.matched, comparison.unused) == (True, 1, 1)
    assert comparison.here.unknown_tokens == 1


def test_attempts_that_used_nothing_may_be_there_with_nothing() -> None:
    assert compared([row(attempts=[failed()])], [("req_1.1", Used(0, 0, 0))]).agrees


def test_a_late_row_replaces_what_was_lost_and_is_no_duplicate() -> None:
    lost_attempt = failed() | {"state": "lost"}
    rows = [lost_row(), row(state="lost", attempts=[lost_attempt], late=True), row(late=True)]
    assert compared(rows, [("req_1.1", THERE)]).agrees


def test_only_the_attempts_at_one_upstream() -> None:
    both = row(attempts=[attempt(1, "a@x"), attempt(2, "a@xx")])
    assert compared([both], [("req_1.1", THERE)], "x").agrees
    assert found(compared([both], [("req_1.1", THERE)])) == {"missing_there": 1}


@pytest.mark.parametrize(("tolerance", "agrees"), [(0, False), (1, True)])
def test_how_the_other_side_rounds_is_tolerated(tolerance: int, agrees: bool) -> None:
    assert compared([row()], [("req_1.1", Used(10, 5, 54_001))], tolerance=tolerance).agrees is agrees


def test_cost_is_compared_only_where_both_know_it() -> None:
    comparison = compared(
        [row("a"), row("b", attempts=[attempt(cost_nano_usd=None)])], [("a.1", Used(10, 5)), ("b.1", THERE)]
    )
    assert comparison.agrees
    assert (comparison.here.unknown_cost, comparison.there.unknown_cost) == (1, 1)


def test_what_could_not_be_read_is_no_agreement() -> None:
    reconciliation = Reconciliation()
    reconciliation.add_malformed()
    assert not reconciliation.compared().agrees


def test_lists_only_so_many_differences_but_counts_them_all() -> None:
    comparison = compared([], [(f"{number}.1", THERE) for number in range(EXAMPLES + 50)])
    assert (comparison.counts["missing_here"], len(comparison.examples)) == (EXAMPLES + 50, EXAMPLES)


def test_as_json() -> None:
    answer = json.loads(json.dumps(compared([row()], [("x.1", Used(1, 2))]).as_json()))
    assert (answer["agrees"], answer["missing_there"], answer["missing_here"]) == (False, 1, 1)
    assert answer["here"]["cost_usd"] == 0.000054
    assert answer["differences"][1] == {
        "finding": "missing_here",
        "id": "x.1",
        "here": None,
        "there": {"prompt_tokens": 1, "completion_tokens": 2, "cost_nano_usd": None},
    }
