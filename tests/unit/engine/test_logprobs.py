"""Log probabilities: against plain sums, and what becomes of rows that have none."""

import math

import numpy as np
import pytest
import torch
from sampling_reference import log_softmax

from genkan.engine.logprobs import TokenLogprobs, prompt_logprobs, token_logprobs
from genkan.errors import EngineFailed

VOCAB = 49_152


def test_they_are_of_the_softmax_over_the_whole_vocabulary() -> None:
    logits = torch.randn(3, VOCAB, generator=torch.Generator().manual_seed(1)) * 5
    before = logits.clone()
    ids = [0, 7, VOCAB - 1]
    for row, token, found in zip(logits, ids, prompt_logprobs(logits, ids, top=5), strict=True):
        expected = log_softmax(row.tolist())
        assert found.logprob == pytest.approx(expected[token], abs=1e-5)
        ranks = sorted(range(VOCAB), key=expected.__getitem__, reverse=True)[:5]
        assert [each for each, _ in found.top] == ranks
        assert [value for _, value in found.top] == pytest.approx([expected[each] for each in ranks], abs=1e-5)
    assert torch.equal(logits, before)


def test_of_equals_the_lower_ids_come_first_and_no_more_than_asked_for() -> None:
    row = np.array([0, 1, 0, 1, 1, 0], dtype=np.float32)
    assert [token for token, _ in token_logprobs(row, 1.0, 0, 4).top] == [1, 3, 4, 0]


def test_a_vocabulary_smaller_than_the_top_is_given_whole() -> None:
    [found] = prompt_logprobs(torch.zeros(1, 3), [2], top=20)
    assert found.logprob == pytest.approx(-math.log(3))
    assert [token for token, _ in found.top] == [0, 1, 2]


def test_without_a_top_there_is_the_token_alone() -> None:
    assert prompt_logprobs(torch.tensor([[0.0, -math.inf]]), [0], top=0) == [TokenLogprobs(0.0, ())]


def test_what_the_model_rules_out_has_minus_infinity() -> None:
    assert prompt_logprobs(torch.tensor([[0.0, -math.inf]]), [1], top=2) == [
        TokenLogprobs(-math.inf, ((0, 0.0), (1, -math.inf)))
    ]


def test_a_row_has_the_same_alone_and_among_others() -> None:
    logits = torch.randn(8, 40_001, generator=torch.Generator().manual_seed(1)) * 5  # rows begin at odd addresses
    ids = list(range(8))
    together = prompt_logprobs(logits, ids, top=3)
    assert together == [prompt_logprobs(logits[each : each + 1].clone(), [each], top=3)[0] for each in ids]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_row_that_is_not_finite_is_an_error(bad: float) -> None:
    with pytest.raises(EngineFailed):
        prompt_logprobs(torch.tensor([[0.0, 1.0], [0.0, bad]]), [0, 0], top=1)


def test_no_rows_have_none() -> None:
    assert prompt_logprobs(torch.empty(0, 10), [], top=1) == []
