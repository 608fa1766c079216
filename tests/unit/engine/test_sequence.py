"""What a sequence says of itself."""

from array import array

import pytest
from running import greedy

from genkan.engine.sampling_params import SamplingParams
from genkan.engine.sequence import LOCAL_TENANT, PrefixOptions, Sequence


def generated(params: SamplingParams, *tokens: int) -> Sequence:
    """A sequence whose prompt is 7, 8 and whose answer so far is ``tokens``."""
    sequence = Sequence([7, 8], params)
    sequence.tokens.extend(tokens)
    return sequence


def test_a_new_sequence_has_its_prompt_and_nothing_else() -> None:
    sequence = Sequence([7, 8, 9], greedy(5), now_s=3.0)
    assert sequence.tokens == array("i", [7, 8, 9])
    assert (sequence.num_prompt, sequence.num_generated, sequence.num_computed, sequence.num_to_compute) == (3, 0, 0, 3)
    assert (sequence.page, sequence.cached_tokens, sequence.token_at_s) == (None, None, None)
    assert list(sequence.blocks) == []
    assert (sequence.tenant, sequence.prefix, sequence.submitted_s) == (LOCAL_TENANT, PrefixOptions(), 3.0)


def test_the_prompt_is_copied() -> None:
    prompt = [7, 8]
    sequence = Sequence(prompt, greedy(5))
    sequence.tokens.append(9)
    assert prompt == [7, 8]


def test_tokens_without_kv_are_to_be_computed() -> None:
    sequence = generated(greedy(5), 1)
    assert (sequence.num_generated, sequence.num_to_compute) == (1, 3)
    sequence.num_computed = 2
    assert sequence.num_to_compute == 1


def test_prompt_and_answer_are_bounded() -> None:
    assert generated(greedy(5), 1, 2).max_tokens == 7


@pytest.mark.parametrize(
    ("params", "answer", "reason"),
    [
        (greedy(3), [1, 2], None),
        (greedy(3), [1, 2, 3], "length"),
        (greedy(1), [1], "length"),
        (greedy(3, stop_ids=frozenset({2})), [1, 2], "stop"),
        (greedy(2, stop_ids=frozenset({2})), [1, 2], "stop"),
        (greedy(3, stop_ids=frozenset({1})), [1, 2], None),  # only the newest can be it
        (greedy(3, stop_ids=frozenset({2}), ignore_eos=True), [1, 2], None),
        (greedy(2, stop_ids=frozenset({2}), ignore_eos=True), [1, 2], "length"),
    ],
)
def test_the_newest_token_may_be_the_last(params: SamplingParams, answer: list[int], reason: str | None) -> None:
    assert generated(params, *answer).finish_reason() == reason


@pytest.mark.parametrize(("answer", "ignores"), [([5], False), ([5], True), ([5, 5, 5], True)])
def test_a_closed_grammar_ends_the_answer(answer: list[int], ignores: bool) -> None:
    sequence = generated(greedy(3, stop_ids=frozenset({9}), ignore_eos=ignores), *answer)
    assert sequence.finish_reason(closed=True) == "stop"


def test_a_scored_prompt_is_looked_for_as_far_as_it_is_scored() -> None:
    params = greedy(3, prompt_logprobs=0)
    sequence = Sequence([1, 2, 3, 4], params)
    assert (sequence.num_unscored, sequence.num_scored, list(sequence.to_be_found)) == (3, 0, [1])
    sequence.num_unscored = 1
    assert (sequence.num_scored, list(sequence.to_be_found)) == (2, [1, 2, 3])
    sequence.num_unscored = 0
    assert sequence.to_be_found is sequence.tokens
    assert Sequence([1, 2], params, answer=1).num_unscored == Sequence([1, 2], greedy(1)).num_unscored == 0


def test_two_sequences_are_never_equal() -> None:
    assert Sequence([1], greedy(1)) != Sequence([1], greedy(1))


def test_the_next_tokens_place_counts_what_the_prompt_has_of_the_answer() -> None:
    sequence = generated(SamplingParams(max_tokens=2, continued=1), 3)
    assert (sequence.position, sequence.num_generated, sequence.max_tokens) == (2, 1, 4)
    assert sequence.finish_reason() is None
    sequence.tokens.append(4)
    assert sequence.finish_reason() == "length"
