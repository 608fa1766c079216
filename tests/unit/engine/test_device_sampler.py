"""Where logits lie makes no difference to the tokens. The CPU stands in for a GPU: the operations are torch's."""

import numpy as np
import pytest
import torch

from genkan.engine.device_sampler import sample_on_device
from genkan.engine.sampler import RowSampler, sample
from genkan.engine.sampling_params import SamplingParams
from genkan.errors import EngineFailed

WAYS = (
    SamplingParams(max_tokens=9, temperature=0),
    SamplingParams(max_tokens=9, seed=3),
    SamplingParams(max_tokens=9, temperature=0, logprobs=2),
    SamplingParams(max_tokens=9, temperature=0, frequency_penalty=1.0),
)


def rows(number: int) -> list[tuple[RowSampler, int, int]]:
    return [(RowSampler(WAYS[place % len(WAYS)], [1, 2]), 0, 8) for place in range(number)]


@pytest.mark.parametrize("number", [1, 4, 13])
def test_the_tokens_are_those_of_the_cpu(number: int) -> None:
    random = np.random.default_rng(number)
    logits = torch.from_numpy(random.integers(-3, 4, (number, 60)).astype(np.float32))  # so there are many equals
    assert sample_on_device(logits, rows(number)) == sample(logits, rows(number))


def test_of_equals_the_lowest_id_is_taken() -> None:
    assert sample_on_device(torch.zeros(1, 40), rows(1))[0] == sample(torch.zeros(1, 40), rows(1))[0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_logits_that_are_no_numbers_fail_their_row_only(bad: float) -> None:
    logits = torch.zeros(8, 40)
    logits[0, 7] = logits[5, 7] = bad
    drawn = sample_on_device(logits, rows(8))
    assert [isinstance(each, EngineFailed) for each in drawn] == [place in (0, 5) for place in range(8)]


def test_a_row_of_nothing_allowed_fails() -> None:
    assert isinstance(sample_on_device(torch.full((1, 9), -torch.inf), rows(1))[0], EngineFailed)
