"""Whether prompts go where their beginning is known, as metrics."""

from collections.abc import Mapping
from typing import Final

from prometheus_client import REGISTRY, CollectorRegistry

from genkan.gateway.affinity import Affinity
from genkan.telemetry import catalog
from genkan.telemetry.tally import Tally

_OUTCOMES: Final = ("kept", "spilled", "left_alone")


class AffinityMetrics:
    """Shows what each Affinity counts, by ``model``, whenever the tally writes: a request pays for no more."""

    def __init__(
        self, tally: Tally, affinities: Mapping[str, Affinity], registry: CollectorRegistry = REGISTRY
    ) -> None:
        """``affinities`` by the names of models."""
        requests = catalog.AFFINITY_REQUESTS.on(registry)
        self._shown = [
            (affinity, [requests.labels(model, outcome) for outcome in _OUTCOMES])
            for model, affinity in affinities.items()
        ]
        self._seen = [(0, 0, 0)] * len(self._shown)
        tally.before_writing(self._write)

    def _write(self) -> None:
        for place, (affinity, counters) in enumerate(self._shown):
            before, self._seen[place] = self._seen[place], affinity.counts
            for counter, seen, number in zip(counters, before, self._seen[place], strict=True):
                if number > seen:
                    counter.inc(number - seen)
