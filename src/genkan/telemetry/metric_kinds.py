"""What a metric is declared with, and the prometheus_client object made from it."""

from dataclasses import dataclass
from typing import ClassVar, Final, Literal

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

#: How the values of several processes become one: `live…` forgets processes that have ended.
Mode = Literal["livesum", "livemax", "livemostrecent", "mostrecent"]

SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
SHORT_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1)


@dataclass(frozen=True, slots=True)
class CounterOf:
    """A number that only grows; it is shown as ``<name>_total``."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    unit: str = ""  # the last word of the name; "": events
    kind: ClassVar[str] = "counter"

    def on(self, registry: CollectorRegistry = REGISTRY) -> Counter:
        """The counter, registered. Raises ValueError where the registry has it already."""
        return Counter(self.name, self.help, self.labels, registry=registry)


@dataclass(frozen=True, slots=True)
class GaugeOf:
    """A number that goes up and down."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    unit: str = ""
    mode: Mode = "mostrecent"
    kind: ClassVar[str] = "gauge"

    def on(self, registry: CollectorRegistry = REGISTRY) -> Gauge:
        """The gauge, registered. Raises ValueError where the registry has it already."""
        return Gauge(self.name, self.help, self.labels, multiprocess_mode=self.mode, registry=registry)


@dataclass(frozen=True, slots=True)
class HistogramOf:
    """Values, counted by size; shown as ``<name>_bucket``, ``<name>_sum`` and ``<name>_count``."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    unit: str = "seconds"
    buckets: tuple[float, ...] = SECONDS
    kind: ClassVar[str] = "histogram"

    def on(self, registry: CollectorRegistry = REGISTRY) -> Histogram:
        """The histogram, registered. Raises ValueError where the registry has it already."""
        return Histogram(self.name, self.help, self.labels, buckets=self.buckets, registry=registry)


Entry = CounterOf | GaugeOf | HistogramOf
