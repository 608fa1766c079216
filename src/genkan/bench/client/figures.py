"""The numbers that a run comes to. All latencies are of answers without an error; goodput counts every request."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from statistics import fmean, stdev
from typing import Any

from genkan.bench.client.outcome import Outcome
from genkan.bench.timing import percentile

_HITS = ("hit-exact", "hit-semantic")


@dataclass(frozen=True, slots=True)
class Objective:
    """What a request must keep to count as good (SLO), in seconds; None demands nothing. No error is always demanded.

    ``itl_s`` bounds every gap between two pieces of text, ``tpot_s`` their mean.
    """

    ttft_s: float | None = None
    itl_s: float | None = None
    tpot_s: float | None = None
    latency_s: float | None = None

    def __bool__(self) -> bool:
        return any(bound is not None for bound in (self.ttft_s, self.itl_s, self.tpot_s, self.latency_s))

    def is_met(self, outcome: Outcome) -> bool:
        """Whether it is. Where there was no first token, no time of one was kept."""
        if outcome.seen.error is not None:
            return False
        if self.ttft_s is not None and (outcome.ttft_s is None or outcome.ttft_s > self.ttft_s):
            return False
        return (
            _within(self.itl_s, max(outcome.gaps_s, default=0.0))
            and _within(self.tpot_s, outcome.tpot_s or 0.0)
            and _within(self.latency_s, outcome.latency_s)
        )


@dataclass(frozen=True, slots=True)
class Spread:
    """A sample's figures, in milliseconds."""

    mean_ms: float
    stdev_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


def spread(values_s: Sequence[float]) -> Spread | None:
    """Of seconds; None when there are none. One value has a deviation of 0."""
    if not values_s:
        return None
    p50, p95, p99 = (1e3 * percentile(values_s, percent) for percent in (50, 95, 99))
    deviation = stdev(values_s) if len(values_s) > 1 else 0.0
    return Spread(1e3 * fmean(values_s), 1e3 * deviation, p50, p95, p99, 1e3 * max(values_s))


#: What is timed of a request, by the names of the report.
TIMES: Mapping[str, Callable[[Outcome], Sequence[float]]] = {
    "ttft": lambda outcome: [] if outcome.ttft_s is None else [outcome.ttft_s],
    "itl": lambda outcome: outcome.gaps_s,
    "tpot": lambda outcome: [] if outcome.tpot_s is None else [outcome.tpot_s],
    "e2e": lambda outcome: [outcome.latency_s],
}


def times_s(outcomes: Sequence[Outcome], name: str) -> list[float]:
    """All that was timed under that name, in the order of the outcomes; those that failed are left out."""
    return list(chain.from_iterable(TIMES[name](outcome) for outcome in outcomes if outcome.seen.error is None))


def by_arm(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """The outcomes of each arm, in order."""
    arms: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        arms.setdefault(outcome.arm, []).append(outcome)
    return arms


def figures(outcomes: Sequence[Outcome], objective: Objective) -> dict[str, Any]:
    """All figures of one arm, as they are in the JSON. ``goodput`` is there with an objective only.

    The time that rates are over is from when the first was due to when the last ended. Raises ValueError without
    outcomes.
    """
    if not outcomes:
        raise ValueError("no request has ended")
    answered = [outcome for outcome in outcomes if outcome.seen.error is None]
    elapsed_s = elapsed(outcomes)
    result: dict[str, Any] = {
        "requests": len(outcomes),
        "answered": len(answered),
        "errors": dict(Counter(str(one.seen.error) for one in outcomes if one.seen.error).most_common()),
        "error_rate": 1 - len(answered) / len(outcomes),
        "elapsed_s": elapsed_s,
        "rps": len(answered) / elapsed_s,
        "output_tokens_per_s": sum(one.seen.completion_tokens or 0 for one in answered) / elapsed_s,
    }
    for name in TIMES:
        measured = spread(times_s(answered, name))
        result[name] = None if measured is None else asdict(measured)
    if objective:
        met = sum(map(objective.is_met, outcomes))
        result["goodput"] = {"share": met / len(outcomes), "rps": met / elapsed_s, **_bounds(objective)}
    return result | {"cache": _cache(answered), "tokens": _tokens(answered), "cost": _cost(answered)}


def elapsed(outcomes: Sequence[Outcome]) -> float:
    """From when the first was due to when the last ended, in seconds, and never 0."""
    began_s = min(min(outcome.due_s, outcome.started_s) for outcome in outcomes)
    return max(max(outcome.seen.ended_s for outcome in outcomes) - began_s, 1e-9)


def _cache(answered: Sequence[Outcome]) -> dict[str, Any]:
    """``hit_rate`` is None where the server says nothing of stored answers."""
    states = Counter(outcome.seen.cache for outcome in answered if outcome.seen.cache)
    hits = sum(states[name] for name in _HITS)
    return {"states": dict(states), "hit_rate": hits / states.total() if states else None}


def _tokens(answered: Sequence[Outcome]) -> dict[str, Any]:
    """What was counted, and what of it did not have to be computed.

    ``prefix_cached`` are prompt tokens whose keys and values were still there. A stored answer spares all its tokens.
    """
    stored = [outcome.seen for outcome in answered if outcome.seen.cache in _HITS]
    computed = [outcome.seen for outcome in answered if outcome.seen.cache not in _HITS]
    prompt = sum(outcome.seen.prompt_tokens or 0 for outcome in answered)
    completion = sum(outcome.seen.completion_tokens or 0 for outcome in answered)
    prefix_cached = sum(seen.cached_tokens for seen in computed)
    stored_tokens = sum((seen.prompt_tokens or 0) + (seen.completion_tokens or 0) for seen in stored)
    whole = prompt + completion
    return {
        "prompt": prompt,
        "completion": completion,
        "prefix_cached": prefix_cached,
        "of_stored_answers": stored_tokens,
        "saved_share": (prefix_cached + stored_tokens) / whole if whole else None,
    }


def _cost(answered: Sequence[Outcome]) -> dict[str, Any]:
    """``usd`` adds what the server said; None where it never did, and ``unpriced`` says how often it did not."""
    known = [outcome.seen.cost_usd for outcome in answered if outcome.seen.cost_usd is not None]
    usd = sum(known) if known else None
    return {
        "usd": usd,
        "usd_per_1k_requests": None if usd is None else 1e3 * usd / len(known),
        "unpriced": len(answered) - len(known),
    }


def _bounds(objective: Objective) -> dict[str, float]:
    bounds = asdict(objective).items()
    return {f"{name.removesuffix('_s')}_ms": 1e3 * bound for name, bound in bounds if bound is not None}


def _within(bound_s: float | None, value_s: float) -> bool:
    return bound_s is None or value_s <= bound_s
