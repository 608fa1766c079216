"""How soon dead workers are replaced."""

from hand_clock import HandClock

from genkan.server.respawns import PROMPT, SLOW_S, WINDOW_S, RespawnPace


def test_a_few_deaths_are_mended_as_they_are_found() -> None:
    clock = HandClock()
    pace = RespawnPace(clock.monotonic)
    for _ in range(PROMPT):
        assert pace.is_due(1)
        clock.advance(1.0)


def test_workers_that_keep_dying_are_started_every_ten_seconds() -> None:
    clock = HandClock()
    pace = RespawnPace(clock.monotonic)
    started = 0
    for _ in range(300):
        started += pace.is_due(1)
        clock.advance(1.0)
    assert started == PROMPT + (300 - PROMPT) // SLOW_S


def test_after_a_quiet_minute_it_is_prompt_again() -> None:
    clock = HandClock()
    pace = RespawnPace(clock.monotonic)
    assert pace.is_due(PROMPT)
    assert not pace.is_due(1)
    clock.advance(WINDOW_S + 1)
    assert pace.is_due(1)
    assert pace.is_due(1)


def test_while_all_live_the_arbiter_goes_on_with_the_rest_of_its_work() -> None:
    clock = HandClock()
    pace = RespawnPace(clock.monotonic)
    pace.is_due(PROMPT)
    assert pace.is_due(0)
