"""Who may ask twice."""

import pytest

from genkan.config import HedgeConfig
from genkan.gateway.first_tokens import FirstTokens
from genkan.gateway.hedging import Hedging

AFTER_S = 0.1


def after(requests: int, **config: float) -> Hedging:
    hedging = Hedging(HedgeConfig.model_validate({"budget_ratio": 0.06, "budget_min": 1, **config}))
    for _ in range(requests):
        hedging.requested(100.0)
    return hedging


def granted(hedging: Hedging, waited_s: float, now_s: float = 100.0) -> int:
    """How many that have waited so long are granted at once."""
    given = 0
    while hedging.grants(waited_s, AFTER_S, now_s):
        given += 1
    return given


def test_half_of_the_budget_is_for_whoever_asks_and_all_of_it_for_who_has_waited_twice_as_long() -> None:
    hedging = after(1000)
    assert granted(hedging, AFTER_S) == 30
    assert granted(hedging, 2 * AFTER_S) == 30
    assert granted(hedging, 100 * AFTER_S) == 0


def test_what_the_patient_took_is_missing_to_whoever_asks() -> None:
    hedging = after(1000)
    assert all(hedging.grants(2 * AFTER_S, AFTER_S, 100.0) for _ in range(40))
    assert granted(hedging, AFTER_S) == 0


def test_a_quiet_route_has_one_in_a_minute_for_who_has_waited_long() -> None:
    hedging = after(1)
    assert granted(hedging, AFTER_S) == 0
    assert granted(hedging, 2 * AFTER_S) == 1
    assert granted(hedging, 2 * AFTER_S, now_s=159.0) == 0
    assert granted(hedging, 2 * AFTER_S, now_s=161.0) == 1


def test_there_is_a_threshold_as_soon_as_enough_is_known() -> None:
    hedging, times = after(0, min_samples=10, quantile=0.5), FirstTokens()
    for number in range(10):
        assert hedging.after_s(times, 0.0) is None
        times.took(1.0 + number, 0.0)
    assert hedging.after_s(times, 0.0) == pytest.approx(5.0, rel=0.1)
    assert hedging.after_s(times, 601.0) is None


@pytest.mark.parametrize(("waited_s", "pause_s"), [(0.1, 0.05), (0.4, 0.05), (8.0, 1.0)])
def test_who_was_denied_asks_again_soon_at_first_and_then_less_often(waited_s: float, pause_s: float) -> None:
    assert Hedging.pause_s(waited_s, AFTER_S) == pytest.approx(pause_s)
