"""The life of a model server, moment by moment, by a clock of the test's own."""

import math

import pytest

from genkan.config import ServeConfig
from genkan.model_servers.supervision import Action, Stage, Supervision

POLICY = ServeConfig(
    model="m",
    start_timeout_s=100.0,
    stop_timeout_s=10.0,
    health_interval_s=5.0,
    unhealthy_after=3,
    backoff_s=1.0,
    max_backoff_s=8.0,
)


def started(now_s: float = 0.0) -> Supervision:
    supervision = Supervision(POLICY)
    assert supervision.act(now_s) is Action.START
    return supervision


def well(now_s: float = 0.0) -> Supervision:
    """Has answered its first question, a second after its start."""
    supervision = started(now_s)
    assert supervision.act(now_s + 1.0) is Action.ASK
    supervision.answered(now_s + 1.0, well=True)
    return supervision


def restarted(supervision: Supervision, now_s: float) -> float:
    """After it died at ``now_s``: how long until it is started again."""
    supervision.died(now_s)
    assert supervision.stage is Stage.WAITING
    wait_s = supervision.due_s - now_s
    assert supervision.act(now_s + wait_s - 0.001) is None
    assert supervision.act(now_s + wait_s) is Action.START
    return wait_s


def test_it_is_started_at_once_and_once() -> None:
    supervision = Supervision(POLICY)
    assert supervision.act(0.0) is Action.START
    assert supervision.act(0.0) is None
    assert (supervision.stage, supervision.starts) == (Stage.STARTING, 1)


def test_while_it_starts_it_is_asked_each_second_and_no_bad_answer_counts() -> None:
    supervision = started()
    for second in range(1, 90):
        assert supervision.due_s == second
        assert supervision.act(second) is Action.ASK
        assert supervision.act(second) is None  # until it was answered
        supervision.answered(second, well=False)
    assert supervision.stage is Stage.STARTING


def test_one_good_answer_makes_it_well_and_then_it_is_asked_at_its_interval() -> None:
    supervision = well()
    assert supervision.stage is Stage.WELL
    assert supervision.due_s == 6.0


def test_what_is_not_well_in_time_is_killed_and_started_again() -> None:
    supervision = started()
    assert supervision.act(99.0) is Action.ASK
    assert supervision.act(100.0) is Action.KILL
    assert supervision.why == "not well within 100 s"
    assert supervision.act(1000.0) is None  # until it is gone
    assert restarted(supervision, 101.0) == 1.0


def test_a_wedge_is_as_many_bad_answers_in_a_row() -> None:
    supervision = well()
    for is_well in (False, False, True, False, False):
        supervision.answered(10.0, well=is_well)
        assert supervision.act(10.0) is None
    supervision.answered(11.0, well=False)
    assert supervision.act(11.0) is Action.KILL
    assert supervision.stage.value == "dying"
    assert supervision.why == "3 bad answers to GET /health in a row"
    supervision.died(12.0)
    assert supervision.stage is Stage.WAITING


def test_the_wait_doubles_with_each_death_up_to_a_bound() -> None:
    supervision = started()
    now_s, waits = 0.0, []
    for _ in range(6):
        waits.append(restarted(supervision, now_s))
        now_s += waits[-1]
    assert waits == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


def test_ten_thousand_deaths_overflow_nothing() -> None:
    supervision = started()
    for now_s in range(10_000):
        supervision.died(float(now_s))
    assert supervision.due_s == 9_999 + 8.0


@pytest.mark.parametrize(("well_s", "wait_s"), [(7.0, 4.0), (9.0, 1.0)])
def test_only_a_life_that_was_well_for_long_forgets_the_deaths_before(well_s: float, wait_s: float) -> None:
    supervision = started()
    now_s = restarted(supervision, 0.0)
    now_s += restarted(supervision, now_s)
    supervision.answered(now_s, well=True)
    assert restarted(supervision, now_s + well_s) == wait_s


def test_a_stop_gives_it_time_and_then_kills_it() -> None:
    supervision = well()
    assert supervision.stop(50.0) is Action.TERMINATE
    assert supervision.stop(51.0) is None
    assert supervision.act(59.9) is None
    assert supervision.act(60.0) is Action.KILL
    assert supervision.act(1000.0) is None
    supervision.died(61.0)
    assert (supervision.stage, supervision.due_s) == (Stage.ENDED, math.inf)


def test_who_waits_to_be_started_is_not_any_more_after_a_stop() -> None:
    supervision = started()
    supervision.died(1.0)
    assert supervision.stop(1.5) is None
    assert supervision.stage is Stage.ENDED
    assert supervision.act(1000.0) is None


def test_a_stop_while_it_dies_kills_it_again_if_it_does_not() -> None:
    supervision = started()
    assert supervision.act(100.0) is Action.KILL
    assert supervision.stop(101.0) is None
    assert supervision.act(111.0) is Action.KILL
    supervision.died(112.0)
    assert supervision.stage is Stage.ENDED


def test_an_answer_that_comes_too_late_changes_nothing() -> None:
    supervision = started()
    supervision.died(1.0)
    supervision.answered(1.5, well=True)
    assert (supervision.stage, supervision.due_s) == (Stage.WAITING, 2.0)
