"""The catalog of metrics: how each is named, and that there are no others."""

import ast
import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from genkan.telemetry.catalog import entries
from genkan.telemetry.catalog_table import metrics_table
from genkan.telemetry.metric_kinds import CounterOf, Entry, GaugeOf, HistogramOf

ROOT = Path(__file__).parents[3]
SOURCES = [*(ROOT / "src").rglob("*.py"), ROOT / "service.py"]
KINDS = {"Counter", "Gauge", "Histogram", "Summary", "Info", "Enum"}
LABELS = {
    "arm", "by", "code", "deployment", "error_type", "gen_ai_operation_name", "gen_ai_provider_name",
    "gen_ai_request_model", "gen_ai_token_type", "kind", "model", "outcome", "path", "reason", "result", "route",
    "scope", "state", "status", "to", "unit", "upstream", "verdict", "version", "way",
}  # fmt: skip
UNITS = {"seconds", "bytes", "tokens", "usd", "ratio"}
NAMES = [entry.name for entry in entries()]
each = pytest.mark.parametrize("entry", entries(), ids=NAMES)


def test_a_name_is_declared_once() -> None:
    assert len(NAMES) == len(set(NAMES)) > 60


@each
def test_a_name_has_our_prefix_or_is_one_of_the_conventions(entry: Entry) -> None:
    assert re.fullmatch(r"(genkan|gen_ai_(server|client))_[a-z0-9_]+", entry.name)
    assert not entry.name.endswith("_total")  # prometheus_client adds it


@each
def test_a_unit_ends_the_name(entry: Entry) -> None:
    assert entry.name.endswith(entry.unit)
    words = set(entry.name.split("_")) & UNITS
    assert words <= {entry.unit}, "the name has a unit that it does not end with"


@each
def test_labels_are_known_ones_and_there_is_help(entry: Entry) -> None:
    assert set(entry.labels) <= LABELS
    assert entry.help
    assert "\n" not in entry.help
    assert "|" not in entry.help  # it would break the table


@each
def test_it_can_be_registered(entry: Entry) -> None:
    registry = CollectorRegistry()
    made = entry.on(registry)
    assert made is not None
    [family] = registry.collect()
    assert (family.name, family.documentation) == (entry.name, entry.help)
    assert family.type == entry.kind


@each
def test_buckets_grow(entry: Entry) -> None:
    if isinstance(entry, HistogramOf):
        assert list(entry.buckets) == sorted(set(entry.buckets))


def test_every_kind_is_there() -> None:
    assert {type(entry) for entry in entries()} == {CounterOf, GaugeOf, HistogramOf}


def test_no_metric_is_made_anywhere_else() -> None:
    """Wherever prometheus_client's classes are imported, they are only types, but for `metric_kinds.py`."""
    found = []
    for path in SOURCES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imported = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("prometheus_client")
            for alias in node.names
        } & KINDS
        calls = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
            and (
                (isinstance(node.func, ast.Name) and node.func.id in imported)
                or (isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) == "prometheus_client")
            )
        ]
        found += [path.name] * len(calls)
    assert found == ["metric_kinds.py"] * 3


def test_every_entry_is_used() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in SOURCES if path.name != "catalog.py")
    declared = (ROOT / "src/genkan/telemetry/catalog.py").read_text(encoding="utf-8")
    names = re.findall(r"^([A-Z][A-Z_]+)(?:: .*)? = (?:CounterOf|GaugeOf|HistogramOf)\(", declared, flags=re.MULTILINE)
    assert len(names) > 45
    assert [name for name in names if f"catalog.{name}" not in text] == []


def test_the_docs_have_the_table() -> None:
    docs = (ROOT / "docs/observability.md").read_text(encoding="utf-8")
    assert docs.endswith(metrics_table()), "run: genkan metrics"
