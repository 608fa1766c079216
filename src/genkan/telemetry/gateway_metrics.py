"""What goes on between the gateway and its upstreams, as metrics."""

from collections.abc import Callable
from functools import partial
from typing import Final

from prometheus_client import REGISTRY, CollectorRegistry

from genkan.gateway.breaker import State
from genkan.telemetry import catalog
from genkan.telemetry.bound import Bound
from genkan.telemetry.tally import Tally

_STATES: Final[dict[State, int]] = {"closed": 0, "half_open": 1, "open": 2}


class GatewayMetrics:
    """A GatewayObserver. Cost: 0.3 µs an attempt. Labels are bounded by the configuration and by our own codes."""

    def __init__(self, tally: Tally, registry: CollectorRegistry = REGISTRY) -> None:
        self._tally = tally
        self._attempts = catalog.ATTEMPTS.on(registry)
        self._seconds = catalog.ATTEMPT_SECONDS.on(registry)
        self._first_token = catalog.UPSTREAM_TTFT_SECONDS.on(registry)
        self._retries = catalog.RETRIES.on(registry)
        self._fallbacks = catalog.FALLBACKS.on(registry)
        self._changes = catalog.BREAKER_CHANGES.on(registry)
        self._state = catalog.BREAKER_STATE.on(registry)
        self._resumes = catalog.RESUMES.on(registry)
        self._hedges = catalog.HEDGES.on(registry)
        self._of = Bound().of
        self._took: dict[tuple[str, str], Callable[[float], None]] = {}

    def attempted(self, deployment: str, outcome: str, seconds: float) -> None:
        took = self._took.get((deployment, outcome))
        if took is None:
            attempts, in_seconds = self._attempts.labels(deployment, outcome), self._seconds.labels(deployment)
            took = self._took[deployment, outcome] = partial(self._tally.took, attempts, in_seconds)
        took(seconds)

    def first_token(self, deployment: str, seconds: float) -> None:
        self._tally.observe(self._of(self._first_token, deployment), seconds)

    def retried(self, deployment: str) -> None:
        self._tally.count(self._of(self._retries, deployment))

    def fell_back(self, route: str, reason: str) -> None:
        self._tally.count(self._of(self._fallbacks, route, reason))

    def resumed(self, route: str, way: str, outcome: str) -> None:
        self._tally.count(self._of(self._resumes, route, way, outcome))

    def hedged(self, route: str, outcome: str) -> None:
        self._tally.count(self._of(self._hedges, route, outcome))

    def breaker_changed(self, deployment: str, before: State, after: State) -> None:
        self._tally.count(self._of(self._changes, deployment, after))
        self._of(self._state, deployment).set(_STATES[after])
