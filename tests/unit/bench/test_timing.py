"""The numbers that are made of token times."""

import pytest

from genkan.bench.timing import Answer, decode_rate, percentile


def answer_at(submitted_s: float, token_s: list[float]) -> Answer:
    return Answer(submitted_s, token_s, ids=[0] * len(token_s), prompt_tokens=1, cached_tokens=0)


def test_the_time_to_the_first_token_counts_from_the_request() -> None:
    assert answer_at(2.0, [2.5, 4.0]).ttft_s == 0.5


def test_there_is_a_gap_between_each_token_and_the_next() -> None:
    assert answer_at(0.0, [1.0, 1.5, 4.0]).gaps_s == [0.5, 2.5]


def test_percentiles_are_interpolated() -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], 50) == 2.5
    assert percentile([1.0, 2.0], 100) == 2.0


def test_nothing_has_no_percentile() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


def test_one_sequence_decodes_its_tokens_but_the_first() -> None:
    assert decode_rate([[1.0, 1.5, 2.0]]) == 2.0


def test_only_the_time_when_all_decode_counts() -> None:
    early = [0.0, 1.0, 2.0, 3.0, 4.0]
    late = [2.0, 3.0, 4.0, 5.0, 6.0]
    assert decode_rate([early, late]) == 2.0  # from 2 to 4: two tokens each


def test_sequences_that_never_decode_together_have_no_rate() -> None:
    with pytest.raises(ValueError, match="ask for more tokens"):
        decode_rate([[0.0, 1.0], [2.0, 3.0]])
