"""The score that ships."""

import pytest

from genkan.cache.calibrated import MULTILINGUAL_E5_SMALL as SCORE
from genkan.cache.features import features
from genkan.cache.language import LEXICONS
from genkan.cache.question import Question


def served(one: str, two: str, cosine: float) -> bool:
    question, other = Question.of(one), Question.of(two)
    return SCORE.serves(features(question, other, cosine), question.language)


@pytest.mark.parametrize(
    "text", ["How do I reset my password?", "Làm sao để đổi mật khẩu?", "비밀번호를 변경하는 방법을 알려주세요"]
)
def test_a_question_is_served_its_own_answer_and_not_that_of_a_vector_far_away(text: str) -> None:
    assert served(text, text, 1.0)
    assert not served(text, text, 0.80)


def test_a_nearer_vector_is_never_less_likely() -> None:
    one, two = Question.of("How do I reset my password?"), Question.of("What is the way to reset a password?")
    chances = [SCORE.probability(features(one, two, cosine / 100)) for cosine in range(80, 101)]
    assert chances == sorted(chances)


def test_every_language_with_guards_has_a_threshold_that_is_no_coin_toss() -> None:
    assert set(SCORE.thresholds) == set(LEXICONS)
    assert all(threshold > 0.5 for threshold in SCORE.thresholds.values())
    assert "e5" in SCORE.version


def test_the_stricter_the_rate_the_higher_the_threshold() -> None:
    for language in LEXICONS:
        thresholds = [SCORE.threshold(language, rate) for rate in (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.2)]
        assert None not in thresholds
        assert thresholds == sorted(thresholds, reverse=True)  # type: ignore[type-var]  # none is None
        assert SCORE.threshold(language, 0.0009) is None
