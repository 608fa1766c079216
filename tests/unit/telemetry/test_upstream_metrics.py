"""Connections to upstreams, as they are scraped."""

from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from genkan.telemetry.tally import Tally
from genkan.telemetry.upstream_metrics import UpstreamMetrics


@dataclass
class Upstream:
    busy: int = 0
    idle: int = 0
    waiting: int = 0


def test_connections_are_looked_at_once_a_second() -> None:
    registry, one = CollectorRegistry(), Upstream(1, 2, 3)
    metrics = UpstreamMetrics(Tally(), {"a": one, "b": Upstream()}, registry)

    def shown(upstream: str = "a") -> list[float | None]:
        names = ("busy_connections", "idle_connections", "waiting_requests")
        return [registry.get_sample_value(f"genkan_upstream_{name}", {"upstream": upstream}) for name in names]

    metrics.looked(10.0, 0.0, 0.0)
    assert (shown(), shown("b")) == ([1.0, 2.0, 3.0], [0.0, 0.0, 0.0])
    one.busy = 7
    metrics.looked(10.9, 0.0, 0.0)
    assert shown() == [1.0, 2.0, 3.0]
    metrics.looked(11.0, 0.0, 0.0)
    assert shown() == [7.0, 2.0, 3.0]


def test_waits_for_a_place_are_timed() -> None:
    registry = CollectorRegistry()
    metrics = UpstreamMetrics(Tally(), {}, registry)
    metrics.waited("a", 0.25)
    assert registry.get_sample_value("genkan_upstream_queue_seconds_sum", {"upstream": "a"}) == 0.25
