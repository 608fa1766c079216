"""Arms that take turns, and what their rounds say together.

A machine drifts: its clock, its neighbours, its caches. So every arm runs once a round, beginning with another one each
round, and arms are compared by medians, with the spread of the rounds' own ratios beside them.
"""

import sys
from collections.abc import Callable, Iterable, Mapping
from statistics import median
from typing import NamedTuple

Arm = Callable[[], Mapping[str, float]]


class Ratio(NamedTuple):
    """A ratio of medians, and the smallest and the largest of the rounds' own ratios."""

    of_medians: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.of_medians:.3g} (rounds: {self.low:.3g} to {self.high:.3g})"


class Rounds:
    """What each arm measured, by metric, one number a round."""

    def __init__(self, arms: Iterable[str]) -> None:
        self._measured: dict[str, list[Mapping[str, float]]] = {arm: [] for arm in arms}

    @property
    def arms(self) -> list[str]:
        """Their names, in the order given."""
        return list(self._measured)

    def add(self, arm: str, measured: Mapping[str, float]) -> None:
        self._measured[arm].append(measured)

    def median(self, arm: str, metric: str) -> float:
        """Over the rounds. Raises KeyError for an arm or a metric that was not measured."""
        return median(self.values(arm, metric))

    def values(self, arm: str, metric: str) -> list[float]:
        """One a round, in order. Raises KeyError for an arm or a metric that was not measured."""
        return [measured[metric] for measured in self._measured[arm]]

    def ratio(self, metric: str, over: str, under: str) -> Ratio:
        """Arm ``over`` against arm ``under``. Raises KeyError as ``values`` does."""
        pairs = zip(self.values(over, metric), self.values(under, metric), strict=True)
        own = [one / other for one, other in pairs]
        return Ratio(self.median(over, metric) / self.median(under, metric), min(own), max(own))


def interleaved(title: str, arms: Mapping[str, Arm], rounds: int) -> Rounds:
    """Run every arm once a round and say on stderr which one runs."""
    names = list(arms)
    result = Rounds(names)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            print(f"{title}: round {number + 1} of {rounds}, {name}", file=sys.stderr, flush=True)
            result.add(name, arms[name]())
    return result
