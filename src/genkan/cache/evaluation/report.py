"""What would be served of labelled pairs, by language: counted, with bounds, and what refused the rest."""

from typing import NamedTuple

import numpy as np

from genkan.cache.evaluation.bounds import Share, share
from genkan.cache.evaluation.compared import UNSOUGHT, Bools, Compared
from genkan.cache.evaluation.curve import REFUSED, guarded
from genkan.cache.features import Vector
from genkan.cache.guards import GUARDS
from genkan.cache.score import Score, threshold_for

ALL = "all"
_COSINES = (0.90, 0.95, 0.97, 0.98)


class Rule(NamedTuple):
    """One way to decide: of the pairs that are the same those that it serves, and of those that differ."""

    name: str
    hits: Share
    wrong: Share


class Loss(NamedTuple):
    """Pairs that are the same, and that differ, which one guard or the score's threshold refuses first, or which would
    not be sought."""

    name: str
    same: int
    different: int


class LanguageReport(NamedTuple):
    """The pairs of one language, or all of them. ``rules`` ends with ``served``: what the semantic tier would do."""

    language: str
    same: int
    different: int
    rules: tuple[Rule, ...]
    served: Rule
    losses: tuple[Loss, ...]

    def as_object(self) -> dict[str, object]:
        """For JSON."""
        return {
            "language": self.language,
            "same": self.same,
            "different": self.different,
            "served": _object(self.served),
            "rules": [_object(rule) for rule in self.rules],
            "refused": [loss._asdict() for loss in self.losses],
        }


def reports(compared: Compared, score: Score, *, max_error_rate: float) -> list[LanguageReport]:
    """One for each language that is there, and the last for all together if there are several."""
    names = sorted(set(compared.languages.tolist()))
    groups = [(name, compared.where(np.asarray(compared.languages == name))) for name in names]
    if len(names) > 1:
        groups.append((ALL, compared))
    return [_report(name, group, score, max_error_rate) for name, group in groups]


def served_by(compared: Compared, score: Score, max_error_rate: float) -> Bools:
    """Which pairs no guard refuses and the score serves at the threshold of their language for that rate."""
    at_least = {name: score.threshold(name, max_error_rate) for name in set(compared.languages.tolist())}
    least = np.array([_never(at_least[name]) for name in compared.languages.tolist()])
    return compared.passed & (score.probabilities(compared.features) >= least)


def _never(threshold: float | None) -> float:
    return 2.0 if threshold is None else threshold


def _report(name: str, group: Compared, score: Score, rate: float) -> LanguageReport:
    is_served = served_by(group, score, rate)
    served = _rule("guards + score, as configured", is_served, group.same)
    chances, cosines = guarded(group, score.probabilities(group.features)), guarded(group, group.cosines)
    rules = [
        *(_rule(f"cosine >= {least:.2f}", group.cosines >= least, group.same) for least in _COSINES),
        _best("cosine", group.cosines, group, rate),
        _rule("guards alone", group.passed, group.same),
        *(_rule(f"guards, cosine >= {least:.2f}", cosines >= least, group.same) for least in _COSINES),
        _best("guards, cosine", cosines, group, rate),
        _best("guards, score", chances, group, rate),
        served,
    ]
    same = int(group.same.sum())
    return LanguageReport(name, same, len(group) - same, tuple(rules), served, _losses(group, is_served))


def _rule(name: str, served: Bools, same: Bools) -> Rule:
    hits, wrong = served[same], served[~same]
    return Rule(name, share(int(hits.sum()), len(hits)), share(int(wrong.sum()), len(wrong)))


def _best(name: str, values: Vector, group: Compared, rate: float) -> Rule:
    """With the threshold that this file itself would give: better than any that is found elsewhere."""
    threshold = threshold_for(values, group.same, rate)
    served = (values >= threshold) & (values > REFUSED)
    return _rule(f"{name} >= {max(threshold, 0.0):.3f} (best for {100 * rate:g} % here)", served, group.same)


def _losses(group: Compared, served: Bools) -> tuple[Loss, ...]:
    refused = [(name, np.asarray(group.refusals == name)) for name in (*(name for name, _ in GUARDS), UNSOUGHT)]
    refused.append(("score", group.passed & ~served))
    counted = [Loss(name, int((ours & group.same).sum()), int((ours & ~group.same).sum())) for name, ours in refused]
    return tuple(loss for loss in counted if loss.same or loss.different)


def _object(rule: Rule) -> dict[str, object]:
    return {"rule": rule.name, "hits": rule.hits.as_object(), "wrong": rule.wrong.as_object()}
