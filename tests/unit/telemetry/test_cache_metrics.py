"""What becomes of stored answers, as it is scraped."""

import pytest
from prometheus_client import CollectorRegistry

from genkan.cache.observer import CacheObserver
from genkan.telemetry.cache_metrics import CacheMetrics
from genkan.telemetry.tally import Tally


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> CacheObserver:
    return CacheMetrics(Tally(), registry)


def test_lookups_are_counted_by_route_and_result(metrics: CacheObserver, registry: CollectorRegistry) -> None:
    for route, result in (("chat", "exact"), ("chat", "exact"), ("chat", "miss"), ("other", "semantic")):
        metrics.looked(route, result)
    counted = [
        registry.get_sample_value("genkan_cache_lookups_total", {"route": route, "result": result})
        for route, result in (("chat", "exact"), ("chat", "miss"), ("other", "semantic"), ("other", "miss"))
    ]
    assert counted == [2.0, 1.0, 1.0, None]


def test_what_is_stored_is_told_in_bytes(metrics: CacheObserver, registry: CollectorRegistry) -> None:
    for n_bytes in (200, 1024, 40_000_000):
        metrics.stored("chat", n_bytes)
    assert registry.get_sample_value("genkan_cache_stored_bytes_sum", {"route": "chat"}) == 40_001_224.0
    buckets = [
        registry.get_sample_value("genkan_cache_stored_bytes_bucket", {"route": "chat", "le": le})
        for le in ("256.0", "1024.0", "1.6777216e+07", "+Inf")
    ]
    assert buckets == [1.0, 2.0, 2.0, 3.0]


def test_everything_else_is_counted_under_a_name_of_its_own(
    metrics: CacheObserver, registry: CollectorRegistry
) -> None:
    metrics.not_stored("chat", "tool_calls")
    metrics.failed("timeout")
    metrics.failed("timeout")
    metrics.coalesced("chat")
    metrics.judged("same")
    metrics.embedded(0.004)
    metrics.embedded(0.2)
    assert registry.get_sample_value("genkan_cache_not_stored_total", {"route": "chat", "reason": "tool_calls"}) == 1.0
    assert registry.get_sample_value("genkan_cache_failures_total", {"kind": "timeout"}) == 2.0
    assert registry.get_sample_value("genkan_cache_coalesced_total", {"route": "chat"}) == 1.0
    assert registry.get_sample_value("genkan_cache_judged_total", {"verdict": "same"}) == 1.0
    assert registry.get_sample_value("genkan_cache_embedding_seconds_sum") == pytest.approx(0.204)
    assert registry.get_sample_value("genkan_cache_embedding_seconds_bucket", {"le": "0.005"}) == 1.0
