"""What a step wants logits for, above all of prompts that are scored."""

import pytest
from schedules import BLOCK, prompt, rig

from genkan.engine.plan import Scheduled
from genkan.engine.sampling_params import SamplingParams
from genkan.engine.sequence import Sequence


def scored(length: int, *, computed: int = 0, unscored: int | None = None) -> Sequence:
    sequence = Sequence(prompt(length), SamplingParams(max_tokens=4, prompt_logprobs=1))
    sequence.num_computed = computed
    if unscored is not None:
        sequence.num_unscored = unscored
    return sequence


@pytest.mark.parametrize(
    ("sequence", "count", "outputs"),
    [
        (Sequence(prompt(9), SamplingParams(max_tokens=4)), 8, 0),
        (Sequence(prompt(9), SamplingParams(max_tokens=4)), 9, 1),
        (scored(9), 4, 4),
        (scored(9), 8, 8),
        (scored(9), 9, 9),  # the last of them for the first token of the answer
        (scored(9, computed=4, unscored=4), 5, 5),
        (scored(9, computed=0, unscored=4), 3, 0),  # computed again after a preemption
        (scored(9, computed=0, unscored=4), 6, 2),
        (scored(9, computed=8, unscored=0), 1, 1),
        (scored(1), 1, 1),
    ],
)
def test_logits_are_wanted_for_what_is_not_scored_yet_and_for_the_next_token(
    sequence: Sequence, count: int, outputs: int
) -> None:
    assert Scheduled(sequence, count).outputs == outputs


def test_a_step_scores_no_more_than_its_limit_and_the_first_goes_on() -> None:
    r = rig(budget=64, max_scored_tokens=6)
    first = r.submit(prompt(9), prompt_logprobs=0)
    second = r.submit(prompt(9, 100), prompt_logprobs=0)
    plain = r.submit(prompt(9, 200))
    assert r.step() == [(first, 6), (plain, 9)]
    assert r.step() == [(plain, 1), (first, 3), (second, 4)]
    assert r.step() == [(first, 1), (plain, 1), (second, 5)]
    r.run()
    assert r.all_is_free()


def test_a_scored_prompt_looks_for_nothing_and_its_other_answers_do() -> None:
    r = rig(budget=64)
    r.submit(prompt(9), max_tokens=1)
    r.run()
    scores, follows = r.submit(prompt(9), prompt_logprobs=0), r.submit(prompt(9))
    assert dict(r.step()) == {scores: 9, follows: 1}
    assert (scores.cached_tokens, follows.cached_tokens) == (0, 2 * BLOCK)
    r.run()
    assert r.all_is_free()


def test_a_preempted_prompt_finds_its_pages_as_far_as_they_were_scored() -> None:
    r = rig(9, budget=64, max_scored_tokens=10)
    older = r.submit(prompt(12), 20)
    r.step()
    scores = r.submit(prompt(14, 100), prompt_logprobs=0)
    r.step()
    assert (scores.num_computed, scores.num_unscored) == (10, 3)
    held = r.pool.take(r.pool.num_free)
    while not scores.num_preempted:
        r.step()
    r.pool.give_back(held)
    assert dict(r.step())[scores] == 14 - 2 * BLOCK
    assert older.num_preempted == 0
    r.run()
    assert r.all_is_free()
