"""Sums of what an arm measured."""

import math
import statistics

import pytest
from hand_clock import HandClock
from hypothesis import given, settings
from hypothesis import strategies as st

from genkan.gateway.arm import Sample
from genkan.gateway.canary.sums import NAMES, ArmRecorder, ArmSums

SECONDS = st.floats(1e-4, 3600)
SAMPLES = st.lists(
    st.builds(
        Sample,
        ok=st.booleans(),
        seconds=SECONDS,
        is_stream=st.booleans(),
        ttft_s=st.none() | SECONDS,
        cost_nano_usd=st.none() | st.integers(0, 10**12),
        tokens=st.none() | st.integers(0, 10**6),
    ),
    max_size=20,
)


def summed(samples: list[Sample]) -> ArmSums:
    sums = ArmSums()
    for sample in samples:
        sums.add(sample)
    return sums


@settings(max_examples=40)
@given(SAMPLES, SAMPLES, SAMPLES)
def test_merging_is_associative_and_the_order_does_not_matter(
    one: list[Sample], two: list[Sample], three: list[Sample]
) -> None:
    whole = pytest.approx(list(summed(one + two + three).values()), rel=1e-12, abs=1e-9)
    a, b, c = summed(one), summed(two), summed(three)
    assert list(a.merged(b).merged(c).values()) == whole
    assert list(a.merged(b.merged(c)).values()) == whole
    assert list(c.merged(a).merged(b).values()) == whole


@settings(max_examples=40)
@given(SAMPLES)
def test_names_lead_there_and_back(samples: list[Sample]) -> None:
    sums = summed(samples)
    named = sums.named("canary") | summed([]).named("control")
    assert list(ArmSums.from_named("canary", named).values()) == list(sums.values())
    assert not any(ArmSums.from_named("control", named).values())
    assert len(list(sums.values())) == len(NAMES)


def test_a_failure_counts_and_has_no_figures() -> None:
    sums = summed([Sample(False, 9.0, True, 1.0, 5, 5), Sample(True, 2.0, False, None, None, 7)])
    assert (sums.n, sums.failures, sums.latency.count, sums.latency.mean) == (2, 1, 1, 2.0)
    assert (sums.ttft.count, sums.cost.mean, sums.tokens.mean) == (0, None, 7.0)


def test_only_streams_have_a_first_token() -> None:
    sums = summed([Sample(True, 2.0, True, 0.5, 1, 1), Sample(True, 2.0, False, 0.1, 1, 1)])
    assert (sums.ttft.count, sums.ttft.mean) == (1, 0.5)


def test_nothing_and_no_time_have_logarithms() -> None:
    sums = summed([Sample(True, 0.0, True, 0.0, 0, 0)])
    assert all(map(math.isfinite, sums.values()))
    assert sums.cost.log_mean == sums.tokens.log_mean == 0.0


def test_mean_and_variance_of_logarithms_are_those_of_a_sample() -> None:
    seconds = [0.004 * 1.001**power for power in range(1000)]
    sums = summed([Sample(True, each, False, None, 10**9 + place, None) for place, each in enumerate(seconds)])
    logs = [math.log(each) for each in seconds]
    assert sums.latency.log_mean == pytest.approx(statistics.fmean(logs), rel=1e-12)
    assert sums.latency.log_variance == pytest.approx(statistics.variance(logs), rel=1e-10)
    assert sums.cost.log_variance < 1e-12  # they hardly differ, and it is never below 0


def test_what_is_taken_is_gone() -> None:
    recorder = ArmRecorder("canary", HandClock())
    recorder.ended(Sample(True, 1.0, False, None, None, None))
    assert recorder.take().n == 1
    assert recorder.take().n == 0


def test_what_begins_anew_counts_only_what_began_since() -> None:
    recorder = ArmRecorder("canary", clock := HandClock())
    recorder.ended(Sample(True, 1.0, False, None, None, None))
    recorder.restart()
    clock.advance(5.0)
    recorder.ended(Sample(True, 5.5, False, None, None, None))
    recorder.ended(Sample(False, 0.5, False, None, None, None))
    taken = recorder.take()
    assert (taken.n, taken.failures) == (1, 1)
