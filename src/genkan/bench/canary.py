"""How often a canary is judged rightly, by simulation: the judge that runs in the gateway, on made-up requests.

Each run is 20,000 requests of which each is the canary's with 10 %, judged every 20 requests until it is decided; the
gateway judges once a second. Who looks seldom may miss that a bound was crossed, if the figures come back before the
next look. How much that hides is shown by looking after every single request as well, with an error probability of
40 %, so that there is something to miss.

Times are log-normal with a sigma of 0.7, and, in half of the worlds, 2 % of the requests stall for ten times as long.
"""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
from numpy.typing import NDArray

from genkan.bench import report
from genkan.config import CanaryConfig
from genkan.gateway.canary.decision import judge
from genkan.gateway.canary.sums import ArmSums, Sums

REQUESTS = 20_000
CONFIG = CanaryConfig(model="tried")

_SIGMA = 0.7
_STALLED, _STALL = 0.02, 10.0
_STREAMS = 0.6  # of all requests
_LATENCY_S, _TTFT_S = 2.0, 0.3

Floats = NDArray[np.float64]
Rows = dict[str, dict[str, float | None]]  # by what was simulated


@dataclass(frozen=True, slots=True)
class World:
    """What requests are like."""

    error_rate: float  # of the control
    stalls: bool

    @property
    def name(self) -> str:
        return f"{self.error_rate:.1%} errors, {'2 % stalls' if self.stalls else 'no stalls'}"


@dataclass(frozen=True, slots=True)
class Candidate:
    """How the canary differs from the control."""

    latency_ratio: float = 1.0  # TTFT as well
    more_errors: float = 0.0  # 0.03: three percentage points


class Outcome(NamedTuple):
    """How one run ended: ``running`` if after all its requests nothing was decided, and ``by`` which guard."""

    state: str
    by: str
    after: int  # requests


WORLDS = tuple(World(rate, stalls) for rate, stalls in product((0.002, 0.01, 0.02), (False, True)))
CANDIDATES: Mapping[str, Candidate] = {
    "equal": Candidate(),
    "latency +30 %": Candidate(latency_ratio=1.3),
    "errors +3 points": Candidate(more_errors=0.03),
}
AT_LIMITS = Candidate(latency_ratio=CONFIG.guards.latency_ratio or 1.0, more_errors=CONFIG.guards.error_rate or 0.0)


def simulate(
    world: World,
    candidate: Candidate,
    seed: int,
    *,
    requests: int = REQUESTS,
    every: int = 20,
    config: CanaryConfig = CONFIG,
) -> Outcome:
    """One run of so many requests, judged after each ``every`` of them until it is decided. Some 10 ms."""
    control, canary = _measured(world, candidate, np.random.default_rng(seed), requests, every, config.percent / 100)
    for place, (one, other) in enumerate(zip(control, canary, strict=True), 1):
        verdict = judge(ArmSums.of(one), ArmSums.of(other), config)
        if verdict.state != "running":
            return Outcome(verdict.state, verdict.by, place * every)
    return Outcome("running", "", requests)


def _measured(
    world: World, candidate: Candidate, random: np.random.Generator, requests: int, every: int, share: float
) -> tuple[list[list[float]], list[list[float]]]:
    """The sums of both arms after each ``every`` requests: control, canary."""
    is_canary = random.random(requests) < share
    fails = random.random(requests) < world.error_rate + candidate.more_errors * is_canary
    is_stream = random.random(requests) < _STREAMS
    slower = np.where(is_canary, candidate.latency_ratio, 1.0)
    stall = np.where(world.stalls & (random.random(requests) < _STALLED), _STALL, 1.0)
    latency, ttft = (
        typical * slower * stall * np.exp(_SIGMA * random.standard_normal(requests))
        for typical in (_LATENCY_S, _TTFT_S)
    )
    values: Floats = np.stack([np.ones(requests), fails * 1.0, *_of(latency, ~fails), *_of(ttft, ~fails & is_stream)])
    return _summed(values * ~is_canary, every), _summed(values * is_canary, every)


