"""The chunk that a step may compute beside decodes, on a machine whose costs are known."""

import random

import pytest

from genkan.engine.pace import LEAST_CHUNK, ROUND_TO, Pace

BUDGET = 512


def step_s(num_decodes: int, prompt_tokens: int) -> float:
    """A machine: 7 ms a step, 0.4 ms a decode, 0.3 ms a prompt token."""
    return 0.007 + 0.0004 * num_decodes + 0.0003 * prompt_tokens


def learned(slowdown: float | None = 2.25, steps: int = 200) -> Pace:
    """A pace that has seen all kinds of steps, and so knows the machine."""
    pace, random_ = Pace(slowdown), random.Random(3)
    for _ in range(steps):
        decodes, prompt = random_.choice([0, 1, 4, 8, 32]), random_.choice([0, 0, 32, 64, 256])
        if decodes or prompt:
            pace.observe(step_s(decodes, prompt), decodes, prompt)
    return pace


def test_without_a_limit_the_budget_is_the_chunk() -> None:
    assert learned(None).chunk_limit(8, BUDGET) == BUDGET


def test_without_decodes_the_budget_is_the_chunk() -> None:
    assert learned().chunk_limit(0, BUDGET) == BUDGET


def test_nothing_is_limited_before_both_kinds_of_steps_were_seen() -> None:
    pace = Pace(2.25)
    assert pace.chunk_limit(8, BUDGET) == BUDGET
    pace.observe(step_s(8, 0), 8, 0)
    assert pace.chunk_limit(8, BUDGET) == BUDGET
    pace.observe(step_s(0, 64), 0, 64)
    assert pace.chunk_limit(8, BUDGET) < BUDGET


@pytest.mark.parametrize("num_decodes", [8, 16, 32, 48])
def test_a_step_with_the_chunk_takes_at_most_as_long_as_allowed_and_not_much_less(num_decodes: int) -> None:
    chunk = learned().chunk_limit(num_decodes, BUDGET)
    assert chunk % ROUND_TO == 0
    allowed_s = 2.25 * step_s(num_decodes, 0)
    assert step_s(num_decodes, chunk) <= 1.01 * allowed_s
    assert step_s(num_decodes, chunk + 2 * ROUND_TO) > allowed_s


def test_the_chunk_is_never_smaller_than_the_least() -> None:
    assert learned(1.01).chunk_limit(1, BUDGET) == LEAST_CHUNK


def test_the_chunk_is_never_larger_than_the_budget() -> None:
    assert learned(100.0).chunk_limit(8, 48) == 48
    assert learned(1.01).chunk_limit(1, 5) == 5


def test_a_hiccup_of_the_machine_changes_little() -> None:
    pace = learned()
    before = pace.chunk_limit(16, BUDGET)
    pace.observe(5.0, 16, 0)
    assert abs(pace.chunk_limit(16, BUDGET) - before) <= 2 * ROUND_TO


def test_a_machine_that_becomes_slower_at_prompts_gets_smaller_chunks() -> None:
    pace = learned()
    before = pace.chunk_limit(32, BUDGET)
    for _ in range(200):
        for decodes, prompt in ((32, 0), (32, 64)):
            pace.observe(step_s(decodes, 0) + 0.0009 * prompt, decodes, prompt)
    assert pace.chunk_limit(32, BUDGET) <= before / 2


def test_a_burst_after_a_lone_chat_does_not_stay_at_the_least_chunk() -> None:
    # Once prompts wait all the time there is no step of decodes alone to learn from.
    pace = Pace(2.25)
    pace.observe(step_s(0, 20), 0, 20)
    for _ in range(100):
        pace.observe(step_s(1, 0), 1, 0)
    decodes = 1
    for _ in range(100):
        chunk = pace.chunk_limit(decodes, BUDGET)
        pace.observe(step_s(decodes, chunk), decodes, chunk)
        decodes = min(decodes + 1, 32)
    assert step_s(32, pace.chunk_limit(32, BUDGET)) >= 0.9 * 2.25 * step_s(32, 0)


def test_steps_of_no_time_are_no_error() -> None:
    pace = Pace(2.25)
    pace.observe(0.0, 1, 0)
    pace.observe(0.0, 0, 64)
    assert pace.chunk_limit(4, BUDGET) == BUDGET
