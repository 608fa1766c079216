"""A score, fitted to pairs."""

from dataclasses import replace

import numpy as np
import pytest
from pair_makers import english_pairs
from word_vectors import word_vectors

from genkan.cache.evaluation.compared import Compared, compare
from genkan.cache.evaluation.fitting import RATES, fitted
from genkan.cache.evaluation.report import served_by


@pytest.fixture(scope="module")
def train() -> Compared:
    return compare(english_pairs(), word_vectors)


FIELDS = ("cosines", "same", "languages", "refusals", "features")


def doubtful(train: Compared) -> Compared:
    """As if all passed the guards, and every tenth label was wrong."""
    flipped = np.arange(len(train)) % 10 == 0
    return replace(train, same=train.same ^ flipped, refusals=np.full(len(train), "", dtype=np.str_))


def test_what_it_learnt_from_it_serves(train: Compared) -> None:
    score = fitted(train, max_error_rate=0.01, version="words/1")
    served = served_by(train, score, 0.01)
    assert score.version == "words/1"
    assert served[train.same].mean() > 0.9
    assert not served[~train.same].any()


def test_a_looser_rate_never_has_a_higher_threshold(train: Compared) -> None:
    score = fitted(doubtful(train), max_error_rate=0.03, version="words/1")
    thresholds = [score.threshold("en", rate) for rate in sorted({*RATES, 0.03})]
    assert None not in thresholds
    assert thresholds == sorted(thresholds, reverse=True)  # type: ignore[type-var]  # none is None
    assert thresholds[0] > thresholds[-1]  # type: ignore[operator]
    assert score.max_error_rate == 0.03
    assert set(score.at_rates["en"]) == set(RATES)


def test_a_language_without_pairs_is_as_english_at_half_the_rate(train: Compared) -> None:
    score = fitted(doubtful(train), max_error_rate=0.02, version="words/1")
    assert score.threshold("vi") == score.threshold("en", 0.01)
    assert score.threshold("ko") == score.threshold("vi")
    assert score.threshold("en") < score.threshold("vi")  # type: ignore[operator]  # neither is None


def test_without_english_only_what_was_there_has_a_threshold(train: Compared) -> None:
    korean = replace(train, languages=np.full(len(train), "ko"))
    assert set(fitted(korean, max_error_rate=0.01, version="w").thresholds) == {"ko"}


def test_few_pairs_without_a_wrong_one_are_no_reason_to_serve_what_is_unlikely(train: Compared) -> None:
    score = fitted(train, max_error_rate=0.05, version="w")
    assert min(score.threshold("en", rate) or 0.0 for rate in RATES) >= 0.5


def test_a_language_whose_pairs_are_all_the_same_is_as_one_without_pairs(train: Compared) -> None:
    korean = train.where(train.same)
    korean = replace(korean, languages=np.full(len(korean), "ko"))
    both = Compared(**{name: np.concatenate([getattr(train, name), getattr(korean, name)]) for name in FIELDS})
    score = fitted(both, max_error_rate=0.02, version="w")
    assert score.threshold("ko") == score.threshold("en", 0.01)


def test_label_noise_lowers_the_thresholds(train: Compared) -> None:
    strict = fitted(doubtful(train), max_error_rate=0.01, version="w")
    lenient = fitted(doubtful(train), max_error_rate=0.01, label_noise=0.1, version="w")
    assert lenient.threshold("en") < strict.threshold("en")  # type: ignore[operator]  # neither is None


def test_pairs_of_one_kind_are_refused(train: Compared) -> None:
    with pytest.raises(ValueError, match="needed"):
        fitted(train.where(train.same), max_error_rate=0.01, version="w")
