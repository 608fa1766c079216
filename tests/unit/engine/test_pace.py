"""The prompt chunk beside decodes follows from measured step times."""

import pytest

from genkan.engine.pace import Pace

BUDGET = 512


def measured(slowdown: float = 3.0, *, decode_s: float, token_s: float) -> Pace:
    pace = Pace(slowdown)
    pace.observe(decode_s, num_decodes=4, prompt_tokens=0)
    pace.observe(100 * token_s, num_decodes=0, prompt_tokens=100)
    return pace


@pytest.mark.parametrize(
    ("slowdown", "chunk"),
    [(2.0, 96), (3.0, 192), (1.4, 32)],  # (slowdown - 1) * 100 tokens' time, rounded down to a multiple of 16
)
def test_the_chunk_takes_what_the_slowdown_leaves(slowdown: float, chunk: int) -> None:
    assert measured(slowdown, decode_s=1.0, token_s=0.01).chunk_limit(4, BUDGET) == chunk


def test_a_chunk_is_never_smaller_than_16() -> None:
    assert measured(1.01, decode_s=1.0, token_s=0.5).chunk_limit(4, BUDGET) == 16


@pytest.mark.parametrize("budget", [512, 100, 7, 0])
def test_a_chunk_is_never_larger_than_the_budget(budget: int) -> None:
    assert measured(3.0, decode_s=1.0, token_s=0.001).chunk_limit(4, budget) == budget


def test_without_decodes_nobody_is_slowed_down() -> None:
    assert measured(decode_s=1.0, token_s=0.5).chunk_limit(0, BUDGET) == BUDGET


def test_without_a_slowdown_there_is_no_limit() -> None:
    pace = Pace(None)
    pace.observe(1.0, 4, 0)
    pace.observe(50.0, 0, 100)
    assert pace.chunk_limit(4, BUDGET) == BUDGET


def test_there_is_no_limit_before_both_are_measured() -> None:
    only_decodes, only_prompts = Pace(2.0), Pace(2.0)
    only_decodes.observe(1.0, 4, 0)
    only_prompts.observe(1.0, 0, 100)
    assert only_decodes.chunk_limit(4, BUDGET) == only_prompts.chunk_limit(4, BUDGET) == BUDGET


def test_of_a_mixed_step_the_decodes_time_is_not_the_prompts() -> None:
    pace = Pace(2.0)
    pace.observe(1.0, 4, 0)
    pace.observe(1.0 + 0.64, num_decodes=4, prompt_tokens=64)  # 0.01 s a token
    assert pace.chunk_limit(4, BUDGET) == 96


def test_a_mixed_step_that_was_shorter_than_decodes_alone_still_costs_something() -> None:
    pace = Pace(2.0)
    pace.observe(1.0, 4, 0)
    pace.observe(0.5, num_decodes=4, prompt_tokens=16)  # taken as 0.05 s for 16 tokens
    assert pace.chunk_limit(4, BUDGET) == 320


def test_a_chunk_of_less_than_16_tokens_measures_nothing() -> None:
    pace = measured(3.0, decode_s=1.0, token_s=0.01)
    pace.observe(100.0, num_decodes=4, prompt_tokens=15)
    assert pace.chunk_limit(4, BUDGET) == 192


def test_a_newer_measurement_counts_for_a_fifth() -> None:
    pace = measured(2.0, decode_s=1.0, token_s=0.01)
    pace.observe(2.0, 4, 0)  # decodes: 1.0 to 1.2
    assert pace.chunk_limit(4, BUDGET) == 112
    pace.observe(100 * 0.02, 0, 100)  # a token: 0.010 to 0.012
    assert pace.chunk_limit(4, BUDGET) == 96


def test_a_clock_too_coarse_for_a_step_sets_no_limit() -> None:
    assert measured(decode_s=0.0, token_s=0.0).chunk_limit(4, BUDGET) == BUDGET
