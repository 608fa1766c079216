"""How each benchmark's result is shown in ``docs/benchmarks.md``: tables, and the plots beside them.

Everything is taken from results; a figure that a result lacks is a dash.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from genkan.bench.client.tables import markdown_table
from genkan.bench.client.tables import rows as client_rows
from genkan.bench.measured import Measurement
from genkan.bench.options import IDLE_LOAD
from genkan.bench.report import Groups, number

Result = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Plot:
    """A bar chart for ``docs/img``."""

    name: str
    title: str
    unit: str
    groups: Groups


def section(name: str, measurement: Measurement) -> str:
    """Markdown for one benchmark: how it was measured, its tables, its plots. Raises KeyError for an unknown one."""
    told = measurement.machine
    lines = [
        f"`{measurement.command}` · {told['date']} · commit {told['commit']} · {told['cpu']}, {told['memory']}, "
        f"{told['system']}, Python {told['python']}, {told['packages']} · load before: {told['load']}",
        "",
        *warnings(told),
        *_TABLES[name](measurement.result),
    ]
    for plot in plots(name, measurement.result):
        lines += ["", f"![{plot.title}](img/{plot.name}.png)"]
    return "\n".join(lines)


def plots(name: str, result: Result) -> list[Plot]:
    """What can be drawn of a benchmark."""
    return _PLOTS[name](result) if name in _PLOTS else []


def warnings(told: Mapping[str, str]) -> list[str]:
    """Lines with what is to be said against every figure measured on a machine; none if there is nothing."""
    if told["load"] != "unknown" and float(told["load"]) <= IDLE_LOAD:
        return []
    return ["**Others may have kept this machine busy meanwhile: do not compare these figures with any.**", ""]


def _gateway(result: Result) -> list[str]:
    arms = list(result["rss_bytes"])
    lines: list[str] = []
    for kind, words in (("nonstream", "whole answers"), ("stream", "streams of 20 events")):
        found = result[kind]
        body = [
            (
                arm,
                [
                    number(found.get(f"{arm}{suffix}" if suffix else arm))
                    for suffix in ("", "_p99_ms_c64", "_p50_ms_c1", "_first_byte_p50_ms_c1")
                ]
                + [number(result["rss_bytes"][arm] / 1e6)],
            )
            for arm in arms
        ]
        heading = [words, "requests/s, 64 conns", "p99 ms, 64", "p50 ms, 1 conn", "first byte p50 ms, 1", "worker MB"]
        lines += [*markdown_table(heading, body), ""]
        for other in ("raw_asgi", "genkan_unlimited", "genkan_bare"):
            if ratio := found.get(f"genkan_of_{other}"):
                low, high = (number(ratio[end]) for end in ("low", "high"))
                lines += [f"genkan / {other}: {number(ratio['median'])} (rounds: {low} to {high}).  "]
        lines.append("")
    return lines[:-1]


def _hedge(result: Result) -> list[str]:
    body = [
        (route, [number(result[f"{place}_{route}"]) for place in ("p50_ms", "p99_ms")])
        for route in ("default", "hedging")
    ]
    return [
        *markdown_table(["time to the first token, ms", "p50", "p99"], body),
        "",
        f"The p99 is cut by {_percent(result['p99_cut'])}, for {_percent(result['extra_attempts'])} more attempts.",
    ]


def _affinity(result: Result) -> list[str]:
    body = [(kind, [_percent(found["hit_rate"]) for found in ways.values()]) for kind, ways in result.items()]
    return markdown_table(["prompt tokens found cached", *next(iter(result.values()))], body)


def _cache(result: Result) -> list[str]:
    body = [
        (f"{kind}: {arm}", [number(found[name]) for name in ("rps", "p50_ms", "p99_ms")])
        for kind, arms in result.items()
        for arm, found in arms.items()
    ]
    return markdown_table(["what is asked for, connections", "requests/s", "p50 ms", "p99 ms"], body)


def _prefix(result: Result) -> list[str]:
    shared, unique, chunked = result["shared"], result["unique"], result["chunked"]
    body = [
        ("requests/s, 20 shared system prompts", [number(shared["rps_on"]), number(shared["rps_off"])]),
        ("p50 of the first token there, ms", [number(shared["ttft_p50_ms_on"]), number(shared["ttft_p50_ms_off"])]),
        ("requests/s, nothing shared", [number(unique["rps_on"]), number(unique["rps_off"])]),
        ("CPU s, nothing shared", [number(unique["cpu_s_on"]), number(unique["cpu_s_off"])]),
    ]
    more = [
        ("prompt tokens saved, shared system prompts", [_percent(shared["tokens_saved"])]),
        ("earlier turns reused in six-turn chats", [_percent(result["chat"]["reused"])]),
        ("continuous over static batching, tokens/s", [f"{number(result['continuous_vs_static'])}×"]),
        ("many clients over one after the other, tokens/s", [f"{number(result['concurrent_vs_serial'])}×"]),
        ("p99 over p50 of gaps when a long prompt comes, chunked", [number(chunked["itl_p99_over_p50"])]),
        ("the same, prefilled whole", [number(chunked["itl_p99_over_p50_off"])]),
    ]
    return [
        *markdown_table(["prefix cache", "on", "off"], body),
        "",
        *markdown_table(["scheduler and cache", "figure"], more),
    ]


def _engine(result: Result) -> list[str]:
    arms = list(result["prefill_1k"] | next(iter(result["decode"].values())))
    body = [
        (f"decode, batch {batch}", [number(found.get(arm)) for arm in arms])
        for batch, found in result["decode"].items()
    ]
    body.append(("prefill of a long prompt", [number(result["prefill_1k"].get(arm)) for arm in arms]))
    cold = f"From a fresh process to the first token: {number(result['cold_start_s'])} s."
    return [*markdown_table(["tokens/s", *arms], body), "", cold]


def _served(result: Result) -> list[str]:
    lines: list[str] = []
    for found in result.values():
        lines += [f"{found['title']}. {found['load'].capitalize()}.", ""]
        lines += markdown_table(["", *found["arms"]], client_rows(found["arms"]))
        if found["client"]["faults"]:
            lines += ["", f"The client was at fault too: {'; '.join(found['client']['faults'])}."]
        lines.append("")
    return lines[:-1]


def _gateway_plots(result: Result) -> list[Plot]:
    groups = {kind: {arm: result[kind].get(arm) for arm in result["rss_bytes"]} for kind in ("nonstream", "stream")}
    return [Plot("gateway", "What the gateway costs", "requests/s, 64 connections", groups)]


def _hedge_plots(result: Result) -> list[Plot]:
    groups = {
        place: {route: result[f"{place}_ms_{route}"] for route in ("default", "hedging")} for place in ("p50", "p99")
    }
    return [Plot("hedge", "First tokens of a model that stalls", "ms", groups)]


def _affinity_plots(result: Result) -> list[Plot]:
    groups = {
        kind.partition(",")[0]: {way: found["hit_rate"] for way, found in ways.items()} for kind, ways in result.items()
    }
    return [Plot("affinity", "Four replicas against one cache as large", "share found cached", groups)]


def _prefix_plots(result: Result) -> list[Plot]:
    groups = {
        words: {arm: result[kind][f"rps_{arm}"] for arm in ("on", "off")}
        for kind, words in (("shared", "system prompts shared"), ("unique", "nothing shared"))
    }
    return [Plot("prefix", "Prefix cache", "requests/s", groups)]


def _engine_plots(result: Result) -> list[Plot]:
    groups = {f"batch {batch}": found for batch, found in result["decode"].items()}
    return [Plot("engine", "Decode", "tokens/s", groups)]


def _served_plots(result: Result) -> list[Plot]:
    """Of each comparison its first tokens and whole answers."""
    return [
        Plot(
            f"served-{name}",
            told["title"],
            "ms",
            {
                f"{words} {place}": {
                    arm: found[time][f"{place}_ms"] for arm, found in told["arms"].items() if found[time]
                }
                for time, words in (("ttft", "first token"), ("e2e", "whole answer"))
                for place in ("p50", "p99")
            },
        )
        for name, told in result.items()
        if len(told["arms"]) > 1
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


_TABLES: Mapping[str, Callable[[Result], Sequence[str]]] = {
    "gateway": _gateway,
    "served": _served,
    "hedge": _hedge,
    "cache": _cache,
    "affinity": _affinity,
    "prefix": _prefix,
    "engine": _engine,
}
_PLOTS: Mapping[str, Callable[[Result], list[Plot]]] = {
    "gateway": _gateway_plots,
    "served": _served_plots,
    "hedge": _hedge_plots,
    "affinity": _affinity_plots,
    "prefix": _prefix_plots,
    "engine": _engine_plots,
}
NAMES: tuple[str, ...] = tuple(_TABLES)
