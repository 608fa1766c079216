"""The dashboard and the alert rules ask for metrics that exist, by labels that these have."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from genkan.telemetry.catalog import entries
from genkan.telemetry.metric_kinds import CounterOf, Entry, HistogramOf

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "configs" / "grafana"
#: What Prometheus adds to every series, and what it makes itself.
TARGET_LABELS = {"job", "instance", "namespace", "pod"}
ITS_OWN = {"up": frozenset[str]()}
BUCKET_LABEL = "le"


def shown(entry: Entry) -> Iterator[tuple[str, frozenset[str]]]:
    """The names under which a metric is scraped, each with its labels."""
    labels = frozenset(entry.labels)
    if isinstance(entry, CounterOf):
        yield f"{entry.name}_total", labels
    elif isinstance(entry, HistogramOf):
        yield f"{entry.name}_bucket", labels | {BUCKET_LABEL}
        yield f"{entry.name}_sum", labels
        yield f"{entry.name}_count", labels
    else:
        yield entry.name, labels


SERIES = {name: labels for entry in entries() for name, labels in shown(entry)} | ITS_OWN


def dashboard_queries() -> list[str]:
    panels = json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8"))["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", ())]


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((FOLDER / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    return list(group["rules"])


def adapter_queries() -> list[str]:
    values = yaml.safe_load((ROOT / "deploy" / "kubernetes" / "adapter.values.yaml").read_text(encoding="utf-8"))
    (rule,) = values["rules"]["custom"]
    query = rule["metricsQuery"].replace("<<.GroupBy>>", "pod").replace("<<.LabelMatchers>>", 'namespace="genkan"')
    return [rule["seriesQuery"], query]


QUERIES = [*dashboard_queries(), *(rule["expr"] for rule in rules()), *adapter_queries()]


def parsed(query: str) -> Any:
    """Raises ValueError for what is not PromQL."""
    return promql_parser.parse(query.replace("$__rate_interval", "5m"))


def selectors(node: Any) -> Iterator[Any]:
    """The vector selectors below a node of a parsed query, whatever holds them."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node
        return
    for name in ("expr", "lhs", "rhs", "vector_selector", "args"):
        held = getattr(node, name, None)
        for one in held if isinstance(held, list) else [held]:
            if one is not None:
                yield from selectors(one)


def grouped(node: Any) -> Iterator[tuple[frozenset[str], Any]]:
    """The labels of each ``by (…)`` with what it is over."""
    if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
        yield frozenset(node.modifier.labels), node.expr
    for name in ("expr", "lhs", "rhs", "args"):
        held = getattr(node, name, None)
        for one in held if isinstance(held, list) else [held]:
            if one is not None:
                yield from grouped(one)


@pytest.mark.parametrize("query", QUERIES)
def test_every_query_asks_for_a_metric_that_there_is(query: str) -> None:
    found = list(selectors(parsed(query)))
    assert found
    for selector in found:
        assert selector.name in SERIES, selector.name
        wanted = {matcher.name for matcher in selector.matchers.matchers}
        assert wanted <= SERIES[selector.name] | TARGET_LABELS, selector.name


@pytest.mark.parametrize("query", QUERIES)
def test_every_sum_is_by_labels_that_there_are(query: str) -> None:
    for labels, over in grouped(parsed(query)):
        for selector in selectors(over):
            assert labels <= SERIES[selector.name] | TARGET_LABELS, (selector.name, labels)


def test_the_scalers_metric_is_found_before_the_first_request() -> None:
    """What is counted by path is not there before."""
    found_by, asked = (parsed(query) for query in adapter_queries())
    assert found_by.name in {selector.name for selector in selectors(asked)}


def test_a_query_for_a_metric_that_is_gone_would_be_found() -> None:
    (selector,) = selectors(parsed("sum(rate(genkan_gone_total[5m])) > 1"))
    assert selector.name not in SERIES


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_every_alert_has_a_severity_a_summary_and_its_paragraph(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert rule["annotations"]["summary"]
    assert f"`{rule['alert']}`" in (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


def test_the_dashboard_is_what_its_script_writes() -> None:
    written = subprocess.run(
        [sys.executable, ROOT / "scripts" / "dashboard.py", "--print"], capture_output=True, text=True, check=True
    ).stdout
    assert written == (FOLDER / "dashboard.json").read_text(encoding="utf-8"), "make dashboard"
