"""Stored questions that are near to a new one, and what may be done with each. Pure."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from genkan.cache.features import features
from genkan.cache.guards import refusal
from genkan.cache.index.base import Near, Seen
from genkan.cache.question import Question
from genkan.cache.questions import Questions
from genkan.cache.score import Score
from genkan.cache.verdicts import Verdicts
from genkan.cache.verified import KNOWING, Prior, chance

#: So far below the threshold, in log odds, a pair is worth a judge: about half of them have one answer.
_GREY = 2.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A stored question that no guard tells apart from the new one."""

    key: bytes  # of its answer
    question: Question
    log_odds: float  # that one answer serves both
    is_judged_same: bool  # this very pair was judged, and one answer serves both


class Choice(NamedTuple):
    """Candidates, best first: those whose answers may be given, and those a judge should see."""

    given: list[Candidate]
    doubtful: list[Candidate]


def candidates(
    question: Question, key: bytes, near: Iterable[Near], *, questions: Questions, score: Score, verdicts: Verdicts
) -> list[Candidate]:
    """Those of ``near`` that pass the guards and were not judged different, best first. ``key`` is the new one's own.

    Cost: about 50 µs for each that passes, and 0.2 ms for each that ``questions`` has not met.
    """
    found = []
    for one in near:
        said = None if one.key == key else verdicts.of(key, one.key)
        if one.key == key or said is False:
            continue  # its own answer would have been found, if it were there
        other = questions.of(one.text)
        if refusal(question, other) is None:
            log_odds = score.log_odds(features(question, other, one.cosine))
            found.append(Candidate(one.key, other, log_odds, said is True))
    found.sort(key=lambda candidate: (candidate.is_judged_same, candidate.log_odds), reverse=True)
    return found


def by_threshold(found: Sequence[Candidate], threshold: float) -> Choice:
    """Those that are likely enough are given; those that nearly are, are doubtful."""
    least = _log_odds(threshold)
    given = [one for one in found if one.is_judged_same or one.log_odds >= least]
    return Choice(given, [one for one in found if one not in given and one.log_odds >= least - _GREY])


def by_verdicts(
    found: Sequence[Candidate],
    threshold: float,
    max_error_rate: float,
    seen: Callable[[bytes], Sequence[Seen]],
    drawn: float,
    prior: Prior = KNOWING,
) -> Choice:
    """Those are given of which enough was judged, as ``verified`` says; all others that are not unlikely are doubtful.

    ``drawn`` is uniform in [0, 1), one number for a request.
    """
    given = [
        one for one in found if one.is_judged_same or drawn < chance(seen(one.key), one.log_odds, max_error_rate, prior)
    ]
    least = _log_odds(threshold) - _GREY
    return Choice(given, [one for one in found if one not in given and one.log_odds >= least])


def _log_odds(probability: float) -> float:
    if not 0.0 < probability < 1.0:
        return math.inf if probability > 0.0 else -math.inf
    return math.log(probability / (1.0 - probability))
