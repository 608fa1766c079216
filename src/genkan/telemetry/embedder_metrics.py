"""What the embedder does, as metrics."""

from prometheus_client import REGISTRY, CollectorRegistry

from genkan.telemetry import catalog


class EmbedderMetrics:
    """An EmbedderObserver. One process writes them, so the newest value is the value."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._batch = catalog.EMBEDDER_BATCH.on(registry)
        self._seconds = catalog.EMBEDDER_SECONDS.on(registry)
        self._queue = catalog.EMBEDDER_QUEUE.on(registry)
        self._refused = catalog.EMBEDDER_REFUSED.on(registry)
        self._queue.set(0)  # not that of a process before us

    def queued(self, requests: int) -> None:
        self._queue.set(requests)

    def refused(self) -> None:
        self._refused.inc()

    def computed(self, texts: int, seconds: float) -> None:
        self._batch.observe(texts)
        self._seconds.observe(seconds)
