"""What goes on between the gateway and its upstreams, as it is scraped."""

import pytest
from prometheus_client import CollectorRegistry

from genkan.gateway.breaker import State
from genkan.gateway.observer import GatewayObserver
from genkan.telemetry.gateway_metrics import GatewayMetrics
from genkan.telemetry.tally import Tally

A = {"deployment": "m@a"}


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> GatewayObserver:
    return GatewayMetrics(Tally(), registry)


def test_attempts_are_counted_by_deployment_and_outcome(metrics: GatewayObserver, registry: CollectorRegistry) -> None:
    for outcome in ("ok", "ok", "upstream_error"):
        metrics.attempted("m@a", outcome, 0.3)
    metrics.attempted("m@b", "ok", 0.3)
    counted = [
        registry.get_sample_value("genkan_attempts_total", {"deployment": deployment, "outcome": outcome})
        for deployment, outcome in (("m@a", "ok"), ("m@a", "upstream_error"), ("m@b", "ok"), ("m@b", "upstream_error"))
    ]
    assert counted == [2.0, 1.0, 1.0, None]


def test_attempts_are_timed(metrics: GatewayObserver, registry: CollectorRegistry) -> None:
    for seconds in (0.004, 0.3, 700.0):
        metrics.attempted("m@a", "ok", seconds)
    assert registry.get_sample_value("genkan_attempt_seconds_sum", A) == pytest.approx(700.304)
    buckets = [
        registry.get_sample_value("genkan_attempt_seconds_bucket", {**A, "le": le})
        for le in ("0.005", "0.25", "0.5", "600.0", "+Inf")
    ]
    assert buckets == [1.0, 1.0, 2.0, 2.0, 3.0]


def test_first_tokens_retries_and_fallbacks_are_counted(metrics: GatewayObserver, registry: CollectorRegistry) -> None:
    metrics.first_token("m@a", 0.2)
    metrics.retried("m@a")
    metrics.retried("m@a")
    metrics.fell_back("route", "upstream_error")
    assert registry.get_sample_value("genkan_upstream_ttft_seconds_sum", A) == 0.2
    assert registry.get_sample_value("genkan_upstream_ttft_seconds_count", A) == 1.0
    assert registry.get_sample_value("genkan_retries_total", A) == 2.0
    labels = {"route": "route", "reason": "upstream_error"}
    assert registry.get_sample_value("genkan_fallbacks_total", labels) == 1.0


def test_a_breaker_shows_its_changes_and_its_state(metrics: GatewayObserver, registry: CollectorRegistry) -> None:
    changes: list[tuple[State, State, float]] = [
        ("closed", "open", 2.0),
        ("open", "half_open", 1.0),
        ("half_open", "open", 2.0),
        ("open", "half_open", 1.0),
        ("half_open", "closed", 0.0),
    ]
    for before, after, shown in changes:
        metrics.breaker_changed("m@a", before, after)
        assert registry.get_sample_value("genkan_breaker_state", A) == shown
    counted = {
        to: registry.get_sample_value("genkan_breaker_changes_total", {**A, "to": to})
        for to in ("open", "half_open", "closed")
    }
    assert counted == {"open": 2.0, "half_open": 2.0, "closed": 1.0}


def test_metrics_with_the_same_labels_are_kept_apart(metrics: GatewayObserver, registry: CollectorRegistry) -> None:
    metrics.retried("m@a")
    metrics.first_token("m@a", 1.5)
    metrics.attempted("m@a", "open", 0.1)
    metrics.breaker_changed("m@a", "closed", "open")
    assert registry.get_sample_value("genkan_retries_total", A) == 1.0
    assert registry.get_sample_value("genkan_attempt_seconds_count", A) == 1.0
    assert registry.get_sample_value("genkan_attempts_total", {**A, "outcome": "open"}) == 1.0
    assert registry.get_sample_value("genkan_breaker_changes_total", {**A, "to": "open"}) == 1.0
