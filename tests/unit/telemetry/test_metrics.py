"""Metrics as BentoML shows them."""

import pytest
from prometheus_client import CollectorRegistry

from genkan.engine.statistics import EngineStatistics
from genkan.telemetry.metrics import EngineMetrics, HttpMetrics


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def test_the_engines_gauges_are_zero_from_the_start_and_follow_it(registry: CollectorRegistry) -> None:
    value = registry.get_sample_value
    metrics = EngineMetrics(registry)
    assert value("genkan_engine_running_sequences") == 0
    assert value("genkan_engine_waiting_sequences") == 0
    metrics.changed(EngineStatistics(running=1, waiting=3, generated_tokens=10))
    metrics.changed(EngineStatistics(running=1, waiting=2, generated_tokens=25))
    assert value("genkan_engine_running_sequences") == 1
    assert value("genkan_engine_waiting_sequences") == 2
    assert value("genkan_engine_generated_tokens_total") == 25


def test_requests_are_counted_by_path_and_status(registry: CollectorRegistry) -> None:
    value = registry.get_sample_value
    metrics = HttpMetrics(registry)
    metrics.finished("/v1/models", 200, 0.25)
    metrics.finished("/v1/models", 404, 0.5)
    assert value("genkan_requests_total", {"path": "/v1/models", "status": "200"}) == 1
    assert value("genkan_request_seconds_count", {"path": "/v1/models"}) == 2
    assert value("genkan_request_seconds_sum", {"path": "/v1/models"}) == 0.75
