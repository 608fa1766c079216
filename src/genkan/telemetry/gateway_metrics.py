"""What goes on between the gateway and its upstreams, as metrics; their names, units, labels and buckets."""

from collections.abc import Callable
from functools import partial
from typing import Final

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from genkan.gateway.breaker import State
from genkan.telemetry.bound import Bound
from genkan.telemetry.tally import Tally

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_STATES: Final[dict[State, int]] = {"closed": 0, "half_open": 1, "open": 2}


class GatewayMetrics:
    """A GatewayObserver. Cost: about 1 µs an attempt. Labels are bounded by the configuration and by our own codes."""

    def __init__(self, tally: Tally, registry: CollectorRegistry = REGISTRY) -> None:
        self._tally = tally
        self._attempts = Counter(
            "genkan_attempts", "Attempts at deployments that ended", ["deployment", "outcome"], registry=registry
        )
        self._seconds = Histogram(
            "genkan_attempt_seconds",
            "An attempt, from its beginning to the end of its answer",
            ["deployment"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._first_token = Histogram(
            "genkan_upstream_ttft_seconds",
            "From the beginning of an attempt to the first piece of its streamed answer",
            ["deployment"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._retries = Counter(
            "genkan_retries", "Attempts at a deployment that the same request had asked", ["deployment"],
            registry=registry,
        )  # fmt: skip
        self._fallbacks = Counter(
            "genkan_fallbacks", "Requests that went on to another deployment", ["route", "reason"], registry=registry
        )
        self._changes = Counter(
            "genkan_breaker_changes", "Changes of circuit breakers", ["deployment", "to"], registry=registry
        )
        self._state = Gauge(
            "genkan_breaker_state",
            "0 closed, 1 half open, 2 open; of the worker that sees it worst",
            ["deployment"],
            multiprocess_mode="livemax",
            registry=registry,
        )
        self._resumes = Counter(
            "genkan_resumes", "Attempts to go on with a stream whose upstream had failed", ["route", "way", "outcome"],
            registry=registry,
        )  # fmt: skip
        self._hedges = Counter(
            "genkan_hedges", "Second attempts at a first token, and those there was no budget for",
            ["route", "outcome"], registry=registry,
        )  # fmt: skip
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
