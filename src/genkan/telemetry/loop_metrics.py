"""How far a worker's event loop lags behind, and what it refuses for that, as metrics."""

from prometheus_client import REGISTRY, CollectorRegistry

from genkan.telemetry import catalog
from genkan.telemetry.bound import Bound
from genkan.telemetry.tally import Tally


class LoopMetrics:
    """Told by a LoopWatch of its looks, and by Shedding of each request that it refuses."""

    def __init__(self, tally: Tally, registry: CollectorRegistry = REGISTRY) -> None:
        self._tally = tally
        self._lag = catalog.LOOP_LAG_SECONDS.on(registry)
        self._shed = catalog.SHED.on(registry)
        self._of = Bound().of

    def looked(self, now_s: float, lag_s: float, own_lag_s: float) -> None:
        """See LoopWatch."""
        self._tally.observe(self._lag, lag_s)

    def finished(self, path: str, status: int, seconds: float) -> None:
        """A request to ``path`` was refused, at once."""
        self._tally.count(self._of(self._shed, path))
