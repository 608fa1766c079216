"""What limits, budgets and the ledger do, as metrics; their names, units and labels."""

from typing import Final

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge

from genkan.store.accounts import Outcome
from genkan.telemetry.bound import Bound
from genkan.telemetry.tally import Tally
from genkan.wire.usage import Usage

_NANO: Final = 10**9


class AccountMetrics:
    """An AdmissionObserver and a LedgerObserver. Cost: about 1 µs an answer.

    Labels are bounded by the configuration and by our own codes: no tenant and no key is ever one.
    """

    def __init__(self, tally: Tally, registry: CollectorRegistry = REGISTRY) -> None:
        self._tally = tally
        self._of = Bound().of
        self._of_answers: dict[str, tuple[Counter, ...]] = {}
        self._declare_admissions(registry)
        self._declare_ledger(registry)

    def _declare_admissions(self, registry: CollectorRegistry) -> None:
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
        self._spared = Counter(
            "genkan_spared_tokens", "Tokens of stored answers, and of those shared with another request",
            ["deployment"], registry=registry,
        )  # fmt: skip
        self._spared_cost = Counter(
            "genkan_spared_usd", "What stored and shared answers had cost", ["deployment"], registry=registry
        )
        self._unpriced = Counter(
            "genkan_unpriced", "Answers whose price is not known", ["deployment"], registry=registry
        )

    def _declare_ledger(self, registry: CollectorRegistry) -> None:
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

    def spared(self, deployment: str, usage: Usage, saved_nano_usd: int) -> None:
        self._tally.count(self._of(self._spared, deployment), usage.total)
        if saved_nano_usd:
            self._tally.count(self._of(self._spared_cost, deployment), saved_nano_usd / _NANO)

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