def _of(seconds: Floats, counts: NDArray[np.bool_]) -> list[Floats]:
    """Of each request, what it adds to the four of `Sums`."""
    logs = np.log(seconds)
    ones = counts.astype(np.float64)
    return [ones, ones * seconds, ones * logs, ones * logs * logs]


def _summed(values: Floats, every: int) -> list[list[float]]:
    """In the order of ArmSums.values, without cost and tokens, which are none."""
    sums = values.cumsum(axis=1)[:, every - 1 :: every].T
    nothing = np.zeros((len(sums), 2 * len(Sums().values())))
    rows: list[list[float]] = np.concatenate([sums, nothing], axis=1).tolist()
    return rows


class Counted(NamedTuple):
    """Of many runs."""

    runs: int
    rolled_back: int
    promoted: int
    after: float | None  # the median of the requests that decisions took

    @classmethod
    def of(cls, outcomes: list[Outcome]) -> "Counted":
        after = [outcome.after for outcome in outcomes if outcome.state != "running"]
        states = [outcome.state for outcome in outcomes]
        median = float(np.median(after)) if after else None
        return cls(len(outcomes), states.count("worse"), states.count("no_worse"), median)

    def row(self) -> dict[str, float | None]:
        """In per cent of the runs, but for the last."""
        shares = {"rolled back %": self.rolled_back, "promoted %": self.promoted}
        return {**{name: 100 * n / self.runs for name, n in shares.items()}, "requests, median": self.after}


def _counted(pool: ProcessPoolExecutor, run: Callable[[int], Outcome], runs: int) -> dict[str, float | None]:
    return Counted.of(list(pool.map(run, range(runs), chunksize=5))).row()


def _decided(pool: ProcessPoolExecutor, runs: int) -> Rows:
    """The issue's: worse ones and equal ones, in every world."""
    return {
        f"{name}; {world.name}": _counted(pool, partial(simulate, world, candidate), runs)
        for world, (name, candidate) in product(WORLDS, CANDIDATES.items())
    }


def _promoted(pool: ProcessPoolExecutor, runs: int) -> Rows:
    """Equal ones, for as long as it takes."""
    equal = CANDIDATES["equal"]
    return {
        f"equal, 400,000 requests; {world.name}": _counted(
            pool, partial(simulate, world, equal, requests=400_000, every=1000), runs
        )
        for world in WORLDS
        if world.stalls
    }


def _at_limits(pool: ProcessPoolExecutor, runs: int, closely: int) -> Rows:
    """Exactly at all limits at once, which is what ``error_probability`` promises of; and what looking seldom hides."""
    rows: Rows = {}
    for world in (WORLDS[1], WORLDS[5]):
        rows[f"at its limits; {world.name}"] = _counted(pool, partial(simulate, world, AT_LIMITS, every=50), runs)
    lax = CONFIG.model_copy(update={"error_probability": 0.4})
    for every in (50, 20, 1):
        run = partial(simulate, WORLDS[5], AT_LIMITS, every=every, config=lax)
        rows[f"at its limits, 40 %, looked at every {every}; {WORLDS[5].name}"] = _counted(pool, run, closely)
    return rows


@click.command(help=__doc__)
@click.option("--quick", is_flag=True, help="A tenth of the runs.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default="bench/out", show_default=True)
def main(quick: bool, out: Path) -> None:
    began_s = time.monotonic()
    with ProcessPoolExecutor() as pool:
        rows = {
            **_decided(pool, 10 if quick else 100),
            **_promoted(pool, 2 if quick else 20),
            **_at_limits(pool, *(100, 10) if quick else (2000, 60)),
        }
    print(report.table(f"runs of {REQUESTS} requests, {CONFIG.percent:g} % of them the canary's", rows))
    report.finish(out, "canary", {"runs": rows, "seconds": time.monotonic() - began_s})


if __name__ == "__main__":
    main()
