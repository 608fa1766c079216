"""What limits, budgets and the ledger do, as metrics."""

from typing import Final

from prometheus_client import REGISTRY, CollectorRegistry, Counter

from genkan.store.accounts import Outcome
from genkan.telemetry import catalog
from genkan.telemetry.bound import Bound
from genkan.telemetry.tally import Tally
from genkan.wire.usage import Usage

_NANO: Final = 10**9


class AccountMetrics:
    """An AdmissionObserver and a LedgerObserver. Cost: 0.4 µs an answer.

    Labels are bounded by the configuration and by our own codes: no tenant and no key is ever one.
    """

    def __init__(self, tally: Tally, registry: CollectorRegistry = REGISTRY) -> None:
        self._tally = tally
        self._of = Bound().of
        self._of_answers: dict[str, tuple[Counter, ...]] = {}
        self._declare_admissions(registry)
        self._declare_ledger(registry)

    def _declare_admissions(self, registry: CollectorRegistry) -> None:
        self._denied = catalog.DENIED.on(registry)
        self._unchecked = catalog.ADMITTED_LOCALLY.on(registry)
        self._warnings = catalog.BUDGET_WARNINGS.on(registry)
        self._tokens = catalog.TOKENS.on(registry)
        self._cost = catalog.COST_USD.on(registry)
        self._saved = catalog.SAVED_USD.on(registry)
        self._spared = catalog.SPARED_TOKENS.on(registry)
        self._spared_cost = catalog.SPARED_USD.on(registry)
        self._unpriced = catalog.UNPRICED.on(registry)

    def _declare_ledger(self, registry: CollectorRegistry) -> None:
        self._settled = catalog.LEDGER_SETTLED.on(registry)
        self._lost = catalog.LEDGER_LOST.on(registry)
        self._left = catalog.LEDGER_LEFT.on(registry)
        self._refused = catalog.LEDGER_REFUSED.on(registry)
        self._unwritten = catalog.JOURNAL_FAILURES.on(registry)
        self._queued = catalog.LEDGER_QUEUE.on(registry)

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
