"""One run: the load, what came of it, and where the report goes."""

import resource
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import uvloop

from genkan.bench import report
from genkan.bench.client import tables
from genkan.bench.client.arrivals import Arrivals, offsets_s
from genkan.bench.client.asking import Asker
from genkan.bench.client.figures import Objective, by_arm, figures, times_s
from genkan.bench.client.lag import OwnLag, own_faults, watched
from genkan.bench.client.loops import closed_loop, open_loop
from genkan.bench.client.outcome import Order, Outcome
from genkan.bench.client.preflight import CannotMeasure, check, chosen_model
from genkan.bench.client.progress import Progress
from genkan.bench.client.prompts import Prompts
from genkan.bench.client.target import Target
from genkan.bench.timing import percentile
from genkan.clock import Clock, SystemClock

_SPARE_FILES = 100  # descriptors that are not connections


@dataclass(frozen=True, slots=True)
class Load:
    """How much, and in which rhythm: an open loop with ``rate`` a second, or else ``concurrency`` clients.

    It ends after ``requests`` or ``duration_s``, whichever comes first; at least one is given.
    """

    rate: float | None = None
    arrivals: Arrivals = "poisson"
    concurrency: int = 1
    requests: int | None = None
    duration_s: float | None = None

    def __str__(self) -> str:
        if self.rate is not None:
            return f"open loop, {self.rate:g} requests/s, {self.arrivals} arrivals"
        return f"closed loop, {self.concurrency} client{'s' * (self.concurrency > 1)}"


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a run is told. ``model`` None is what the server's list says; ``command`` is for the report only."""

    target: Target
    prompts: Prompts
    model: str | None
    load: Load
    objective: Objective
    timeout_s: float
    warm_up: int
    key_env: str
    command: str


class Run:
    """Makes it, and keeps every outcome as it comes: also when it is interrupted."""

    def __init__(self, plan: Plan, clock: Clock) -> None:
        self._plan = plan
        self._clock = clock
        self._own = OwnLag()
        self.outcomes: list[Outcome] = []
        self.model = plan.model

    async def make(self) -> None:
        """From the check of the server to the last answer. Raises CannotMeasure."""
        plan = self._plan
        asker = Asker(plan.target, self._clock, timeout_s=plan.timeout_s)
        try:
            self.model = self.model or await chosen_model(asker, plan.target)
            prompts = replace(plan.prompts, model=self.model)
            # Of other texts than those measured, or the first of these would be known already.
            warm_up = replace(prompts, seed=prompts.seed + 1_000_003).orders(plan.target)
            await check(asker, plan.target, next(warm_up).request, plan.key_env)
            await closed_loop(islice(warm_up, plan.warm_up), 4, asker.ask, lambda _: None, self._clock)
            await self._measure(asker, prompts.orders(plan.target))
        finally:
            asker.close()

    async def _measure(self, asker: Asker, orders: Iterator[Order]) -> None:
        load, room = self._plan.load, max_in_flight()
        if load.concurrency > room:
            raise CannotMeasure(f"--concurrency {load.concurrency}: this process may open {room} connections at once")
        progress = Progress(self._clock, requests=load.requests, seconds=load.duration_s)

        def take(outcome: Outcome) -> None:
            self.outcomes.append(outcome)
            progress.take(outcome)

        orders = islice(orders, load.requests)
        try:
            async with watched(self._clock) as self._own:
                if load.rate is None:
                    await closed_loop(orders, load.concurrency, asker.ask, take, self._clock, until_s=load.duration_s)
                else:
                    offsets = offsets_s(load.arrivals, load.rate, self._plan.prompts.seed, until_s=load.duration_s)
                    await open_loop(orders, offsets, asker.ask, take, self._clock, max_in_flight=room)
        finally:
            progress.close()
        if not self.outcomes:
            raise CannotMeasure("no request was due in that time")

    def result(self) -> dict[str, Any]:
        """The figures, as they are in the JSON. Raises ValueError when no request has ended."""
        plan = self._plan
        latencies_s = times_s(self.outcomes, "e2e")
        delays_s = [outcome.delay_s for outcome in self.outcomes]
        faults = own_faults(self._own, delays_s, percentile(latencies_s, 50) if latencies_s else 0.0)
        return {
            "url": plan.target.url,
            "model": self.model,
            "load": str(plan.load),
            "command": plan.command,
            "seed": plan.prompts.seed,
            "arms": {arm: figures(some, plan.objective) for arm, some in by_arm(self.outcomes).items()},
            "error_rate": sum(one.seen.error is not None for one in self.outcomes) / max(len(self.outcomes), 1),
            "client": {
                "busy": self._own.busy,
                "loop_lag_p99_ms": 1e3 * self._own.p99_s,
                "send_delay_p99_ms": 1e3 * percentile(delays_s, 99) if delays_s else 0.0,
                "faults": faults,
            },
        }


def run(plan: Plan, out: Path | None) -> float:
    """Make a run and tell of it; the share of requests that failed. Raises CannotMeasure, and KeyboardInterrupt if
    nothing was measured.
    """
    if out is not None:
        _make_folder(out)
    made = Run(plan, SystemClock())
    interrupted = False
    try:
        uvloop.run(made.make())
    except KeyboardInterrupt:
        if not made.outcomes:
            raise
        interrupted = True
    result = made.result() | ({"interrupted": True} if interrupted else {})
    print(tables.text(result))
    if out is not None:
        plots = _plots(out, made.outcomes)
        (out / "report.md").write_text(tables.markdown(result, plots), encoding="utf-8")
        (out / "report.html").write_text(tables.page(result, plots), encoding="utf-8")
        print(f"report: {out / 'report.html'}")
    report.finish(out, "bench", result)
    return float(result["error_rate"])


def _make_folder(out: Path) -> None:
    """Before the run, which is lost where its report cannot be written. Raises CannotMeasure."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotMeasure(f"there can be no report in {out}: {error.strerror}") from None


def max_in_flight() -> int:
    """As many connections as this process may have open; asks the system for all that it gives."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return max(1, (hard if hard > 0 else soft) - _SPARE_FILES)


def _plots(out: Path, outcomes: Sequence[Outcome]) -> list[Path]:
    """Tails of what was timed, and latencies over the run; those that could be drawn."""
    arms = by_arm(outcomes)
    drawn = []
    for name in ("ttft", "itl", "e2e"):
        values = {arm: [1e3 * value for value in times_s(some, name)] for arm, some in arms.items()}
        if all(values.values()):
            drawn.append(out / f"{name}.png")
            report.shares(drawn[-1], f"{name}: which share takes longer", "ms", values)
    began_s = min(outcome.due_s for outcome in outcomes)
    drawn.append(out / "run.png")
    report.points(
        drawn[-1],
        "latency over the run",
        "ms",
        {
            arm: [(one.due_s - began_s, 1e3 * one.latency_s) for one in some if one.seen.error is None]
            for arm, some in arms.items()
        },
    )
    return [path for path in drawn if path.exists()]
