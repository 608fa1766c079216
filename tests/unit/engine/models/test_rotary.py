"""Frequencies against those of transformers, bit for bit."""

from typing import Any

import pytest
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from genkan.engine.models.rotary import LinearScaling, Llama3Scaling, Scaling, YarnScaling, rotary

BASE, DIM, ORIGINAL = 500_000.0, 64, 8_192
CASES: dict[str, tuple[Scaling, dict[str, Any]]] = {
    "linear": (LinearScaling(4.0), {"rope_type": "linear", "factor": 4.0}),
    "llama3": (
        Llama3Scaling(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_context=ORIGINAL),
        {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    ),
    "yarn": (YarnScaling(factor=4.0, original_context=ORIGINAL), {"rope_type": "yarn", "factor": 4.0}),
    "yarn with other bounds": (
        YarnScaling(factor=40.0, original_context=ORIGINAL, beta_fast=16.0, beta_slow=4.0, truncate=False),
        {"rope_type": "yarn", "factor": 40.0, "beta_fast": 16.0, "beta_slow": 4.0, "truncate": False},
    ),
    "yarn with a factor of its own": (
        YarnScaling(factor=4.0, original_context=ORIGINAL, attention_factor=0.75),
        {"rope_type": "yarn", "factor": 4.0, "attention_factor": 0.75},
    ),
    "yarn that stretches nothing": (
        YarnScaling(factor=1.0, original_context=ORIGINAL),
        {"rope_type": "yarn", "factor": 1.0},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("base", [BASE, 10_000.0])
def test_scaled_frequencies_are_those_of_transformers(case: str, base: float) -> None:
    scaling, settings = CASES[case]
    config = LlamaConfig(
        head_dim=DIM,
        max_position_embeddings=ORIGINAL,
        rope_parameters={"rope_theta": base, "original_max_position_embeddings": ORIGINAL, **settings},
    )
    expected, factor = ROPE_INIT_FUNCTIONS[settings["rope_type"]](config, None)
    ours = rotary(base, DIM, scaling)
    assert torch.equal(ours.frequencies, expected)
    assert ours.attention_factor == factor


def test_without_scaling_they_are_those_of_the_paper() -> None:
    ours = rotary(BASE, DIM)
    exact = BASE ** (-torch.arange(0, DIM, 2).double() / DIM)  # arXiv:2104.09864
    torch.testing.assert_close(ours.frequencies.double(), exact, rtol=1e-6, atol=0)
    assert ours.attention_factor == 1.0


def test_the_attention_factor_multiplies_cosines_and_sines() -> None:
    plain, twice = (
        rotary(BASE, DIM),
        rotary(BASE, DIM, YarnScaling(factor=1.0, original_context=64, attention_factor=2.0)),
    )
    for ours, theirs in zip(twice.table(10), plain.table(10), strict=True):
        assert torch.equal(ours, 2 * theirs)
