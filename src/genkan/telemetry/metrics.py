"""Every metric: its name, unit, labels and buckets.

BentoML collects the values of all processes in files and shows them together on ``GET /metrics``.
"""

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from genkan.engine.statistics import EngineStatistics

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class HttpMetrics:
    """Requests as clients see them. Labels are bounded: ``path`` is a known path or "other"."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._seconds = Histogram(
            "genkan_request_seconds",
            "From a request's headers to the end of its answer",
            ["path"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._requests = Counter("genkan_requests", "Requests answered", ["path", "status"], registry=registry)

    def finished(self, path: str, status: int, seconds: float) -> None:
        self._seconds.labels(path).observe(seconds)
        self._requests.labels(path, str(status)).inc()


class EngineMetrics:
    """What the engine does now. One process writes them, so the newest value is the value."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._running = _gauge("genkan_engine_running_sequences", "Sequences in generation", registry)
        self._waiting = _gauge("genkan_engine_waiting_sequences", "Sequences in the queue", registry)
        self._tokens = Counter("genkan_engine_generated_tokens", "Tokens generated", registry=registry)
        self._counted_tokens = 0
        self.changed(EngineStatistics(running=0, waiting=0, generated_tokens=0))  # not those of a process before us

    def changed(self, statistics: EngineStatistics) -> None:
        self._running.set(statistics.running)
        self._waiting.set(statistics.waiting)
        self._tokens.inc(statistics.generated_tokens - self._counted_tokens)
        self._counted_tokens = statistics.generated_tokens


def _gauge(name: str, what: str, registry: CollectorRegistry) -> Gauge:
    return Gauge(name, what, multiprocess_mode="mostrecent", registry=registry)
