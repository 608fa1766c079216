"""When a stored answer has been judged right often enough to be given to like questions. Pure; the caller draws.

Theory. Whether an entry's answer is right for another question depends on how alike they are, and on the entry: some
questions have many neighbours that ask for something else. So each entry has a line of its own,
``P(right) = sigmoid(offset + slope * x)``, over the log odds ``x`` that the score gives a pair. What has been judged of
the entry makes some lines likelier than others; what is known beforehand is that the score is about right, ``offset``
near 0 and ``slope`` near 1 (the prior). Then, with ``wrong`` the chance of a wrong answer, averaged over the lines,

    an answer is given with probability min(1, max_error_rate / wrong),

and in all other cases the upstream is asked, and a judge compares: no more than ``max_error_rate`` of the requests get
a wrong answer, whatever is asked next, as long as the prior covers how entries differ. It is the rule of vCache
(arXiv 2502.03771), where the chance is bounded through a confidence interval of a fit by least loss; averaging
over a grid is the same bound without its slack, exact for few observations too, and needs no fit. The prior makes the
first answers possible: without one an entry would have to be asked, and judged, some six times first.

What would be wrong more often than ``_RARELY`` times the rate allows is not given at all, so that not only the requests
but the answers given stay mostly right.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Seen = tuple[float, bool]  # the log odds of a pair, and whether the answer was right
Grid = NDArray[np.float64]

_OFFSETS = np.linspace(-7.0, 7.0, 29)
_SLOPES = np.array([0.25, 0.5, 1.0, 2.0, 4.0])
_MOST_ODDS = 8.0  # beyond it the score is not to be believed
_RARELY = 10.0


@dataclass(frozen=True, slots=True)
class Prior:
    """How entries are thought to differ before anything is known of one: normal offsets, log-normal slopes."""

    offset: float = -0.5  # somewhat below what the score says: traffic is not what it was fitted on
    offset_spread: float = 1.5
    slope_spread: float = 0.6


#: The score is about right.
KNOWING = Prior()
#: Nothing is known, and most neighbours are wrong until judged right.
IGNORANT = Prior(offset=-3.0, offset_spread=3.0, slope_spread=1.0)


def wrong(seen: Sequence[Seen], log_odds: float, prior: Prior = KNOWING) -> float:
    """The chance, from 0.0 to 1.0, that the entry's answer is wrong for a question so near to it.

    Cost: about 15 µs, and 1 µs for each of ``seen``.
    """
    weights = _prior(prior)
    if seen:
        odds = np.array([_bounded(one) for one, _ in seen])
        signs = np.array([1.0 if right else -1.0 for _, right in seen])
        lines = _OFFSETS[:, None, None] + _SLOPES[None, :, None] * odds
        weights = weights - np.log1p(np.exp(-signs * lines)).sum(axis=2)
    weights = np.exp(weights - weights.max())
    misses = 0.5 * (1.0 - np.tanh(0.5 * (_OFFSETS[:, None] + _SLOPES * _bounded(log_odds))))
    return float((weights * misses).sum() / weights.sum())


def chance(seen: Sequence[Seen], log_odds: float, max_error_rate: float, prior: Prior = KNOWING) -> float:
    """The probability, from 0.0 to 1.0, with which the entry's answer is to be given. See above."""
    misses = wrong(seen, log_odds, prior)
    if misses > min(0.5, _RARELY * max_error_rate):
        return 0.0
    return min(1.0, max_error_rate / misses) if misses > 0.0 else 1.0


def _bounded(log_odds: float) -> float:
    return max(-_MOST_ODDS, min(_MOST_ODDS, log_odds))


@lru_cache(maxsize=8)
def _prior(prior: Prior) -> Grid:
    """The logarithm of every line's weight."""
    offsets = -0.5 * ((_OFFSETS - prior.offset) / prior.offset_spread) ** 2
    slopes = np.array([-0.5 * (math.log(slope) / prior.slope_spread) ** 2 for slope in _SLOPES])
    weights: Grid = offsets[:, None] + slopes[None, :]
    weights.flags.writeable = False
    return weights
