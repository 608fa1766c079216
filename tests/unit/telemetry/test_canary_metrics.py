"""Experiments, as they are scraped."""

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from genkan.gateway.arm import Sample
from genkan.gateway.canary.record import Record
from genkan.telemetry.canary_metrics import CanaryMetrics
from genkan.telemetry.tally import Tally

WHOLE = Sample(ok=True, seconds=0.2, is_stream=False, ttft_s=None, cost_nano_usd=500_000_000, tokens=7)
STREAM = Sample(ok=True, seconds=0.4, is_stream=True, ttft_s=0.03, cost_nano_usd=None, tokens=None)
FAILED = Sample(ok=False, seconds=9.0, is_stream=True, ttft_s=4.0, cost_nano_usd=1_000_000_000, tokens=3)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> CanaryMetrics:
    return CanaryMetrics(Tally(), registry)


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(f"genkan_canary_{name}", {"route": "chat", **labels})


def test_requests_are_counted_by_arm_and_outcome(metrics: CanaryMetrics, registry: CollectorRegistry) -> None:
    for arm, sample in (("control", WHOLE), ("control", STREAM), ("canary", FAILED), ("canary", WHOLE)):
        metrics.measured("chat", arm, sample)
    counted = [
        value(registry, "requests_total", arm=arm, outcome=outcome)
        for arm, outcome in (("control", "ok"), ("control", "failed"), ("canary", "ok"), ("canary", "failed"))
    ]
    assert counted == [2.0, None, 1.0, 1.0]


def test_times_are_those_of_answers_that_did_not_fail(metrics: CanaryMetrics, registry: CollectorRegistry) -> None:
    for sample in (WHOLE, STREAM, FAILED):
        metrics.measured("chat", "canary", sample)
    assert value(registry, "seconds_sum", arm="canary") == pytest.approx(0.6)
    assert value(registry, "seconds_bucket", arm="canary", le="0.25") == 1.0
    assert (value(registry, "ttft_seconds_count", arm="canary"), value(registry, "ttft_seconds_sum", arm="canary")) == (
        1.0,
        0.03,
    )


def test_cost_and_tokens_are_all_that_was_taken(metrics: CanaryMetrics, registry: CollectorRegistry) -> None:
    for sample in (WHOLE, STREAM, FAILED):
        metrics.measured("chat", "canary", sample)
    assert value(registry, "cost_usd_total", arm="canary") == 1.5
    assert value(registry, "tokens_total", arm="canary") == 10.0


def record(by: str) -> Record:
    figures: dict[str, Any] = {}
    return Record(1.7e9, by, "rollback", "latency_ratio", "old", "new", "f00", 1, 0.05, figures)


def test_the_state_is_a_number_from_the_start(metrics: CanaryMetrics, registry: CollectorRegistry) -> None:
    assert value(registry, "state") is None
    metrics.watched("chat")
    assert value(registry, "state") == 0.0
    metrics.canary_changed("chat", "running", "rolled_back", record("auto"), is_ours=False)
    assert value(registry, "state") == 4.0
    metrics.canary_changed("chat", "rolled_back", "running", None, is_ours=False)
    assert value(registry, "state") == 0.0


def test_a_decision_is_counted_once_however_many_hear_of_it(
    metrics: CanaryMetrics, registry: CollectorRegistry
) -> None:
    metrics.canary_changed("chat", "running", "rolled_back", record("auto"), is_ours=True)
    metrics.canary_changed("chat", "running", "rolled_back", record("auto"), is_ours=False)
    metrics.canary_changed("chat", "rolled_back", "promoted", record("key_1"), is_ours=True)
    metrics.canary_changed("chat", "promoted", "running", None, is_ours=True)  # begun anew
    assert value(registry, "decisions_total", state="rolled_back", by="auto") == 1.0
    assert value(registry, "decisions_total", state="running", by="admin") == 1.0
    assert value(registry, "decisions_total", state="promoted", by="admin") == 1.0


def test_copies_that_were_not_made_are_counted(metrics: CanaryMetrics, registry: CollectorRegistry) -> None:
    metrics.shadow_dropped("chat")
    metrics.shadow_dropped("chat")
    assert value(registry, "shadows_dropped_total") == 2.0
