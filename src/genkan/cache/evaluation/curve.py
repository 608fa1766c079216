"""What is served, rightly and wrongly, at every threshold."""

from typing import NamedTuple

import numpy as np

from genkan.cache.evaluation.compared import Bools, Compared
from genkan.cache.features import Vector
from genkan.cache.score import Score

#: Less than any cosine and any probability: what a guard refuses, no threshold serves.
REFUSED = -2.0


class Curve(NamedTuple):
    """Shares of the pairs that are the same and of those that differ which are served, by falling threshold.

    Both begin with 0.0 and never fall; what no threshold serves is in neither, so they need not reach 1.0.
    """

    name: str
    hits: Vector
    wrong: Vector

    def hits_at(self, most_wrong: float) -> float:
        """The most that is served rightly with at most this share served wrongly."""
        return float(self.hits[self.wrong <= most_wrong].max())


def curves(compared: Compared, score: Score) -> tuple[Curve, Curve, Curve]:
    """Of the cosine alone, of the cosine of what passes the guards, and of the score of what passes."""
    return (
        _curve("cosine", compared.cosines, compared.same),
        _curve("guards + cosine", guarded(compared, compared.cosines), compared.same),
        _curve("guards + score", guarded(compared, score.probabilities(compared.features)), compared.same),
    )


def guarded(compared: Compared, values: Vector) -> Vector:
    """``values``, and `REFUSED` where a guard refuses."""
    return np.where(compared.passed, values, REFUSED)


def _curve(name: str, values: Vector, same: Bools) -> Curve:
    kept = values > REFUSED
    order = np.argsort(-values[kept], kind="stable")
    falling, right = values[kept][order], same[kept][order]
    ends = np.append(np.diff(falling) != 0, True)[: len(falling)]  # equal values are served together
    hits, wrong = (np.concatenate([[0], np.cumsum(served)[ends]]) for served in (right, ~right))
    return Curve(name, hits / max(1, same.sum()), wrong / max(1, (~same).sum()))
