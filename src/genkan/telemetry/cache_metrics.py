"""What becomes of stored answers, as metrics."""

from prometheus_client import REGISTRY, CollectorRegistry

from genkan.telemetry import catalog
from genkan.telemetry.bound import Bound
from genkan.telemetry.tally import Tally


class CacheMetrics:
    """A CacheObserver. Cost: 0.3 µs a call. Labels are bounded by the configuration and by our own codes."""

    def __init__(self, tally: Tally, registry: CollectorRegistry = REGISTRY) -> None:
        self._tally = tally
        self._of = Bound().of
        self._lookups = catalog.CACHE_LOOKUPS.on(registry)
        self._stored = catalog.CACHE_STORED_BYTES.on(registry)
        self._not_stored = catalog.CACHE_NOT_STORED.on(registry)
        self._failures = catalog.CACHE_FAILURES.on(registry)
        self._coalesced = catalog.CACHE_COALESCED.on(registry)
        self._embedding = catalog.CACHE_EMBEDDING_SECONDS.on(registry)
        self._verdicts = catalog.CACHE_JUDGED.on(registry)

    def looked(self, route: str, result: str) -> None:
        self._tally.count(self._of(self._lookups, route, result))

    def stored(self, route: str, n_bytes: int) -> None:
        self._tally.observe(self._of(self._stored, route), n_bytes)

    def not_stored(self, route: str, reason: str) -> None:
        self._tally.count(self._of(self._not_stored, route, reason))

    def failed(self, what: str) -> None:
        self._tally.count(self._of(self._failures, what))

    def coalesced(self, route: str) -> None:
        self._tally.count(self._of(self._coalesced, route))

    def embedded(self, seconds: float) -> None:
        self._tally.observe(self._embedding, seconds)

    def judged(self, verdict: str) -> None:
        self._tally.count(self._of(self._verdicts, verdict))
