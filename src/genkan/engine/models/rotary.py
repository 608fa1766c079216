"""Frequencies of rotary embeddings, as they are or scaled for windows longer than those of the training.

Each is computed as transformers computes it, operation by operation, in float32: a model's angles at position 100 000
differ visibly by a rounding of its frequencies.

Source: ``modeling_rope_utils.py`` of transformers; arXiv:2104.09864 (rotary), 2306.15595 (linear), 2309.00071 (YaRN).
"""

import math
from dataclasses import dataclass

import torch

from genkan.engine.models.decoder import Rotary
from genkan.errors import ModelFileError


@dataclass(frozen=True, slots=True)
class LinearScaling:
    """Positions are divided by ``factor``."""

    factor: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Llama3Scaling:
    """Llama 3.1's: only wavelengths that are long against the original window, in tokens, are divided by ``factor``."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_context: int


@dataclass(frozen=True, slots=True, kw_only=True)
class YarnScaling:
    """YaRN's: between ``beta_fast`` and ``beta_slow`` rotations in the original window it goes over to ``factor``.

    ``attention_factor`` multiplies cosines and sines; None: what the paper suggests for the factor.
    """

    factor: float
    original_context: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True
    attention_factor: float | None = None


Scaling = LinearScaling | Llama3Scaling | YarnScaling


def rotary(base: float, head_dim: int, scaling: Scaling | None = None) -> Rotary:
    """The rotary embedding of heads of ``head_dim`` with that base, which is called theta as well.

    Raises ModelFileError where they make no finite numbers.
    """
    try:
        made = _rotary(base, head_dim, scaling)
    except (ArithmeticError, ValueError) as error:  # a ValueError of math.log
        raise ModelFileError(f"the rotary embedding cannot be computed: {error} (base {base:g}, {scaling})") from error
    if not torch.isfinite(made.frequencies).all():
        raise ModelFileError(f"the rotary embedding has frequencies that are no numbers (base {base:g}, {scaling})")
    return made


def _rotary(base: float, head_dim: int, scaling: Scaling | None) -> Rotary:
    plain = 1.0 / (base ** (torch.arange(0, head_dim, 2, dtype=torch.int64).float() / head_dim))
    match scaling:
        case None:
            return Rotary(plain)
        case LinearScaling(factor):
            return Rotary(plain / factor)
        case Llama3Scaling():
            return Rotary(_llama3(plain, scaling))
        case YarnScaling():
            temperature = scaling.attention_factor
            if temperature is None:
                temperature = yarn_temperature(scaling.factor)
            return Rotary(_yarn(base, head_dim, scaling), temperature)


def yarn_temperature(factor: float, multiplier: float = 1.0) -> float:
    """What YaRN multiplies cosines and sines by when it stretches the window by ``factor``."""
    return 1.0 if factor <= 1 else 0.1 * multiplier * math.log(factor) + 1.0


def _llama3(frequencies: torch.Tensor, scaling: Llama3Scaling) -> torch.Tensor:
    factor, low, high = scaling.factor, scaling.low_freq_factor, scaling.high_freq_factor
    wavelength = 2 * math.pi / frequencies
    is_long = wavelength > scaling.original_context / low
    is_short = wavelength < scaling.original_context / high
    scaled = torch.where(is_long, frequencies / factor, frequencies)
    smooth = (scaling.original_context / wavelength - low) / (high - low)
    between = (1 - smooth) * scaled / factor + smooth * scaled
    return torch.where(~is_short & ~is_long, between, scaled)


def _yarn(base: float, dim: int, scaling: YarnScaling) -> torch.Tensor:
    def dimension_of(rotations: float) -> float:
        return (dim * math.log(scaling.original_context / (rotations * 2 * math.pi))) / (2 * math.log(base))

    low, high = dimension_of(scaling.beta_fast), dimension_of(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    if low == high:
        high += 0.001
    powers = base ** (torch.arange(0, dim, 2).float() / dim)
    ramp = ((torch.arange(dim // 2, dtype=torch.float32) - low) / (high - low)).clamp(0, 1)
    stays = 1 - ramp
    return 1.0 / (scaling.factor * powers) * (1 - stays) + 1.0 / powers * stays
