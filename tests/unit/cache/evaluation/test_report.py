"""What is told of pairs."""

import json

import numpy as np
import pytest

from genkan.cache.evaluation.compared import Compared
from genkan.cache.evaluation.report import LanguageReport, Loss, reports, served_by
from genkan.cache.features import NAMES
from genkan.cache.score import Score

COSINE_ONLY = (100.0,) + (0.0,) * (len(NAMES) - 1)
SCORE = Score(  # a probability of a half at a cosine of 0.9
    weights=COSINE_ONLY, bias=-90.0, thresholds={"en": 0.5}, version="w", at_rates={"en": {0.1: 0.01}}
)


@pytest.fixture
def pairs() -> Compared:
    """Three that are the same, three that differ, in English; and two of a language without a threshold."""
    cosines = np.array([0.99, 0.88, 0.99, 0.96, 0.99, 0.50, 0.99, 0.99])
    vectors = np.zeros((8, len(NAMES)))
    vectors[:, 0] = cosines
    return Compared(
        cosines=cosines,
        same=np.array([True, True, True, False, False, False, True, False]),
        languages=np.array(["en"] * 6 + ["ko"] * 2),
        refusals=np.array(["", "", "numbers", "", "negation", "", "", ""]),
        features=vectors,
    )


def by_language(found: list[LanguageReport]) -> dict[str, LanguageReport]:
    return {report.language: report for report in found}


def test_served_is_what_passes_guards_and_the_threshold_of_its_language_and_rate(pairs: Compared) -> None:
    assert served_by(pairs, SCORE, 0.01).nonzero()[0].tolist() == [0, 3]
    assert served_by(pairs, SCORE, 0.1).nonzero()[0].tolist() == [0, 1, 3]
    assert not served_by(pairs, SCORE, 0.001).any()


def test_by_language_and_together(pairs: Compared) -> None:
    found = reports(pairs, SCORE, max_error_rate=0.01)
    assert [(one.language, one.same, one.different) for one in found] == [("en", 3, 3), ("ko", 1, 1), ("all", 4, 4)]
    served = {name: one.served for name, one in by_language(found).items()}
    assert [(rule.hits.counted, rule.wrong.counted) for rule in served.values()] == [(1, 1), (0, 0), (1, 1)]
    assert served["en"].wrong.high == pytest.approx(0.9057, abs=1e-4)


def test_what_is_lost_is_told_by_what_refused_it_first(pairs: Compared) -> None:
    found = by_language(reports(pairs, SCORE, max_error_rate=0.01))
    assert found["en"].losses == (Loss("numbers", 1, 0), Loss("negation", 0, 1), Loss("score", 1, 1))
    assert found["ko"].losses == (Loss("score", 1, 1),)
    for report in found.values():
        served = report.served
        assert served.hits.counted + sum(loss.same for loss in report.losses) == report.same
        assert served.wrong.counted + sum(loss.different for loss in report.losses) == report.different


def test_cosine_guards_and_score_stand_beside_each_other(pairs: Compared) -> None:
    rules = {rule.name: rule for rule in by_language(reports(pairs, SCORE, max_error_rate=0.0))["en"].rules}
    assert (rules["cosine >= 0.95"].hits.counted, rules["cosine >= 0.95"].wrong.counted) == (2, 2)
    assert (rules["guards, cosine >= 0.95"].hits.counted, rules["guards, cosine >= 0.95"].wrong.counted) == (1, 1)
    assert (rules["guards alone"].hits.counted, rules["guards alone"].wrong.counted) == (2, 2)
    best = rules["guards, cosine >= 0.990 (best for 0 % here)"]
    assert (best.hits.counted, best.wrong.counted) == (1, 0)


def test_pairs_of_one_kind_are_no_trouble_and_refused_ones_are_never_served(pairs: Compared) -> None:
    (report,) = reports(pairs.where(np.arange(8) < 3), SCORE, max_error_rate=0.01)
    assert (report.language, report.different) == ("en", 0)
    assert all(rule.hits.counted <= 2 for rule in report.rules if rule.name.startswith("guards"))
    assert report.served.wrong.high == 1.0


def test_it_is_json(pairs: Compared) -> None:
    content = json.loads(json.dumps([one.as_object() for one in reports(pairs, SCORE, max_error_rate=0.01)]))
    wrong = content[0]["served"]["wrong"]
    assert (wrong["count"], wrong["of"], wrong["share"]) == (1, 3, 1 / 3)
    assert (wrong["low"], wrong["high"]) == (pytest.approx(0.0084, abs=1e-4), pytest.approx(0.9057, abs=1e-4))
    assert content[0]["refused"][0] == {"name": "numbers", "same": 1, "different": 0}
