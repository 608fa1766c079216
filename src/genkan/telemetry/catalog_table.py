"""The catalog as the table of `docs/observability.md`."""

from typing import Final

from genkan.telemetry.catalog import entries
from genkan.telemetry.metric_kinds import CounterOf, Entry, GaugeOf

_HEAD: Final = "| metric | kind | labels | what it says |\n|---|---|---|---|\n"


def metrics_table() -> str:
    """Markdown, a line for each metric, by the name that it has in Prometheus."""
    return _HEAD + "".join(map(_row, entries()))


def _row(entry: Entry) -> str:
    name = f"{entry.name}_total" if isinstance(entry, CounterOf) else entry.name
    kind = f"gauge, {entry.mode}" if isinstance(entry, GaugeOf) else entry.kind
    labels = ", ".join(f"`{label}`" for label in entry.labels) or "–"
    return f"| `{name}` | {kind} | {labels} | {entry.help} |\n"
