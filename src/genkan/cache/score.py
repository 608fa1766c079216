"""How likely it is that one answer serves two questions: a logistic score, and how it is fitted."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from genkan.cache.features import NAMES, Vector

Matrix = NDArray[np.float64]

_STEPS = 100
_SETTLED = 1e-9


@dataclass(frozen=True, kw_only=True)
class Score:
    """Weights over ``features``. Of one embedder: ``version`` names it, and another's cosines mean something else."""

    weights: tuple[float, ...]
    bias: float
    thresholds: Mapping[str, float]  # by language, the least probability that may be served; none: never
    version: str
    max_error_rate: float = 0.01  # that ``thresholds`` were set for
    at_rates: Mapping[str, Mapping[float, float]] = field(default_factory=dict)  # by language, those of other rates

    def __post_init__(self) -> None:
        if len(self.weights) != len(NAMES):
            raise ValueError(f"a score has {len(NAMES)} weights, not {len(self.weights)}")
        for name in {*self.thresholds, *self.at_rates}:
            for threshold in self._by_rate(name).values():
                if not 0.0 <= threshold <= 1.0:
                    raise ValueError(f"a threshold is a probability, not {threshold} ({name})")

    def probability(self, vector: Vector) -> float:
        """That one answer serves both, from 0.0 to 1.0. Cost: about 3 µs."""
        return float(_logistic(vector @ self._weights + self.bias))

    def log_odds(self, vector: Vector) -> float:
        """The same as log(p / (1 - p)), which tells very likely pairs apart."""
        return float(vector @ self._weights + self.bias)

    def threshold(self, language: str | None, max_error_rate: float | None = None) -> float | None:
        """The least probability that may be served; None: nothing may.

        Of the rates that there are thresholds for, it is that of the largest which ``max_error_rate`` allows. Without
        one it is that of ``thresholds``.
        """
        if max_error_rate is None:
            return self.thresholds.get(language or "")
        known = self._by_rate(language or "")
        return known.get(max((rate for rate in known if rate <= max_error_rate), default=-1.0))

    def serves(self, vector: Vector, language: str | None, max_error_rate: float | None = None) -> bool:
        """Whether the probability reaches the threshold of the language."""
        threshold = self.threshold(language, max_error_rate)
        return threshold is not None and self.probability(vector) >= threshold

    def probabilities(self, vectors: Matrix) -> Vector:
        """Of many pairs, a row each."""
        probabilities: Vector = _logistic(vectors @ self._weights + self.bias)
        return probabilities

    def as_dict(self) -> dict[str, object]:
        """For a file: every weight by its feature's name."""
        weights = dict(zip(NAMES, self.weights, strict=True))
        return {
            "version": self.version,
            "max_error_rate": self.max_error_rate,
            "thresholds": dict(self.thresholds),
            "at_rates": {
                name: {str(rate): threshold for rate, threshold in sorted(found.items())}
                for name, found in self.at_rates.items()
            },
            "bias": self.bias,
            "weights": weights,
        }

    @classmethod
    def from_dict(cls, kept: Mapping[str, object]) -> Self:
        """What ``as_dict`` gave. ValueError: the features were others, or a field is missing or no number."""
        weights, thresholds = kept.get("weights"), kept.get("thresholds")
        if not isinstance(weights, Mapping) or tuple(weights) != NAMES:
            raise ValueError("the score was fitted on other features; calibrate again")
        if not isinstance(thresholds, Mapping):
            raise ValueError("a score has thresholds, by language")
        at_rates = kept.get("at_rates", {})
        if not isinstance(at_rates, Mapping) or not all(isinstance(found, Mapping) for found in at_rates.values()):
            raise ValueError("a score's thresholds at other rates are by language, then by rate")
        return cls(
            weights=tuple(_number(weights[name]) for name in NAMES),
            bias=_number(kept.get("bias")),
            thresholds={str(name): _number(threshold) for name, threshold in thresholds.items()},
            version=str(kept.get("version", "")),
            max_error_rate=_number(kept.get("max_error_rate", 0.01)),
            at_rates={
                str(name): {float(rate): _number(threshold) for rate, threshold in found.items()}
                for name, found in at_rates.items()
            },
        )

    def _by_rate(self, language: str) -> dict[float, float]:
        known = dict(self.at_rates.get(language, {}))
        if language in self.thresholds:
            known[self.max_error_rate] = self.thresholds[language]
        return known

    @cached_property
    def _weights(self) -> Vector:
        return np.array(self.weights, dtype=np.float64)


def fit(vectors: Matrix, same: NDArray[np.bool_], *, l2: float = 1.0) -> tuple[tuple[float, ...], float]:
    """The weights and the bias that make ``same`` most likely; the same for the same input, to the last bit.

    ``vectors`` has a row for each pair, ``same`` says whether one answer serves it. Features are scaled to unit spread
    for the penalty ``l2 / 2 * |w|²`` (the bias is free), and the weights returned are those of the raw features; one
    that never varies gets 0. Newton's method; 10,000 pairs take some 50 ms.

    ValueError: fewer than two pairs, or all of one kind.
    """
    if vectors.ndim != 2 or vectors.shape[0] != same.shape[0]:
        raise ValueError("a row of features is needed for each label")
    if same.all() or not same.any():
        raise ValueError("pairs that are the same and pairs that are not are both needed")
    middle, spread = vectors.mean(axis=0), vectors.std(axis=0)
    varies = spread > 1e-12
    scaled = np.where(varies, (vectors - middle) / np.where(varies, spread, 1.0), 0.0)
    solution = _newton(np.column_stack([scaled, np.ones(len(scaled))]), same.astype(np.float64), l2)
    weights = np.where(varies, solution[:-1] / np.where(varies, spread, 1.0), 0.0)
    return tuple(float(weight) for weight in weights), float(solution[-1] - weights @ middle)


def threshold_for(probabilities: Vector, same: NDArray[np.bool_], max_error_rate: float) -> float:
    """The least threshold at which at most ``max_error_rate`` of the pairs that differ are served.

    1.0 if none does; no lower than the least probability given. The pairs should be others than those of the fit.
    """
    different = np.sort(probabilities[~same])[::-1]
    allowed = int(max_error_rate * len(different))
    if allowed >= len(different):
        return float(probabilities.min(initial=1.0))
    above = probabilities[probabilities > different[allowed]]
    return float(above.min(initial=1.0))


def _newton(rows: Matrix, labels: Vector, l2: float) -> Vector:
    penalty = np.full(rows.shape[1], l2)
    penalty[-1] = 1e-6  # the bias: as good as free, and the system stays solvable
    solution = np.zeros(rows.shape[1])
    for _ in range(_STEPS):
        chances = _logistic(rows @ solution)
        slope = rows.T @ (chances - labels) + penalty * solution
        curve = (rows * (chances * (1.0 - chances))[:, None]).T @ rows + np.diag(penalty)
        step = np.linalg.solve(curve, slope)
        solution = solution - step * min(1.0, 5.0 / (float(np.abs(step).max()) + 1e-12))  # never past where it is true
        if float(np.abs(step).max()) < _SETTLED:
            break
    return solution


def _logistic(value: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.5 * (1.0 + np.tanh(0.5 * value))


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        raise ValueError("a score's numbers are finite")
    return float(value)
