"""The few figures of ``docs/measured`` that the README shows, with what they were measured on.

A row whose figure was not measured is left out. Everything else is in ``docs/benchmarks.md``, by `sections.py`.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from genkan.bench.client.tables import markdown_table
from genkan.bench.measured import Measurement
from genkan.bench.report import number
from genkan.bench.sections import warnings

PLACE = "measured"  # the part of the README that this fills
_MOST_PLOTS = 2
_PLOTTED = {"gateway": "What the gateway costs", "engine": "Decode", "hedge": "First tokens of a model that stalls"}

Result = Mapping[str, Any]
Row = tuple[str, str]  # what it is, and the figure


def headlines(measurements: Mapping[str, Measurement]) -> str:
    """Markdown for the README: the hardware, a table of figures with their commands, plots, and where the rest is."""
    told = {name: measurements[name] for name in _ROWS if name in measurements}
    if not told:
        return "Nothing is measured yet: `make report`."
    body = [
        (words, [figure, _cell(measurement.command)])
        for name, measurement in told.items()
        for words, figure in _ROWS[name](measurement.result)
    ]
    plots = [f"![{_PLOTTED[name]}](docs/img/{name}.png)" for name in _PLOTTED if name in told][:_MOST_PLOTS]
    return "\n".join(
        [
            *_machines(told),
            *markdown_table(["what", "figure", "by"], body),
            "",
            "`make report` measures anew. Every figure, and how it is meant: [docs/benchmarks.md](docs/benchmarks.md).",
            "",
            *plots,
        ]
    )


def _machines(told: Mapping[str, Measurement]) -> Iterator[str]:
    """A paragraph for each machine and commit, with what was measured there if not all was; and a warning if due."""
    by_machine: dict[str, list[str]] = {}
    for name, measurement in told.items():
        by_machine.setdefault(_hardware(measurement.machine), []).append(name)
    for hardware, names in by_machine.items():
        yield hardware + ("." if len(by_machine) == 1 else f" ({', '.join(names)}).")
        yield ""
    yield from next(filter(None, (warnings(measurement.machine) for measurement in told.values())), [])


def _hardware(machine: Mapping[str, str]) -> str:
    parts = ("cpu", "memory", "system", "packages")
    return f"{', '.join(machine[part] for part in parts)}; {machine['date']}, commit {machine['commit']}"


def _gateway(result: Result) -> Iterator[Row]:
    for kind, words in (("nonstream", "whole answers"), ("stream", "streams of 20 events")):
        found = result[kind]
        figure = f"{number(found['genkan'])} a second"
        if ratio := found.get("genkan_of_raw_asgi"):
            figure += f", {_percent(ratio['median'])} of a bare proxy's"
        yield f"{words} through one gateway worker, 64 connections", figure
    if {"genkan_p50_ms_c1", "direct_p50_ms_c1"} <= (whole := result["nonstream"]).keys():
        added_ms = whole["genkan_p50_ms_c1"] - whole["direct_p50_ms_c1"]
        yield "what the gateway adds to an answer, one connection, p50", f"{number(added_ms)} ms"


def _served(result: Result) -> Iterator[Row]:
    for name, words in (
        ("stored", "TTFT, 40 questions asked again and again, stored answers on / off, p50"),
        ("prefix", "TTFT, four system prompts, prefix cache on / off, p50"),
    ):
        on, off = (arm["ttft"] for arm in result[name]["arms"].values()) if name in result else (None, None)
        if on and off:
            yield words, f"{number(on['p50_ms'])} / {number(off['p50_ms'])} ms"


def _hedge(result: Result) -> Iterator[Row]:
    figure = f"{number(result['p99_ms_hedging'])} / {number(result['p99_ms_default'])} ms"
    more = f"for {_percent(result['extra_attempts'])} more attempts"
    yield "TTFT, one stream in twenty stalls, hedged / not, p99", f"{figure}, {more}"


def _cache(result: Result) -> Iterator[Row]:
    if whole := result["exact"].get("whole, 64"):
        yield "stored answers from one worker, 64 connections", f"{number(whole['rps'])} a second"
    if like := result["semantic"].get("like one"):
        yield "the stored answer of a like question, embedding included, p50", f"{number(like['p50_ms'])} ms"


def _affinity(result: Result) -> Iterator[Row]:
    ways = result.get("usual", {})
    if {"affinity", "one cache"} <= ways.keys():
        share = ways["affinity"]["hit_rate"] / ways["one cache"]["hit_rate"]
        yield "prefix hits of four replicas with affinity, against one cache (simulated)", _percent(share)


def _prefix(result: Result) -> Iterator[Row]:
    shared = result["shared"]
    figure = f"{number(shared['rps_on'])} / {number(shared['rps_off'])} a second"
    yield "the engine, 20 system prompts, prefix cache on / off", figure
    yield "continuous over static batching, tokens/s", f"{number(result['continuous_vs_static'])}×"


def _engine(result: Result) -> Iterator[Row]:
    for batch, found in result["decode"].items():
        if found.get("genkan") and found.get("transformers"):
            ratio = found["genkan"] / found["transformers"]
            figure = f"{number(found['genkan'])} tokens/s, {number(ratio)}× transformers"
            yield f"decode, batch {batch}", figure


def _cell(command: str) -> str:
    return f"`{command}`".replace("|", "\\|")


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


_ROWS: Mapping[str, Callable[[Result], Iterator[Row]]] = {
    "gateway": _gateway,
    "served": _served,
    "hedge": _hedge,
    "cache": _cache,
    "affinity": _affinity,
    "prefix": _prefix,
    "engine": _engine,
}
