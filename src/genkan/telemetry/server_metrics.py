"""What becomes of the model servers that genkan starts, as metrics."""

from collections.abc import Sequence

from prometheus_client import REGISTRY, CollectorRegistry

from genkan.telemetry import catalog


class ServerMetrics:
    """By ``upstream``. One process writes them, so the newest value is the value."""

    def __init__(self, names: Sequence[str], registry: CollectorRegistry = REGISTRY) -> None:
        up, starts = catalog.SERVER_UP.on(registry), catalog.SERVER_STARTS.on(registry)
        self._up = {name: up.labels(name) for name in names}
        self._starts = {name: starts.labels(name) for name in names}
        for gauge in self._up.values():
            gauge.set(0)

    def staged(self, name: str, stage: str) -> None:
        """The server of that name is at another ``stage`` of its life: see genkan.model_servers.supervision."""
        self._up[name].set(stage == "well")
        if stage == "starting":
            self._starts[name].inc()
