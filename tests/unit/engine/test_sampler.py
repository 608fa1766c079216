"""Drawing tokens: each against a plain computation in float64, all together against the probabilities they follow."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sampling_reference import allowed, reference_uniform

from genkan.engine.sampler import Drawn, RowSampler, sample
from genkan.engine.sampling_params import SamplingParams

VOCAB = 49_152


def sampler(**params: Any) -> RowSampler:
    return RowSampler(SamplingParams(max_tokens=1, **params))


def tokens(logits: torch.Tensor, rows: Sequence[tuple[RowSampler, int]]) -> list[int | None]:
    """What each sampler draws at its position; None for a row that failed."""
    drawn = sample(logits, [(one, position, 0) for one, position in rows])
    return [each.token if isinstance(each, Drawn) else None for each in drawn]


def draws(logits: torch.Tensor, number: int, **params: Any) -> list[int | None]:
    """What one sequence draws at positions 0 to ``number`` from the same logits."""
    one = sampler(**params)
    return tokens(logits.expand(number, -1), [(one, position) for position in range(number)])


def logits_of(*probabilities: float) -> torch.Tensor:
    return torch.tensor(probabilities).log()


# --- Against a reference ---


ordinary = st.floats(-30, 30, width=32)
tied = st.sampled_from([-1.0, 0.0, 0.5, 1.0])
extreme = st.sampled_from([-math.inf, -3.4e38, -1e5, -1e-45, 0.0, 1e-45, 1e-9, 1.0, 80.0, 3.4e38])
rows_of_logits = st.one_of(
    *(st.lists(kind, min_size=1, max_size=40) for kind in (ordinary, tied, extreme, st.one_of(ordinary, extreme)))
).filter(lambda row: max(row) > -math.inf)
options = st.fixed_dictionaries(
    {
        "temperature": st.one_of(st.sampled_from([0.0, 9e-6, 1e-5, 0.5, 1.0, 2.0]), st.floats(0, 2)),
        "top_k": st.one_of(st.none(), st.integers(1, 45)),
        "min_p": st.one_of(st.sampled_from([0.0, 1e-300, 1.0]), st.floats(0, 1)),
        "top_p": st.one_of(st.sampled_from([1.0, 1e-300, 0.999]), st.floats(0, 1, exclude_min=True)),
    }
)
seeds = st.integers(-(2**63), 2**63 - 1)


@settings(max_examples=400, deadline=None)
@given(rows_of_logits, options, seeds, st.integers(0, 2**20))
def test_a_token_is_that_of_the_reference(row: list[float], params: dict[str, Any], seed: int, position: int) -> None:
    logits = torch.tensor([row], dtype=torch.float32)
    [token] = tokens(logits, [(sampler(seed=seed, **params), position)])
    assert token in allowed(logits[0].double().numpy(), reference_uniform(seed, position), **params)


@pytest.mark.parametrize("top_p", [1.0, 0.95, 0.3])
@pytest.mark.parametrize("min_p", [0.0, 0.02])
@pytest.mark.parametrize("top_k", [None, 1, 50, 1000, 10_000])
@pytest.mark.parametrize("kind", ["flat", "peaked", "in steps"])
def test_a_token_of_a_wide_row_is_that_of_the_reference(
    kind: str, top_k: int | None, min_p: float, top_p: float
) -> None:
    # Wider than the first candidates for a nucleus: flat rows need the full sort, peaked ones do not. Steps make many
    # equals, at every border.
    logits = torch.randn(3001, generator=torch.Generator().manual_seed(3)) * (0.5 if kind == "flat" else 4)
    if kind == "in steps":
        logits = logits.bfloat16().float()
    params: dict[str, Any] = {"temperature": 0.7, "top_k": top_k, "min_p": min_p, "top_p": top_p}
    exact = logits.double().numpy()
    for position, token in enumerate(draws(logits, 10, seed=5, **params)):
        assert token in allowed(exact, reference_uniform(5, position), **params)


# --- Greedy ---


@pytest.mark.parametrize("params", [{"temperature": 0.0}, {"temperature": 9e-6}, {"top_k": 1}])
def test_a_temperature_of_almost_zero_is_greedy_and_so_is_a_top_k_of_one(params: dict[str, Any]) -> None:
    assert set(draws(torch.tensor([0.1, 2.0, 1.9999999, -5.0, 2.0]), 50, **params)) == {1}


@pytest.mark.parametrize("threads", [1, 2])
def test_greedy_takes_the_lowest_id_of_equals(threads: int, num_threads: Any) -> None:
    num_threads(threads)
    logits = torch.zeros(3, VOCAB)
    logits[0, [30_000, 49_151]] = 1
    logits[2, VOCAB - 1] = 1
    assert tokens(logits, [(sampler(temperature=0), 0)] * 3) == [30_000, 0, VOCAB - 1]


# --- The filters ---


@pytest.mark.parametrize(
    ("top_p", "kept"),
    [
        (1e-300, {3}),  # 0 in float32
        (0.49, {3}),
        (0.51, {3, 1}),
        (0.74, {3, 1}),
        (0.76, {3, 1, 0}),
        (0.874, {3, 1, 0}),
        (0.876, {3, 1, 0, 2}),
    ],
)
def test_top_p_keeps_the_smallest_set_that_holds_it(top_p: float, kept: set[int]) -> None:
    # The rarest token that is kept has one chance in eight: missing in 400 draws once in 10^23.
    assert set(draws(logits_of(0.125, 0.25, 0.125, 0.5), 400, top_p=top_p, seed=1)) == kept


@pytest.mark.parametrize(("top_p", "num_kept"), [(0.25, 1), (0.5, 2), (0.75, 3), (0.76, 4)])
def test_top_p_of_equals_keeps_no_token_too_many(top_p: float, num_kept: int) -> None:
    assert set(draws(torch.zeros(4), 400, top_p=top_p, seed=1)) == set(range(num_kept))


@pytest.mark.parametrize(
    ("top_k", "kept"),
    [(2, {1, 3}), (3, {0, 1, 3}), (4, {0, 1, 2, 3}), (5, {0, 1, 2, 3, 4}), (1_000_000, set(range(6)))],
)
def test_top_k_keeps_exactly_so_many_and_the_lower_ids_of_equals(top_k: int, kept: set[int]) -> None:
    assert set(draws(torch.tensor([0.0, 1.0, 0.0, 0.5, 0.0, 0.0]), 600, top_k=top_k, seed=1)) == kept


@pytest.mark.parametrize(("min_p", "kept"), [(0.0, {0, 1, 2, 3}), (0.24, {0, 1, 2, 3}), (0.26, {1, 3}), (1.0, {3})])
def test_min_p_is_a_share_of_the_most_likely_token(min_p: float, kept: set[int]) -> None:
    assert set(draws(logits_of(0.125, 0.25, 0.125, 0.5), 400, min_p=min_p, seed=1)) == kept


def test_top_p_is_of_what_min_p_and_top_k_left() -> None:
    logits = logits_of(0.4, 0.3, 0.2, 0.1)
    assert set(draws(logits, 200, top_p=0.55, seed=1)) == {0, 1}
    assert set(draws(logits, 200, top_p=0.55, top_k=2, seed=1)) == {0}  # 4/7 of the two
    assert set(draws(logits, 200, top_p=0.55, min_p=0.6, seed=1)) == {0}


def test_a_token_of_probability_zero_is_never_drawn() -> None:
    logits = torch.tensor([-math.inf, 0.0, -math.inf, 0.0, -math.inf])
    for params in ({}, {"top_k": 4}, {"top_p": 0.9999}, {"min_p": 1e-300}):
        assert set(draws(logits, 200, seed=1, **params)) == {1, 3}


@pytest.mark.parametrize("scale", [1.0, 1e4, 3e38])
@pytest.mark.parametrize("params", [{}, {"top_p": 0.9}, {"top_k": 3}, {"min_p": 0.1}])
def test_the_smallest_temperature_that_samples_overflows_nothing(scale: float, params: dict[str, Any]) -> None:
    logits = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0]) * scale
    assert set(draws(logits, 20, temperature=1e-5, seed=1, **params)) == {4}


# --- Frequencies ---


def _chi_squared(drawn: list[int | None], probabilities: torch.Tensor) -> float:
    expected = probabilities.double() * len(drawn)
    counts = torch.bincount(torch.tensor(drawn), minlength=len(probabilities)).double()
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_softmax_of_the_logits(temperature: float) -> None:
    logits = torch.tensor([0.0, 1.0, -1.0, 2.0, 0.5, -0.5, 1.5, -2.0])
    drawn = draws(logits, 5000, temperature=temperature, seed=1)
    # Seven degrees of freedom: above 40 once in a million. A temperature that is off by a quarter gives hundreds.
    assert _chi_squared(drawn, torch.softmax(logits / temperature, dim=0)) < 40
    for wrong in (temperature * 0.75, temperature * 1.33):
        assert _chi_squared(drawn, torch.softmax(logits / wrong, dim=0)) > 40


@pytest.mark.parametrize("params", [{"top_k": 3}, {"top_p": 0.8}, {"min_p": 0.3}])
def test_the_filters_leave_the_proportions_of_what_they_keep(params: dict[str, Any]) -> None:
    drawn = draws(logits_of(0.2, 0.05, 0.4, 0.1, 0.25), 5000, seed=1, **params)
    assert set(drawn) == {0, 2, 4}
    renumbered: list[int | None] = [(0, 2, 4).index(token) for token in drawn if token is not None]
    # Two degrees of freedom: above 28 once in a million.
    assert _chi_squared(renumbered, torch.tensor([0.2, 0.4, 0.25]) / 0.85) < 28


def test_different_seeds_at_one_position_follow_the_probabilities_too() -> None:
    logits = logits_of(0.125, 0.25, 0.125, 0.5)
    drawn = tokens(logits.expand(5000, -1), [(sampler(seed=seed), 0) for seed in range(5000)])
    assert _chi_squared(drawn, torch.tensor([0.125, 0.25, 0.125, 0.5])) < 31  # three degrees: once in a million


# --- Seeds and positions ---


@pytest.mark.parametrize("seed", [-(2**63), -1, 0, 7, 2**63 - 1])
def test_a_seed_repeats_the_draws(seed: int) -> None:
    logits = torch.zeros(1000)
    assert draws(logits, 20, seed=seed) == draws(logits, 20, seed=seed)


def test_different_seeds_draw_differently_whichever_bit_differs() -> None:
    logits = torch.zeros(1000)
    several = (-1, 0, 1, 2**32, 2**40, -(2**63), 2**63 - 1, 2**32 - 1, -(2**32))
    assert len({tuple(draws(logits, 20, seed=seed)) for seed in several}) == len(several)


def test_without_a_seed_two_sequences_draw_differently_but_each_repeats_itself() -> None:
    logits = torch.zeros(20, 1000)
    one, other = sampler(), sampler()
    drawn = tokens(logits, [(one, position) for position in range(20)])
    assert drawn == tokens(logits, [(one, position) for position in range(20)])
    assert drawn != tokens(logits, [(other, position) for position in range(20)])  # equal once in 1000^20


def test_a_position_has_its_draw_in_whatever_order_and_company_it_comes() -> None:
    logits = torch.zeros(1000)
    in_order = draws(logits, 20, seed=7)
    assert len(set(in_order)) > 15
    one = sampler(seed=7)
    for position in (19, 3, 3, 0, 11):
        assert tokens(logits.expand(1, -1), [(one, position)]) == [in_order[position]]


# --- Batches ---


@pytest.fixture
def num_threads() -> Iterator[Any]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


KINDS: list[dict[str, Any]] = [
    {"temperature": 0.0},
    {"temperature": 2.0},
    {"temperature": 2.0, "top_p": 0.9},
    {"top_p": 0.5},
    {"top_k": 50, "top_p": 0.9},
    {"min_p": 0.01},
    {"top_k": 500, "min_p": 0.01, "top_p": 0.99},
]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("vocab", [VOCAB, 40_001], ids=["even", "odd"])  # odd: rows begin at odd addresses
def test_a_row_draws_the_same_alone_and_among_others(vocab: int, threads: int, num_threads: Any) -> None:
    logits = torch.randn(32, vocab, generator=torch.Generator().manual_seed(1)) * 2
    rows = [(sampler(seed=index, **KINDS[index % len(KINDS)]), index * 3) for index in range(32)]
    num_threads(1)
    alone = [tokens(logits[index : index + 1].clone(), [row])[0] for index, row in enumerate(rows)]
    num_threads(threads)
    assert tokens(logits, rows) == alone
    assert tokens(logits.flip(0), rows[::-1]) == alone[::-1]
    assert tokens(logits[5:8], rows[5:8]) == alone[5:8]
    assert tokens(logits[:1], rows[:1]) + tokens(logits[31:], rows[31:]) == [alone[0], alone[31]]


def test_leaves_the_logits_as_they_were() -> None:
    logits = torch.randn(len(KINDS), 1000, generator=torch.Generator().manual_seed(1))
    before = logits.clone()
    tokens(logits, [(sampler(seed=1, **kind), 0) for kind in KINDS])
    assert torch.equal(logits, before)


@pytest.mark.parametrize("params", KINDS, ids=str)
@pytest.mark.parametrize("place", [0, 4097, VOCAB - 1])
def test_a_row_that_is_not_finite_has_no_token_and_spoils_no_other(
    params: dict[str, Any], place: int, caplog: pytest.LogCaptureFixture
) -> None:
    logits = torch.randn(1, VOCAB, generator=torch.Generator().manual_seed(1)).repeat(5, 1)
    logits[1, place] = math.nan
    logits[2, place] = math.inf
    logits[3] = -math.inf
    one = sampler(seed=1, **params)
    drawn = tokens(logits, [(one, 9)] * 5)
    assert drawn[1:4] == [None, None, None]
    assert [record.getMessage() for record in caplog.records] == ["a sequence failed: its logits are no numbers"] * 3
    assert drawn[0] is not None
    assert drawn[0] == drawn[4]


def test_no_rows_have_no_tokens() -> None:
    assert tokens(torch.empty(0, 1000), []) == []


def test_refuses_a_batch_of_another_size_than_its_rows() -> None:
    with pytest.raises(ValueError, match="2 rows of logits for 1 sequences"):
        tokens(torch.zeros(2, 10), [(sampler(), 0)])
