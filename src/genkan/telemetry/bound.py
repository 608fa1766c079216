"""Metrics with their labels, found by a dict lookup."""

from typing import TypeVar

from prometheus_client import Counter, Gauge, Histogram

_Metric = TypeVar("_Metric", Counter, Gauge, Histogram)


class Bound:
    """Remembers every metric that it gave with its labels."""

    def __init__(self) -> None:
        self._bound: dict[tuple[object, tuple[str, ...]], Counter | Gauge | Histogram] = {}

    def of(self, metric: _Metric, *labels: str) -> _Metric:
        """``metric`` with these labels; looking them up in it costs more than counting does."""
        key = (metric, labels)
        bound = self._bound.get(key)
        if bound is None:
            bound = self._bound[key] = metric.labels(*labels)
        return bound  # type: ignore[return-value]
