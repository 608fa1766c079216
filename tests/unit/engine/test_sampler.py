"""Drawing tokens: what is certain is tested exactly, what is drawn against the probabilities it is drawn from."""

import math

import pytest
import torch

from genkan.engine.sampler import Sampler
from genkan.engine.sequence import SamplingParams

VOCAB = 8


def draws(
    logits: torch.Tensor, number: int, *, temperature: float = 1.0, top_p: float = 1.0, seed: int | None
) -> list[int]:
    sampler = Sampler(SamplingParams(max_tokens=1, temperature=temperature, top_p=top_p, seed=seed))
    return [sampler.sample(logits) for _ in range(number)]


def logits_of(*probabilities: float) -> torch.Tensor:
    return torch.tensor(probabilities).log()


@pytest.mark.parametrize("temperature", [0.0, 1e-6])
def test_a_temperature_of_almost_zero_is_greedy(temperature: float) -> None:
    logits = torch.tensor([0.1, 2.0, 1.999, -5.0])
    assert set(draws(logits, 50, temperature=temperature, seed=None)) == {1}


def test_greedy_takes_the_first_of_equal_logits() -> None:
    assert draws(torch.tensor([0.0, 1.0, 1.0]), 1, temperature=0, seed=None) == [1]


def test_a_seed_repeats_the_draws() -> None:
    logits = torch.zeros(1000)
    assert draws(logits, 100, seed=7) == draws(logits, 100, seed=7)


@pytest.mark.parametrize("seed", [-(2**63), -1, 0, 2**63 - 1])
def test_any_seed_that_the_api_allows_repeats_the_draws(seed: int) -> None:
    logits = torch.zeros(1000)
    assert draws(logits, 20, seed=seed) == draws(logits, 20, seed=seed)


def test_different_seeds_draw_differently() -> None:
    logits = torch.zeros(1000)
    drawn = [tuple(draws(logits, 20, seed=seed)) for seed in (-1, 0, 1, 2, 3)]
    assert len(set(drawn)) == 5


def test_seeds_that_differ_only_above_32_bits_draw_differently() -> None:
    logits = torch.zeros(1000)
    assert draws(logits, 20, seed=7) != draws(logits, 20, seed=7 + 2**40)


def test_without_a_seed_two_sequences_draw_differently() -> None:
    logits = torch.zeros(1000)
    assert draws(logits, 20, seed=None) != draws(logits, 20, seed=None)  # equal once in 1000^20


def test_a_seed_is_not_disturbed_by_another_sequence() -> None:
    logits = torch.zeros(1000)
    alone = draws(logits, 10, seed=7)
    first = Sampler(SamplingParams(max_tokens=1, seed=7))
    other = Sampler(SamplingParams(max_tokens=1, seed=8))
    together = []
    for _ in range(10):
        together.append(first.sample(logits))
        other.sample(logits)
        torch.rand(1)
    assert together == alone


@pytest.mark.parametrize(
    ("top_p", "kept"),
    [
        (1e-300, {3}),  # 0 in float32
        (1e-9, {3}),
        (0.5, {3}),
        (0.51, {3, 1}),
        (0.75, {3, 1}),
        (0.76, {3, 1, 0}),
        (0.875, {3, 1, 0}),
        (0.88, {3, 1, 0, 2}),
    ],
)
def test_top_p_keeps_exactly_the_smallest_set_that_holds_it(top_p: float, kept: set[int]) -> None:
    logits = logits_of(0.125, 0.25, 0.125, 0.5)  # powers of two, so that sums are exact
    # The rarest token that is kept has one chance in eight: missing in 400 draws once in 10^23.
    assert set(draws(logits, 400, top_p=top_p, seed=1)) == kept


def test_top_p_leaves_the_proportions_of_what_it_keeps() -> None:
    drawn = draws(logits_of(0.125, 0.25, 0.125, 0.5), 6000, top_p=0.75, seed=1)
    assert drawn.count(3) / 6000 == pytest.approx(2 / 3, abs=0.03)  # five standard deviations


@pytest.mark.parametrize("scale", [1.0, 100.0, 1e4])
@pytest.mark.parametrize("top_p", [1.0, 0.9])
def test_the_smallest_temperature_that_samples_gives_no_nan(scale: float, top_p: float) -> None:
    logits = torch.linspace(-scale, scale, VOCAB)
    assert set(draws(logits, 20, temperature=1e-5, top_p=top_p, seed=1)) == {VOCAB - 1}


def test_a_token_of_probability_zero_is_never_drawn() -> None:
    logits = torch.tensor([0.0, -math.inf, 0.0])
    assert set(draws(logits, 200, seed=1)) == {0, 2}


def test_bfloat16_logits_are_sampled_in_float32() -> None:
    # A running sum of these probabilities in bfloat16 goes in steps of 1/256 near a half, eight tokens wide.
    logits = torch.zeros(2000, dtype=torch.bfloat16)
    drawn = draws(logits, 20_000, top_p=0.5, seed=1)
    assert 999 <= len(set(drawn)) <= 1001


def _chi_squared(drawn: list[int], probabilities: torch.Tensor) -> float:
    expected = probabilities.double() * len(drawn)
    counts = torch.bincount(torch.tensor(drawn), minlength=len(probabilities)).double()
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_softmax_of_the_logits(temperature: float) -> None:
    logits = torch.tensor([0.0, 1.0, -1.0, 2.0, 0.5, -0.5, 1.5, -2.0])
    drawn = draws(logits, 5000, temperature=temperature, seed=1)
    probabilities = torch.softmax(logits / temperature, dim=0)
    # Seven degrees of freedom: above 40 once in a million. A temperature that is off by a tenth gives hundreds.
    assert _chi_squared(drawn, probabilities) < 40
    for wrong in (temperature * 0.75, temperature * 1.33):
        assert _chi_squared(drawn, torch.softmax(logits / wrong, dim=0)) > 40
