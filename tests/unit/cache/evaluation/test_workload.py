"""A support desk's questions, asked of the tiers."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from word_vectors import word_vectors

from genkan.cache.calibrated import MULTILINGUAL_E5_SMALL
from genkan.cache.evaluation.workload import Outcome, Phrasing, read_phrasings, run, zipf
from genkan.cache.features import NAMES
from genkan.cache.score import Score

FILE = Path(__file__).parents[3] / "data" / "cache" / "support_questions.jsonl"
MOST = (1.0,) + (0.0,) * (len(NAMES) - 1)
#: Serves whatever passes the guards.
CREDULOUS = Score(weights=MOST, bias=0.0, thresholds={"en": 0.0}, version="w")


async def asked(*texts: str, score: Score = CREDULOUS, rate: float = 0.01) -> Outcome:
    """Each text is "intent: question"."""
    requests = [Phrasing(intent, "en", text) for intent, text in (text.split(": ", 1) for text in texts)]
    return await run(requests, word_vectors, score, max_error_rate=rate)


@pytest.mark.anyio
async def test_every_tier_serves_what_is_its_own() -> None:
    outcome = await asked(
        "pay: How do I pay the invoice of my last order?",
        "pay: How do I pay the invoice of my last order?",
        "pay: how do i pay the invoice of my last order",
        "pay: How can I pay the invoice of my last order please?",
        "weather: Which trees grow in the north of the country?",
    )
    assert outcome == Outcome(requests=5, exact=1, normalised=1, semantic=1, wrong=())
    assert (outcome.hit_rate, outcome.semantic_rate) == (0.6, 1 / 3)


@pytest.mark.anyio
async def test_the_answer_of_another_intent_is_wrong() -> None:
    outcome = await asked(
        "pay: How do I pay the invoice of my last order?", "other: How can I pay the invoice of my last order please?"
    )
    assert outcome.semantic == 1
    (wrong,) = outcome.wrong
    assert (wrong.asked.intent, wrong.intent) == ("other", "pay")
    assert wrong.question == "How do I pay the invoice of my last order?"


@pytest.mark.anyio
async def test_guards_and_thresholds_of_the_rate_are_asked() -> None:
    texts = ("a: How do I pay the invoice of my last order?", "a: How can I pay the invoice of my last order please?")
    strict = replace(CREDULOUS, thresholds={"en": 1.0}, at_rates={"en": {0.05: 0.0}})
    assert (await asked(*texts, score=strict)).semantic == 0
    assert (await asked(*texts, score=strict, rate=0.05)).semantic == 1
    numbers = [f"{number}: How do I pay the invoice of {number} euros for my order?" for number in (15, 16)]
    assert (await asked(*numbers)).hit_rate == 0.0


def test_a_seed_gives_the_same_requests_and_a_few_intents_most_of_them() -> None:
    phrasings = read_phrasings(FILE)
    requests = zipf(phrasings, requests=20_000, seed=7)
    assert requests == zipf(phrasings, requests=20_000, seed=7)
    assert requests != zipf(phrasings, requests=20_000, seed=8)
    counts = [count for _, count in Counter(request.intent for request in requests).most_common()]
    harmonic = sum(1 / rank for rank in range(1, 21))
    assert len(counts) == 20
    assert counts[0] / 20_000 == pytest.approx(1 / harmonic, rel=0.05)
    assert counts[0] / counts[3] == pytest.approx(4.0, rel=0.15)


def test_the_questions_are_of_20_intents_in_many_words() -> None:
    phrasings = read_phrasings(FILE)
    counts = Counter((phrasing.intent, phrasing.language) for phrasing in phrasings)
    assert len({phrasing.text for phrasing in phrasings}) == len(phrasings)
    english = [count for (_, language), count in counts.items() if language == "en"]
    assert (len(english), min(english) >= 25) == (20, True)
    for language in ("vi", "ko"):
        others = [count for (_, found), count in counts.items() if found == language]
        assert (len(others), min(others) >= 8) == (6, True)


@pytest.mark.parametrize("line", ["{", '{"intent": "a", "text": "b"}', "[1]", "null"])
def test_what_is_no_phrasing_is_told_with_its_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text(f'{{"intent": "a", "language": "en", "text": "b"}}\n{line}\n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"questions\.jsonl, line 2"):
        read_phrasings(path)


@pytest.mark.anyio
async def test_the_score_that_ships_serves_nothing_of_vectors_that_are_far_apart() -> None:
    english = [phrasing for phrasing in read_phrasings(FILE) if phrasing.language == "en"]
    outcome = await run(zipf(english, requests=200, seed=0), word_vectors, MULTILINGUAL_E5_SMALL, max_error_rate=0.001)
    assert outcome.exact > 0
    assert outcome.wrong == ()
