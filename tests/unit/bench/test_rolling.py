"""What `make soak-rolling` makes of what it counted."""

from genkan.bench.rolling import Counts, is_lossless, result_of


def counts() -> Counts:
    return Counts(sent=3, answered={"a", "b", "c"}, waits_ms=[1.0], drains_s=[1.0], stops_s=[2.0, 3.0], starts_s=[4.0])


def test_each_answer_is_a_row() -> None:
    result = result_of(counts(), 5, ["c", "a", "b"])
    assert is_lossless(result)
    assert (result["requests"], result["rows"], result["restarts"], result["refused_and_retried"]) == (3, 3, 2, 5)
    assert result["stop_s"] == 3.0


def test_a_row_too_few_or_too_many_is_a_loss() -> None:
    for rows, name in (
        (["a", "b"], "rows_missing"),
        (["a", "b", "c", "c"], "rows_twice"),
        (["a", "b", "c", "d"], "rows_of_no_answer"),
    ):
        result = result_of(counts(), 0, rows)
        assert result[name] == 1
        assert not is_lossless(result)


def test_a_failed_request_is_a_loss() -> None:
    failed = counts()
    failed.failures["OSError: gone"] += 1
    assert not is_lossless(result_of(failed, 0, ["a", "b", "c"]))
