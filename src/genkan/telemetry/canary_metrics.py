"""How canaries and what they are compared with do, as metrics."""

from typing import Final

from prometheus_client import REGISTRY, CollectorRegistry

from genkan.gateway.arm import Sample
from genkan.gateway.canary.experiment import State
from genkan.gateway.canary.record import AUTO, Record
from genkan.telemetry import catalog
from genkan.telemetry.bound import Bound
from genkan.telemetry.tally import Tally

_STATES: Final[dict[State, int]] = {"running": 0, "no_worse": 1, "worse": 2, "promoted": 3, "rolled_back": 4}
_NANO: Final = 10**9


class CanaryMetrics:
    """An ArmObserver and a CanaryObserver. Cost: about 1 µs a request.

    Labels are bounded by the configuration and by our own codes: who overrides a decision is in the audit only.
    """

    def __init__(self, tally: Tally, registry: CollectorRegistry = REGISTRY) -> None:
        self._tally = tally
        self._of = Bound().of
        self._state = catalog.CANARY_STATE.on(registry)
        self._decisions = catalog.CANARY_DECISIONS.on(registry)
        self._dropped = catalog.CANARY_SHADOWS_DROPPED.on(registry)
        self._requests = catalog.CANARY_REQUESTS.on(registry)
        self._seconds = catalog.CANARY_SECONDS.on(registry)
        self._ttft = catalog.CANARY_TTFT_SECONDS.on(registry)
        self._cost = catalog.CANARY_COST_USD.on(registry)
        self._tokens = catalog.CANARY_TOKENS.on(registry)

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
