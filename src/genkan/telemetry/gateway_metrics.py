"""What goes on between the gateway and its upstreams, as metrics; their names, units, labels and buckets."""

from typing import Final, TypeVar

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from genkan.gateway.breaker import State
from genkan.store.accounts import Outcome
from genkan.telemetry.tally import Tally
from genkan.wire.usage import Usage

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_STATES: Final[dict[State, int]] = {"closed": 0, "half_open": 1, "open": 2}
_NANO: Final = 10**9
_Metric = TypeVar("_Metric", Counter, Gauge, Histogram)


class GatewayMetrics:
    """A GatewayObserver, AdmissionObserver and LedgerObserver. Cost: about 1 µs an attempt, and 1 µs for its tokens.

    Labels are bounded by the configuration and by our own codes: no tenant and no key is ever one.
    """

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
        self._denied = Counter(
            "genkan_denied", "Requests that a limit or a budget refused", ["scope", "kind", "unit"], registry=registry
        )
        self._unchecked = Counter(
            "genkan_admitted_locally", "Requests let in while Redis was slow or gone", registry=registry
        )
        self._warnings = Counter(
            "genkan_budget_warnings", "Answers that warned of a budget", ["scope"], registry=registry
        )
        self._tokens = Counter(
            "genkan_tokens", "Tokens of answers; cached ones are also prompt ones", ["deployment", "kind"],
            registry=registry,
        )  # fmt: skip
        self._cost = Counter("genkan_cost_usd", "What answers cost their clients", ["deployment"], registry=registry)
        self._saved = Counter(
            "genkan_saved_usd", "What prompt tokens read from upstreams' caches saved", ["deployment"],
            registry=registry,
        )  # fmt: skip
        self._unpriced = Counter(
            "genkan_unpriced", "Answers whose price is not known", ["deployment"], registry=registry
        )
        self._settled = Counter("genkan_ledger_settled", "Requests settled in Redis", ["outcome"], registry=registry)
        self._lost = Counter("genkan_ledger_lost", "Requests closed as lost", registry=registry)
        self._left = Counter("genkan_ledger_left", "Settlements left to the journal", registry=registry)
        self._refused = Counter("genkan_ledger_refused", "Settlements that Redis does not take", registry=registry)
        self._unwritten = Counter(
            "genkan_journal_failures", "Records that could not be written to the journal at once", registry=registry
        )
        self._queued = Gauge(
            "genkan_ledger_queue",
            "Settlements that wait to be sent",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._of_answers: dict[str, tuple[Counter, ...]] = {}
        self._bound: dict[tuple[str, ...], Counter | Gauge | Histogram] = {}

    def attempted(self, deployment: str, outcome: str, seconds: float) -> None:
        self._tally.count(self._of(self._attempts, deployment, outcome))
        self._tally.observe(self._of(self._seconds, deployment), seconds)

    def first_token(self, deployment: str, seconds: float) -> None:
        self._tally.observe(self._of(self._first_token, deployment), seconds)

    def retried(self, deployment: str) -> None:
        self._tally.count(self._of(self._retries, deployment))

    def fell_back(self, route: str, reason: str) -> None:
        self._tally.count(self._of(self._fallbacks, route, reason))

    def breaker_changed(self, deployment: str, before: State, after: State) -> None:
        self._tally.count(self._of(self._changes, deployment, after))
        self._of(self._state, deployment).set(_STATES[after])

    def denied(self, kind: str, unit: str, scope: str) -> None:
        self._tally.count(self._of(self._denied, scope, kind, unit))

    def admitted_locally(self) -> None:
        self._tally.count(self._unchecked)

    def budget_is_low(self, scope: str) -> None:
        self._tally.count(self._of(self._warnings, scope))

    def billed(self, deployment: str, usage: Usage, cost_nano_usd: int | None, saved_nano_usd: int) -> None:
        bound = self._of_answers.get(deployment)
        if bound is None:
            kinds = ("prompt", "completion")
            tokens = (self._tokens.labels(deployment, kind) for kind in kinds)
            bound = self._of_answers[deployment] = (*tokens, self._cost.labels(deployment))
        count = self._tally.count
        count(bound[0], usage.prompt)
        count(bound[1], usage.completion)
        if usage.cached:
            self._tally.count(self._of(self._tokens, deployment, "cached"), usage.cached)
        if cost_nano_usd is None:
            self._tally.count(self._of(self._unpriced, deployment))
        elif cost_nano_usd:
            count(bound[2], cost_nano_usd / _NANO)
        if saved_nano_usd:
            self._tally.count(self._of(self._saved, deployment), saved_nano_usd / _NANO)

    def settled(self, outcome: Outcome, n: int) -> None:
        self._tally.count(self._of(self._settled, outcome), n)

    def queued(self, n: int) -> None:
        self._queued.set(n)

    def left(self) -> None:
        self._tally.count(self._left)

    def refused(self) -> None:
        self._tally.count(self._refused)

    def lost(self, n: int) -> None:
        self._tally.count(self._lost, n)

    def journal_failed(self) -> None:
        self._tally.count(self._unwritten)

    def _of(self, metric: _Metric, *labels: str) -> _Metric:
        """``metric`` with these labels; looking them up in it costs more than counting does."""
        key = (metric._name, *labels)
        bound = self._bound.get(key)
        if bound is None:
            bound = self._bound[key] = metric.labels(*labels)
        return bound  # type: ignore[return-value]
