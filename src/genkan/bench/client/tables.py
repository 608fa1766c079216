"""What a run came to, as text for a terminal, as Markdown and as a page of HTML."""

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from genkan.bench.client.figures import TIMES
from genkan.bench.report import number

Figures = Mapping[str, Any]
Rows = list[tuple[str, list[str]]]

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; } img { max-width: 100%; }
th, td { padding: .25rem .8rem; border-bottom: 1px solid #ddd; text-align: right; }
th:first-child, td:first-child { text-align: left; } .fault { color: #a00; font-weight: 600; }
"""


def rows(arms: Mapping[str, Figures]) -> Rows:
    """One row a figure, one cell an arm. Rows of which no arm has a figure are left out."""
    found: Rows = [
        ("requests", [f"{arm['requests']:,}" for arm in arms.values()]),
        ("errors", [f"{arm['requests'] - arm['answered']:,}" for arm in arms.values()]),
        ("requests/s", [number(arm["rps"]) for arm in arms.values()]),
        ("output tokens/s", [number(arm["output_tokens_per_s"]) for arm in arms.values()]),
    ]
    for name in TIMES:
        for place in ("mean", "stdev", "p50", "p95", "p99"):
            found.append((f"{name} {place}, ms", [_of(arm, name, f"{place}_ms") for arm in arms.values()]))
    found += [
        ("goodput, share", [_percent(arm.get("goodput"), "share") for arm in arms.values()]),
        ("goodput, requests/s", [_of(arm, "goodput", "rps") for arm in arms.values()]),
        ("stored answers hit", [_percent(arm["cache"], "hit_rate") for arm in arms.values()]),
        ("prompt tokens", [_of(arm, "tokens", "prompt") for arm in arms.values()]),
        ("completion tokens", [_of(arm, "tokens", "completion") for arm in arms.values()]),
        ("prefix cached tokens", [_of(arm, "tokens", "prefix_cached") for arm in arms.values()]),
        ("tokens of stored answers", [_of(arm, "tokens", "of_stored_answers") for arm in arms.values()]),
        ("tokens saved", [_percent(arm["tokens"], "saved_share") for arm in arms.values()]),
        ("cost, $", [_usd(arm["cost"]["usd"]) for arm in arms.values()]),
        ("cost of 1,000 requests, $", [_usd(arm["cost"]["usd_per_1k_requests"]) for arm in arms.values()]),
    ]
    return [(name, cells) for name, cells in found if any(cell != "-" for cell in cells)]


def text(result: Figures) -> str:
    """For a terminal."""
    arms = result["arms"]
    table = [("", list(arms)), *rows(arms)]
    widths = [max(map(len, column)) for column in zip(*((name, *cells) for name, cells in table), strict=True)]
    lines = ["  ".join([name.ljust(widths[0]), *map(str.rjust, cells, widths[1:])]).rstrip() for name, cells in table]
    return "\n".join([_title(result), *lines, *_notes(result)])


def markdown(result: Figures, plots: Sequence[Path]) -> str:
    """A page with the plots beside it."""
    arms = result["arms"]
    lines = [f"# {_title(result)}", "", f"`{result['command']}`", "", *markdown_table(["", *arms], rows(arms))]
    lines += [f"\n{note}" for note in _notes(result)]
    lines += [f"\n![{path.stem}]({path.name})" for path in plots]
    return "\n".join(lines) + "\n"


def markdown_table(heading: Sequence[str], body: Rows) -> list[str]:
    """The lines of a table whose numbers stand right."""
    lines = [f"| {' | '.join(heading)} |", f"|---|{'---:|' * (len(heading) - 1)}"]
    return lines + [f"| {' | '.join([name, *cells])} |" for name, cells in body]


def page(result: Figures, plots: Sequence[Path]) -> str:
    """HTML that needs nothing else: plots are in it."""
    arms = result["arms"]
    cells = [_html_row("th", ["", *arms]), *(_html_row("td", [name, *values]) for name, values in rows(arms))]
    notes = [f'<p class="{"fault" if "client" in note else ""}">{html.escape(note)}</p>' for note in _notes(result)]
    images = [f'<img alt="{html.escape(path.stem)}" src="{_embedded(path)}">' for path in plots]
    title = html.escape(_title(result))
    return "\n".join(
        [
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>',
            f"<h1>{title}</h1><p><code>{html.escape(result['command'])}</code></p>",
            f"<table>{''.join(cells)}</table>",
            *notes,
            *images,
            "</html>\n",
        ]
    )


def _embedded(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def _title(result: Figures) -> str:
    return f"{result['url']}, {result['load']}"


def _notes(result: Figures) -> list[str]:
    """Errors by kind, and what is to be said against the figures."""
    notes = []
    for arm, found in result["arms"].items():
        kinds = "; ".join(f"{count:,} × {kind}" for kind, count in found["errors"].items())
        if kinds:
            notes.append(f"errors, {arm}: {kinds}")
    client = result["client"]
    if client["faults"]:
        notes.append(f"The client is at fault too, so do not trust these figures: {'; '.join(client['faults'])}.")
    if result.get("interrupted"):
        notes.append("Interrupted: these are the requests that had ended.")
    return notes


def _of(arm: Figures, group: str, name: str) -> str:
    found = arm.get(group)
    return number(found[name]) if found else "-"


def _percent(found: Figures | None, name: str) -> str:
    return "-" if found is None or found[name] is None else f"{100 * found[name]:.1f} %"


def _usd(value: float | None) -> str:
    return "-" if value is None else f"{value:.6f}"


def _html_row(tag: str, cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"
