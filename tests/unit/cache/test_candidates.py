"""What may be done with stored questions that are near."""

import pytest

from genkan.cache.calibrated import MULTILINGUAL_E5_SMALL as SCORE
from genkan.cache.candidates import Candidate, by_threshold, by_verdicts, candidates
from genkan.cache.index.base import Near, Seen
from genkan.cache.question import Question
from genkan.cache.questions import Questions
from genkan.cache.verdicts import Verdicts

ASKED = Question.of("How do I turn on dark mode?")
NEAR = [
    Near(b"off", "How do I turn off dark mode?", 0.995),
    Near(b"same", "What is the way to turn on dark mode?", 0.97),
    Near(b"best", "How can I turn on dark mode?", 0.99),
    Near(b"own", "How do I turn on dark mode", 1.0),
]


def found(verdicts: Verdicts) -> list[bytes]:
    near = candidates(ASKED, b"own", NEAR, questions=Questions(), score=SCORE, verdicts=verdicts)
    return [one.key for one in near]


def candidate(key: bytes, log_odds: float, *, is_judged_same: bool = False) -> Candidate:
    return Candidate(key, ASKED, log_odds, is_judged_same)


def test_guards_forbid_and_the_likeliest_comes_first() -> None:
    assert found(Verdicts()) == [b"best", b"same"]


def test_what_was_judged_goes_before_what_is_likely() -> None:
    verdicts = Verdicts()
    verdicts.note(b"own", b"same", True)
    assert found(verdicts) == [b"same", b"best"]
    verdicts.note(b"best", b"own", False)
    verdicts.note(b"own", b"off", True)
    assert found(verdicts) == [b"same"]  # no verdict overrules a guard


@pytest.mark.parametrize(
    ("threshold", "given", "doubtful"),
    [
        (0.5, [b"yes", b"a", b"b"], [b"c"]),
        (0.9, [b"yes"], [b"a", b"b"]),
        (1.0, [b"yes"], []),
        (0.0, [b"yes", b"a", b"b", b"c"], []),
    ],
)
def test_likely_enough_is_given_and_nearly_so_is_doubtful(
    threshold: float, given: list[bytes], doubtful: list[bytes]
) -> None:
    near = [candidate(b"yes", -9.0, is_judged_same=True), *map(candidate, (b"a", b"b", b"c"), (2.0, 1.0, -1.0))]
    choice = by_threshold(near, threshold)
    assert [one.key for one in choice.given] == given
    assert [one.key for one in choice.doubtful] == doubtful


def test_by_verdicts_each_entry_is_given_as_often_as_its_own_record_allows() -> None:
    record: dict[bytes, list[Seen]] = {b"good": [(2.0, True)] * 60, b"bad": [(2.0, False)] * 5}
    near = [candidate(b"good", 2.0), candidate(b"bad", 2.0), candidate(b"new", 2.0), candidate(b"far", -3.0)]

    def choice(drawn: float) -> tuple[list[bytes], list[bytes]]:
        given, doubtful = by_verdicts(near, 0.6, 0.02, lambda key: record.get(key, ()), drawn)
        return [one.key for one in given], [one.key for one in doubtful]

    assert choice(0.5) == ([b"good"], [b"bad", b"new"])
    record[b"good"] = record[b"good"][:10]
    assert choice(0.99) == ([], [b"good", b"bad", b"new"])
