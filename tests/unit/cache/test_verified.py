"""How often an entry's answer may be given, from what was judged of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genkan.cache.verified import IGNORANT, KNOWING, Prior, Seen, chance, wrong

SEEN = st.lists(st.tuples(st.floats(-20, 20), st.booleans()), max_size=64)
PRIORS = st.sampled_from([KNOWING, IGNORANT])


@given(SEEN, st.floats(-20, 20), st.floats(0.001, 0.2), PRIORS)
def test_a_chance_is_one_and_no_more_than_the_bound_allows(
    seen: list[Seen], log_odds: float, rate: float, prior: Prior
) -> None:
    misses = wrong(seen, log_odds, prior)
    given = chance(seen, log_odds, rate, prior)
    assert 0.0 <= misses <= 1.0
    assert 0.0 <= given <= 1.0
    assert given * misses <= rate * (1 + 1e-9)
    assert given == 0.0 or misses <= 0.5


@given(SEEN, st.floats(-8, 8), PRIORS)
def test_a_yes_never_harms_and_a_no_never_helps(seen: list[Seen], log_odds: float, prior: Prior) -> None:
    before = wrong(seen, log_odds, prior)
    assert wrong([*seen, (log_odds, True)], log_odds, prior) <= before + 1e-12
    assert wrong([*seen, (log_odds, False)], log_odds, prior) >= before - 1e-12


def test_a_nearer_question_is_less_often_wrong() -> None:
    seen = [(2.0, True), (0.5, False), (3.0, True)]
    misses = [wrong(seen, at / 2) for at in range(-10, 12)]
    assert misses == sorted(misses, reverse=True)


def test_far_above_an_entry_serves_at_once_and_elsewhere_after_some_verdicts() -> None:
    assert chance([], 8.0, 0.05) == 1.0
    assert 0.0 < chance([], 5.0, 0.01) < 1.0
    assert chance([], 2.0, 0.01) == 0.0
    chances = [chance([(2.0, True)] * count, 2.0, 0.02) for count in range(0, 64, 8)]
    assert chances == sorted(chances)
    assert chances[0] == 0.0
    assert chances[-1] == 1.0


def test_without_a_prior_nothing_is_known_until_it_was_judged() -> None:
    assert chance([], 5.0, 0.01, IGNORANT) == 0.0
    assert chance([(5.0, True)] * 30, 5.0, 0.01, IGNORANT) > 0.5


def test_an_entry_with_wrong_neighbours_stays_unserved_near_them() -> None:
    seen = [(3.0, False), (3.5, False), (2.5, False), (4.0, False)]
    assert chance(seen, 3.0, 0.05) == 0.0


@pytest.mark.parametrize("odds", [float("inf"), float("-inf"), 1e300])
def test_odds_beyond_belief_are_taken_for_the_most_that_is_believed(odds: float) -> None:
    assert wrong([(odds, True)], odds) == wrong([(8.0 if odds > 0 else -8.0, True)], 8.0 if odds > 0 else -8.0)
