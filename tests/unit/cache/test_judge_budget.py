"""How often, and for how much, a judge is asked."""

from genkan.cache.judge_budget import JudgeBudget

NOON_S = 1_700_000_000.0 - 1_700_000_000.0 % 86_400 + 43_200


def test_so_many_in_any_minute() -> None:
    budget = JudgeBudget(per_minute=2, usd_per_day=1.0)
    assert budget.take(NOON_S)
    assert budget.take(NOON_S + 30)
    assert not budget.take(NOON_S + 59)
    assert budget.take(NOON_S + 60)
    assert not budget.take(NOON_S + 61)


def test_so_much_a_day_and_the_next_day_again() -> None:
    budget = JudgeBudget(per_minute=100, usd_per_day=0.01)
    assert budget.take(NOON_S)
    budget.spend(9_000_000, NOON_S)
    assert budget.take(NOON_S)
    budget.spend(2_000_000, NOON_S)
    assert not budget.take(NOON_S)
    assert budget.spent_usd(NOON_S) == 0.011
    assert budget.take(NOON_S + 43_200)
    assert budget.spent_usd(NOON_S + 43_200) == 0.0
