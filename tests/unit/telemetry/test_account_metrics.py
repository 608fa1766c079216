"""What limits, budgets and the ledger do, as it is scraped."""

import pytest
from prometheus_client import CollectorRegistry

from genkan.telemetry.account_metrics import AccountMetrics
from genkan.telemetry.tally import Tally
from genkan.wire.usage import Usage

A = {"deployment": "m@a"}


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def test_answers_are_counted_with_what_they_cost_and_saved(registry: CollectorRegistry) -> None:
    metrics = AccountMetrics(Tally(), registry)
    metrics.billed("m@a", Usage(1000, 20, 800), 1_500_000, 2_000_000)
    metrics.billed("m@a", Usage(10, 2), 500_000, 0)
    tokens = [
        registry.get_sample_value("genkan_tokens_total", {**A, "kind": kind})
        for kind in ("prompt", "completion", "cached")
    ]
    assert tokens == [1010.0, 22.0, 800.0]
    assert registry.get_sample_value("genkan_cost_usd_total", A) == pytest.approx(0.002)
    assert registry.get_sample_value("genkan_saved_usd_total", A) == pytest.approx(0.002)
    assert registry.get_sample_value("genkan_unpriced_total", A) is None


def test_an_unknown_price_is_counted_and_adds_no_cost(registry: CollectorRegistry) -> None:
    metrics = AccountMetrics(Tally(), registry)
    metrics.billed("m@a", Usage(1, 1), None, 0)
    assert registry.get_sample_value("genkan_unpriced_total", A) == 1.0
    assert not registry.get_sample_value("genkan_cost_usd_total", A)


def test_what_happens_at_the_door_is_counted_without_anybodys_name(registry: CollectorRegistry) -> None:
    metrics = AccountMetrics(Tally(), registry)
    metrics.denied("bucket", "requests", "tenant")
    metrics.admitted_locally()
    metrics.budget_is_low("key")
    labels = {"scope": "tenant", "kind": "bucket", "unit": "requests"}
    assert registry.get_sample_value("genkan_denied_total", labels) == 1.0
    assert registry.get_sample_value("genkan_admitted_locally_total") == 1.0
    assert registry.get_sample_value("genkan_budget_warnings_total", {"scope": "key"}) == 1.0


def test_what_becomes_of_settlements_is_counted(registry: CollectorRegistry) -> None:
    metrics = AccountMetrics(Tally(), registry)
    metrics.settled("late", 3)
    metrics.queued(7)
    metrics.lost(2)
    metrics.left()
    metrics.refused()
    metrics.journal_failed()
    assert registry.get_sample_value("genkan_ledger_settled_total", {"outcome": "late"}) == 3.0
    assert registry.get_sample_value("genkan_ledger_queue") == 7.0
    assert registry.get_sample_value("genkan_ledger_lost_total") == 2.0
    for name in ("genkan_ledger_left_total", "genkan_ledger_refused_total", "genkan_journal_failures_total"):
        assert registry.get_sample_value(name) == 1.0
