"""The drawn prompts and lengths: the same for the same seed, and of the shape they are said to have."""

from collections import Counter
from statistics import mean

import pytest

from genkan.bench.workload import END_ID, FIRST_ID, Request, Workload, isolated, slot_steps, unseen


def test_the_same_seed_draws_the_same() -> None:
    def drawn(seed: int) -> list[list[Request]]:
        workload = Workload(seed)
        return [
            workload.shared(30, system_tokens=20, output_tokens=4),
            workload.unique(3, prompt_tokens=8, output_tokens=4),
            workload.exponential(20, prompt_tokens=8, mean=16, longest=64),
        ]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_no_special_token_is_drawn() -> None:
    drawn = Workload(0).prompt(200_000)
    assert min(drawn) == FIRST_ID
    assert max(drawn) == END_ID - 1


def test_twenty_system_prompts_come_equally_often_before_few_own_tokens() -> None:
    requests = Workload(0).shared(200, system_tokens=100, output_tokens=16)
    systems = Counter(tuple(request.prompt[:100]) for request in requests)
    assert list(systems.values()) == [10] * 20
    assert {len(request.prompt) - 100 for request in requests} == set(range(8, 33))
    assert {request.output_tokens for request in requests} == {16}


def test_lengths_are_exponential_and_bounded() -> None:
    lengths = [
        request.output_tokens for request in Workload(0).exponential(5_000, prompt_tokens=1, mean=50, longest=10_000)
    ]
    assert min(lengths) == 1
    assert mean(lengths) == pytest.approx(50, rel=0.05)
    assert mean(length > 50 for length in lengths) == pytest.approx(0.368, abs=0.02)
    assert max(r.output_tokens for r in Workload(0).exponential(500, prompt_tokens=1, mean=50, longest=60)) == 60


def test_unseen_requests_share_a_namespace_that_is_new_each_time() -> None:
    requests = [Request([1], 1), Request([2], 1)]
    first, second = unseen(requests), unseen(requests)
    assert first[0].namespace == first[1].namespace != second[0].namespace
    assert [request.prompt for request in first] == [[1], [2]]


def test_isolated_requests_share_none() -> None:
    assert len({request.namespace for request in isolated([Request([1], 1)] * 5)}) == 5


def test_static_batches_wait_for_their_longest() -> None:
    # Static: 10 and then 10. Continuous: the slot that is free at 1 takes the next 1 and then the second 10.
    assert slot_steps([10, 1, 1, 10], slots=2) == 20 / 12


def test_equal_lengths_leave_nothing_to_gain() -> None:
    assert slot_steps([7] * 16, slots=8) == 1.0
