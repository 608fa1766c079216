"""Counts that wait, against the same counted at once."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram

from genkan.telemetry.tally import FLUSH_S, Tally

BUCKETS = (0.1, 1.0, 10.0)


def samples(registry: CollectorRegistry) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if not sample.name.endswith("_created")
    }


@given(st.lists(st.sampled_from([0.0, 0.05, 0.1, 0.5, 1.0, 9.0, 10.0, 11.0, 1e6])))
def test_a_histogram_holds_what_it_would_have_observed(values: list[float]) -> None:
    at_once, tallied = CollectorRegistry(), CollectorRegistry()
    expected = Histogram("h", "-", ["l"], buckets=BUCKETS, registry=at_once).labels("a")
    found = Histogram("h", "-", ["l"], buckets=BUCKETS, registry=tallied).labels("a")

    async def observe() -> None:
        tally = Tally()
        for value in values:
            tally.observe(found, value)
        tally.flush()

    for value in values:
        expected.observe(value)
    asyncio.run(observe())
    assert samples(tallied) == pytest.approx(samples(at_once))


@pytest.mark.anyio
async def test_what_waits_is_written_by_itself_again_and_again() -> None:
    registry = CollectorRegistry()
    counter = Counter("c", "-", registry=registry)
    written = asyncio.Event()

    class Watched(Tally):
        def flush(self) -> None:
            super().flush()
            written.set()

    tally = Watched()
    for expected in (2, 4):
        tally.count(counter)
        tally.count(counter)
        assert registry.get_sample_value("c_total") == expected - 2
        await asyncio.wait_for(written.wait(), 50 * FLUSH_S)
        assert registry.get_sample_value("c_total") == expected
        written.clear()


@given(st.lists(st.one_of(st.integers(0, 10**9), st.floats(0, 1e6))))
def test_a_counter_holds_the_sum_of_what_was_counted(values: list[float]) -> None:
    registry = CollectorRegistry()
    counter = Counter("c", "-", registry=registry)

    async def count() -> None:
        tally = Tally()
        for value in values:
            tally.count(counter, value)
        assert registry.get_sample_value("c_total") == 0  # it waits
        tally.flush()

    asyncio.run(count())
    assert registry.get_sample_value("c_total") == pytest.approx(sum(values))


def test_what_took_a_time_is_counted_and_observed() -> None:
    registry = CollectorRegistry()
    counter = Counter("c", "-", registry=registry)
    histogram = Histogram("h", "-", buckets=BUCKETS, registry=registry)

    async def count() -> None:
        tally = Tally()
        tally.took(counter, histogram, 0.5)
        tally.took(counter, histogram, 20.0)
        assert registry.get_sample_value("c_total") == 0  # it waits
        tally.flush()

    asyncio.run(count())
    assert registry.get_sample_value("c_total") == 2
    assert (registry.get_sample_value("h_count"), registry.get_sample_value("h_sum")) == (2, 20.5)
    assert registry.get_sample_value("h_bucket", {"le": "1.0"}) == 1


def test_without_an_event_loop_nothing_waits() -> None:
    registry = CollectorRegistry()
    Tally().count(Counter("c", "-", registry=registry))
    assert registry.get_sample_value("c_total") == 1
