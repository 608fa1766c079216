"""How canaries and what they are compared with do, as metrics; their names, units, labels and buckets."""

from typing import Final

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from genkan.gateway.arm import Sample
from genkan.gateway.canary.experiment import State
from genkan.gateway.canary.record import AUTO, Record
from genkan.telemetry.bound import Bound
from genkan.telemetry.tally import Tally

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_STATES: Final[dict[State, int]] = {"running": 0, "no_worse": 1, "worse": 2, "promoted": 3, "rolled_back": 4}
_NANO: Final = 10**9


class CanaryMetrics:
    """An ArmObserver and a CanaryObserver. Cost: about 1 µs a request.

    Labels are bounded by the configuration and by our own codes: who overrides a decision is in the audit only.
    """

    def __init__(self, tally: Tally, registry: CollectorRegistry = REGISTRY) -> None:
        self._tally = tally
        self._of = Bound().of
        self._declare_arms(registry)
        self._state = Gauge(
            "genkan_canary_state",
            "0 running, 1 found no worse, 2 found worse, 3 promoted, 4 rolled back",
            ["route"],
            multiprocess_mode="livemostrecent",
            registry=registry,
        )
        self._decisions = Counter(
            "genkan_canary_decisions", "Canaries decided or begun anew", ["route", "state", "by"], registry=registry
        )
        self._dropped = Counter(
            "genkan_canary_shadows_dropped", "Copies not made as too many were under way", ["route"], registry=registry
        )

    def _declare_arms(self, registry: CollectorRegistry) -> None:
        arm = ["route", "arm"]
        self._requests = Counter(
            "genkan_canary_requests",
            "Requests of an experiment: ok, or failed by what the arm tries",
            [*arm, "outcome"],
            registry=registry,
        )
        self._seconds = Histogram(
            "genkan_canary_seconds",
            "From admission to the end of an answer that did not fail",
            arm,
            buckets=_SECONDS,
            registry=registry,
        )
        self._ttft = Histogram(
            "genkan_canary_ttft_seconds",
            "From admission to the first token of a stream that did not fail",
            arm,
            buckets=_SECONDS,
            registry=registry,
        )
        self._cost = Counter("genkan_canary_cost_usd", "What an arm's answers cost", arm, registry=registry)
        self._tokens = Counter("genkan_canary_tokens", "Tokens of an arm's answers", arm, registry=registry)

    def watched(self, route: str) -> None:
        """The route has a canary, of which nothing else is known yet."""
        self._of(self._state, route).set(_STATES["running"])

    def measured(self, route: str, arm: str, sample: Sample) -> None:
        count, of = self._tally.count, self._of
        count(of(self._requests, route, arm, "ok" if sample.ok else "failed"))
        if sample.cost_nano_usd:
            count(of(self._cost, route, arm), sample.cost_nano_usd / _NANO)
        if sample.tokens:
            count(of(self._tokens, route, arm), sample.tokens)
        if sample.ok:
            self._tally.observe(of(self._seconds, route, arm), sample.seconds)
            if sample.is_stream and sample.ttft_s is not None:
                self._tally.observe(of(self._ttft, route, arm), sample.ttft_s)

    def shadow_dropped(self, route: str) -> None:
        self._tally.count(self._of(self._dropped, route))

    def canary_changed(self, route: str, before: State, after: State, record: Record | None, *, is_ours: bool) -> None:
        self._of(self._state, route).set(_STATES[after])
        if is_ours:
            by = "auto" if record is not None and record.by == AUTO else "admin"  # who begins anew leaves no record
            self._tally.count(self._of(self._decisions, route, after, by))
