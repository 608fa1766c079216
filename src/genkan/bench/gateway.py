"""What the gateway costs, against the least that could stand in its place: ``python -m genkan.bench.gateway``."""

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

import click
import uvloop

from genkan.bench import report
from genkan.bench.cores import divide, pinned
from genkan.bench.gateway_arms import ARMS, Arm, ArmName, serving
from genkan.bench.http_answer import WrongAnswer
from genkan.bench.http_load import Call, Measured, connected
from genkan.bench.rounds import Rounds, interleaved
from genkan.bench.server_process import ServerFailed, interruptible, rss_bytes
from genkan.bench.worker_profile import print_profile, profile_path, profiling

DEFAULT_ROUNDS = 3
PROFILED_FUNCTIONS = 45
_COMPARED: tuple[ArmName, ...] = ("raw_asgi", "genkan_unlimited", "genkan_bare")
BUSY = 0.9  # of a core: a server that got or needed less than that was not what limited its arm


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of one arm's turn: not measured, measured."""

    warm_up_s: float = 1.0
    measured_s: float = 5.0


QUICK = Times(warm_up_s=0.2, measured_s=0.5)


@dataclass(frozen=True, slots=True)
class Shape:
    """What kind of answers, over how many connections."""

    stream: bool
    connections: int

    @property
    def kind(self) -> str:
        return "stream" if self.stream else "nonstream"

    def __str__(self) -> str:
        return f"{self.kind}, {self.connections} connection{'s' * (self.connections > 1)}"


ALONE, CROWD = 1, 64  # connections
SHAPES = [Shape(stream, connections) for stream in (False, True) for connections in (ALONE, CROWD)]


def measure(arm: Arm, shape: Shape, times: Times) -> Mapping[str, float]:
    """One turn of an arm: see ``Measured.figures``, and ``busy``, the cores its server kept busy, and ``rss_bytes``.

    Raises WrongAnswer.
    """
    measured, cpu_s = uvloop.run(_measure(arm, shape, times))
    return {
        **measured.figures(),
        "busy": cpu_s / measured.elapsed_s,
        "rss_bytes": rss_bytes(arm.server.worker()),
    }


async def _measure(arm: Arm, shape: Shape, times: Times) -> tuple[Measured, float]:
    calls = arm.calls(stream=shape.stream)
    async with connected(arm.server.port, shape.connections) as load:
        await load.run(_for_seconds(calls, times.warm_up_s))
        cpu_before_s = arm.server.cpu_s()
        measured = await load.run(_for_seconds(calls, times.measured_s))
        return measured, arm.server.cpu_s() - cpu_before_s


def _for_seconds(calls: Iterator[Call], seconds: float) -> Iterator[Call]:
    end_s = time.perf_counter() + seconds
    return takewhile(lambda _: time.perf_counter() < end_s, calls)


