"""Questions that are kept."""

from genkan.cache.question import Question
from genkan.cache.questions import Questions


def test_a_question_is_taken_apart_once() -> None:
    questions = Questions()
    first = questions.of("How do I pay?")
    assert first == Question.of("How do I pay?")
    assert questions.of("How do I pay?") is first


def test_the_oldest_go_when_there_are_too_many_characters() -> None:
    questions = Questions(limit_chars=30)
    one = questions.of("How do I pay?")
    two = questions.of("May I pay now?")
    assert questions.of("How do I pay?") is one
    questions.of("Where to pay?")
    assert len(questions) == 2
    assert questions.of("How do I pay?") is one
    assert questions.of("May I pay now?") is not two


def test_one_that_is_larger_than_all_is_read_and_not_kept() -> None:
    questions = Questions(limit_chars=5)
    assert questions.of("How do I pay?").language == "en"
    assert len(questions) == 0
