"""When a worker counts as overloaded, what it lets in then, and what that does to a loop under great load."""

import numpy as np
import pytest
from loop_model import LoopModel

from genkan.gateway.overload import CALM_PLACES, CALM_S, KEPT_SHARE, STANDING_S, Overload

BOUND_S = 0.025
KEPT_S = KEPT_SHARE * BOUND_S
LOOK_S = 0.01
STREAM = {"turns_s": (120e-6, 110e-6, *[40e-6] * 20), "waits_s": (0.0005, *[0.001] * 20)}


@pytest.fixture
def overload() -> Overload:
    return Overload(BOUND_S)


def look(overload: Overload, lag_s: float, seconds: float, start_s: float = 0.0) -> float:
    """Have every look for so long find the same lag; when the next one is due."""
    looks = round(seconds / LOOK_S)
    for number in range(looks):
        overload.looked(start_s + number * LOOK_S, lag_s)
    return start_s + looks * LOOK_S


def overloaded(overload: Overload) -> float:
    now_s = look(overload, 2 * BOUND_S, STANDING_S + 2 * LOOK_S)
    assert overload.sheds
    return now_s


def test_a_lag_that_stands_is_overload(overload: Overload) -> None:
    now_s = look(overload, 1.01 * BOUND_S, STANDING_S)
    assert not overload.sheds
    look(overload, 1.01 * BOUND_S, 2 * LOOK_S, now_s)
    assert overload.sheds


def test_a_burst_is_none(overload: Overload) -> None:
    now_s = 0.0
    for _ in range(20):
        now_s = look(overload, 10 * BOUND_S, STANDING_S / 2, now_s)
        now_s = look(overload, 0.9 * BOUND_S, LOOK_S, now_s)
    assert not overload.sheds


def test_one_turn_however_long_is_none(overload: Overload) -> None:
    overload.looked(0.0, 0.0)
    overload.looked(5.0, 5.0)
    overload.looked(5.005, 0.0)
    assert not overload.sheds


def test_one_comes_in_for_one_that_ends(overload: Overload) -> None:
    now_s = overloaded(overload)
    assert not overload.admits()
    overload.looked(now_s, KEPT_S)
    for _ in range(3):
        overload.ended()
    assert [overload.admits() for _ in range(4)] == [True, True, True, False]


@pytest.mark.parametrize(("lag", "admitted"), [(2.0, 0), (1.75, 2), (1.25, 7), (1.0, 10), (0.75, 12)])
def test_more_or_fewer_by_the_lag(overload: Overload, lag: float, admitted: int) -> None:
    now_s = overloaded(overload)
    overload.looked(now_s, lag * KEPT_S)
    for _ in range(10):
        overload.ended()
    assert sum(overload.admits() for _ in range(100)) == admitted


def test_places_nobody_took_do_not_gather(overload: Overload) -> None:
    now_s = overloaded(overload)
    for _ in range(10):
        overload.looked(now_s, KEPT_S)
        for _ in range(10):
            overload.ended()
        now_s += LOOK_S
    overload.looked(now_s, KEPT_S)
    assert sum(overload.admits() for _ in range(100)) == 10


def test_who_has_nothing_to_do_lets_some_in_even_where_nothing_ends(overload: Overload) -> None:
    now_s = overloaded(overload)
    overload.looked(now_s, 0.0)
    assert sum(overload.admits() for _ in range(100)) == CALM_PLACES


def test_it_is_over_after_a_calm_time_without_a_break(overload: Overload) -> None:
    now_s = overloaded(overload)
    now_s = look(overload, 0.4 * BOUND_S, CALM_S - LOOK_S, now_s)
    now_s = look(overload, 1.1 * BOUND_S, LOOK_S, now_s)
    now_s = look(overload, 0.4 * BOUND_S, CALM_S, now_s)
    assert overload.sheds
    look(overload, 0.4 * BOUND_S, 2 * LOOK_S, now_s)
    assert not overload.sheds


def test_below_the_bound_it_is_not_over_while_some_are_refused(overload: Overload) -> None:
    now_s = overloaded(overload)
    for _ in range(200):
        now_s = look(overload, 0.6 * BOUND_S, LOOK_S, now_s)
        assert not overload.admits()
    assert overload.sheds


def test_turns_that_are_long_now_and_then_do_not_have_it_refuse_for_ever(overload: Overload) -> None:
    now_s = overloaded(overload)
    refused = 0
    for _ in range(600):  # a minute of ten requests a second, and of a turn of 16 ms every tenth of a second
        now_s = look(overload, 0.1 * BOUND_S, 8 * LOOK_S, now_s)
        overload.ended()
        now_s = look(overload, 0.65 * BOUND_S, 2 * LOOK_S, now_s)
        refused += overload.sheds and not overload.admits()
        now_s = look(overload, 0.1 * BOUND_S, LOOK_S, now_s)
    assert not overload.sheds
    assert refused < 10


@pytest.mark.parametrize("shape", [{}, STREAM], ids=["whole", "stream"])
@pytest.mark.parametrize("times", [1.2, 2.0])
def test_asked_too_much_it_answers_nearly_all_it_can(times: float, shape: dict[str, tuple[float, ...]]) -> None:
    model = LoopModel(Overload(BOUND_S), **shape)
    load = model.run(times * model.capacity, 6.0)
    assert len(load.answered_s) >= 0.9 * 6.0 * model.capacity
    assert np.percentile(load.refused_s, 99) <= 0.05
    assert len(load.answered_s) + len(load.refused_s) + load.most_under_way >= times * 6.0 * model.capacity * 0.99


def test_while_some_are_refused_answers_take_no_longer_than_they_must() -> None:
    model = LoopModel(Overload(BOUND_S))
    load = model.run(2 * model.capacity, 6.0)
    assert np.percentile(load.answered_s, 50) <= (len(model.turns_s) + 3) * KEPT_S


@pytest.mark.parametrize("times", [0.5, 0.95])
def test_nobody_is_refused_while_the_loop_keeps_up(times: float) -> None:
    model = LoopModel(Overload(BOUND_S))
    load = model.run(times * model.capacity, 3.0)
    assert load.refused_s == []


def test_without_it_the_work_under_way_grows_without_bound() -> None:
    """Which shows that the model can show it."""
    model = LoopModel(Overload(1e9))
    load = model.run(2 * model.capacity, 3.0)
    assert load.most_under_way > 2_000