class Outcome:
    """What every arm did, by shape."""

    def __init__(self, rounds: Mapping[Shape, Rounds]) -> None:
        self._rounds = rounds

    def tables(self) -> str:
        """The medians of every arm, genkan's ratios to the raw proxy with their spread, and what limits them."""
        return "\n\n".join(self._table(shape) for shape in self._rounds)

    def summary(self) -> dict[str, Any]:
        """The medians by the names that the README and CI know; requests/s are those of 64 connections."""
        return {kind: self._of_kind(kind) for kind in ("nonstream", "stream")} | self._rss()

    def _table(self, shape: Shape) -> str:
        rounds = self._rounds[shape]
        metrics = ("rps", "p50_ms", "p99_ms", "first_byte_p50_ms", "busy")
        figures = {arm: {name: rounds.median(arm, name) for name in metrics} for arm in rounds.arms}
        lines = [report.table(str(shape), figures)]
        lines += [
            f"genkan / {other}, requests/s: {rounds.ratio('rps', 'genkan', other)}"
            for other in _COMPARED
            if {"genkan", other} <= figures.keys()
        ]
        idle = [arm for arm in figures if arm != "direct" and figures[arm]["busy"] < BUSY]
        if idle and shape.connections == CROWD:
            lines.append(
                f"not limited by the server, but by the load, the upstream or others on its core: {', '.join(idle)}"
            )
        return "\n".join(lines)

    def _of_kind(self, kind: str) -> dict[str, Any]:
        by_connections = {shape.connections: rounds for shape, rounds in self._rounds.items() if shape.kind == kind}
        alone, crowd = by_connections[ALONE], by_connections[CROWD]
        figures: dict[str, Any] = {arm: crowd.median(arm, "rps") for arm in crowd.arms}
        for arm in alone.arms:
            figures[f"{arm}_p50_ms_c1"] = alone.median(arm, "p50_ms")
            figures[f"{arm}_first_byte_p50_ms_c1"] = alone.median(arm, "first_byte_p50_ms")
            figures[f"{arm}_p99_ms_c64"] = crowd.median(arm, "p99_ms")
        for other in _COMPARED:
            if {"genkan", other} <= set(crowd.arms):
                ratio = crowd.ratio("rps", "genkan", other)
                figures[f"genkan_of_{other}"] = {"median": ratio.of_medians, "low": ratio.low, "high": ratio.high}
        return figures

    def _rss(self) -> dict[str, dict[str, int]]:
        arms = next(iter(self._rounds.values())).arms
        every = list(self._rounds.values())
        return {"rss_bytes": {arm: int(max(max(rounds.values(arm, "rss_bytes")) for rounds in every)) for arm in arms}}


def compare(names: Sequence[ArmName], times: Times, rounds: int) -> Outcome:
    """Measure the named arms. Raises ServerFailed and WrongAnswer."""
    cores = divide()
    with interruptible(), pinned(cores.load), serving(names, cores) as arms:
        return Outcome(
            {
                shape: interleaved(str(shape), {arm.name: partial(measure, arm, shape, times) for arm in arms}, rounds)
                for shape in SHAPES
            }
        )


def profile(times: Times, out: Path) -> None:
    """Print where genkan's worker spends its time at 64 connections, and keep the profiles in ``out``.

    Profiling slows small functions most, so shares are hints. Raises ServerFailed and WrongAnswer.
    """
    cores = divide()
    out.mkdir(parents=True, exist_ok=True)
    with interruptible(), pinned(cores.load), serving(["genkan"], cores, profiled=True) as [arm]:
        for shape in (shape for shape in SHAPES if shape.connections == CROWD):
            measure(arm, shape, QUICK)  # first, so that the worker is known by its work
            worker = arm.server.worker()
            with profiling(worker, arm.server.folder):
                figures = measure(arm, shape, times)
            print(f"\n{shape}: {figures['rps']:,.0f} requests/s while profiled")
            print_profile(profile_path(arm.server.folder, worker), PROFILED_FUNCTIONS)
            kept = out / f"gateway-{shape.kind}.pstats"
            shutil.copy(profile_path(arm.server.folder, worker), kept)
            print(f"profile: {kept}")


@click.command()
@click.option("--quick", is_flag=True, help="Half a second each and one round: shows that it works, measures nothing.")
@click.option("--rounds", type=click.IntRange(min=1), help=f"Rounds of every arm; {DEFAULT_ROUNDS} if not given.")
@click.option("--only", "names", type=click.Choice(ARMS), multiple=True, help="Measure this arm; may be repeated.")
@click.option("--profile", "profiled", is_flag=True, help="Show where genkan's worker spends its time instead.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default="bench/out", show_default=True)
def main(quick: bool, rounds: int | None, names: tuple[ArmName, ...], profiled: bool, out: Path) -> None:
    """The fake upstream alone, behind a raw ASGI proxy, and behind genkan: with all it has, without limits, and
    without limits and ledger; and an empty BentoML route."""
    times = QUICK if quick else Times()
    try:
        if profiled:
            profile(times, out)
            return
        outcome = compare(names or ARMS, times, rounds or (1 if quick else DEFAULT_ROUNDS))
    except (ServerFailed, WrongAnswer) as error:
        raise click.ClickException(str(error)) from None
    print(outcome.tables())
    report.finish(out, "gateway", outcome.summary())


if __name__ == "__main__":
    main()
