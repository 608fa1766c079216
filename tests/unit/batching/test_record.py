"""Counts and percentiles."""

from hypothesis import given
from hypothesis import strategies as st

from genkan.batching.record import BatchRecord, nearest_rank


def test_before_the_first_batch_all_is_zero() -> None:
    statistics = BatchRecord().statistics(queue_size=0)
    assert (statistics.batches, statistics.mean_batch_size, statistics.latency_p50_s, statistics.latency_p95_s) == (
        0, 0.0, 0.0, 0.0,
    )  # fmt: skip


def test_it_counts_batches_and_items() -> None:
    record = BatchRecord()
    for size in (1, 2, 6):
        record.began(size)
        record.ended([0.5] * size, answered=size - 1, failed=1)
    statistics = record.statistics(queue_size=7)
    assert (statistics.queue_size, statistics.batches, statistics.mean_batch_size) == (7, 3, 3.0)
    assert (statistics.answered, statistics.failed) == (6, 3)


def test_percentiles_are_of_the_last_latencies() -> None:
    record = BatchRecord()
    record.ended([9.0] * 5000, answered=5000, failed=0)
    record.ended([number / 1000 for number in range(1, 1025)], answered=1024, failed=0)
    statistics = record.statistics(queue_size=0)
    assert (statistics.latency_p50_s, statistics.latency_p95_s) == (0.512, 0.973)


@given(st.lists(st.floats(0, 10), min_size=1), st.floats(0.01, 1.0))
def test_a_percentile_is_the_least_that_enough_do_not_exceed(values: list[float], share: float) -> None:
    found = nearest_rank(sorted(values), share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values)
    assert sum(value < found for value in values) < share * len(values)
