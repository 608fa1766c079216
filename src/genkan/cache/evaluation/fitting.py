"""A score, fitted to labelled pairs."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from genkan.cache.evaluation.compared import Bools, Compared
from genkan.cache.features import Vector
from genkan.cache.language import LEXICONS
from genkan.cache.score import Score, fit, threshold_for

#: Routes may ask for each of these, and get its threshold without a calibration of their own.
RATES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05)
_FOLDS = 5
_L2 = 10.0
_REFUSED = -1.0  # less than any probability
_FALLBACK = "en"
#: What is likelier wrong than right is not served at any rate: that few pairs show no wrong one proves little.
_LEAST = 0.5


def fitted(train: Compared, *, max_error_rate: float, label_noise: float = 0.0, version: str) -> Score:
    """A score, with the least threshold for each language that serves at most ``max_error_rate`` of its pairs that
    differ, and those of `RATES`; none lower than 0.5.

    It is fitted on all pairs, refused ones too: there are ten times as many, and what makes near pairs differ shows in
    them as well. Thresholds are set on folds that the fit did not see, on what passes the guards. A language without
    pairs that differ has that of English for half the error rate, and none if there are no such English ones.
    ``label_noise`` is the share of the English pairs labelled different that are not: a score that knows better than
    the label serves them.

    ValueError: too few pairs, or all of one kind.
    """
    at_rates = _thresholds(train, _unseen(train, version), label_noise, (*RATES, max_error_rate))
    return replace(
        _scored(train, np.ones_like(train.same), version),
        thresholds={language: found.pop(max_error_rate) for language, found in at_rates.items()},
        max_error_rate=max_error_rate,
        at_rates=at_rates,
    )


def _thresholds(
    train: Compared, chances: Vector, label_noise: float, rates: Sequence[float]
) -> dict[str, dict[float, float]]:
    """By language and by rate."""
    found = dict[str, dict[float, float]]()
    differing = set(train.languages[~train.same].tolist())
    for language in LEXICONS:
        known = language if language in differing else _FALLBACK
        ours = np.asarray(train.languages == known)
        part, noise = 1.0 if known == language else 0.5, label_noise if known == _FALLBACK else 0.0
        if known in differing:
            least = [max(_LEAST, threshold_for(chances[ours], train.same[ours], part * rate + noise)) for rate in rates]
            found[language] = dict(zip(rates, least, strict=True))
    return found


def _unseen(train: Compared, version: str) -> Vector:
    """The probability of each pair by a score that was fitted without it; less than any if a guard refuses it."""
    chances = np.full(len(train), _REFUSED)
    fold = np.arange(len(train)) % _FOLDS
    for one in range(_FOLDS):
        unseen = train.passed & (fold == one)
        chances[unseen] = _scored(train, fold != one, version).probabilities(train.features[unseen])
    return chances


def _scored(train: Compared, seen: Bools, version: str) -> Score:
    """Without thresholds."""
    weights, bias = fit(train.features[seen], train.same[seen], l2=_L2)
    return Score(weights=weights, bias=bias, thresholds={}, version=version)
