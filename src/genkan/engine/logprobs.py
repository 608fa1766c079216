"""Log probabilities of tokens: the model's own, before any rule, temperature or filter."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from genkan.engine.ranking import Floats, ids_of_largest, largest
from genkan.errors import EngineFailed


class TokenLogprobs(NamedTuple):
    """A token's log probability, and those of the ``top`` most likely in its place, likeliest first.

    Minus infinity where the model itself rules a token out.
    """

    logprob: float
    top: tuple[tuple[int, float], ...] = ()


def token_logprobs(row: Floats, peak: float, token: int, top: int) -> TokenLogprobs:
    """Those of ``token`` in the logits ``row`` (``[vocab]``, unchanged), whose maximum is the finite ``peak``.

    ``top`` beyond the vocabulary gives all of it; of equals the lower id comes first. Two passes over the row, and one
    more for ``top``.
    """
    with np.errstate(over="ignore"):  # of a difference, towards minus infinity: the probability is 0
        relative = row - np.float32(peak)
    log_total = math.log(np.exp(relative).sum(dtype=np.float64))
    logprob = float(relative[token]) - log_total
    if top == 0:
        return TokenLogprobs(logprob)
    ids = ids_of_largest(row, largest(row, min(top, len(row))))  # of the row: differences may round to equals
    ids = ids[np.argsort(-row[ids], kind="stable")]
    values = relative[ids].astype(np.float64) - log_total
    return TokenLogprobs(logprob, tuple(zip(ids.tolist(), values.tolist(), strict=True)))


def prompt_logprobs(logits: torch.Tensor, ids: Sequence[int], top: int) -> list[TokenLogprobs]:
    """Those of ``ids[i]`` in row ``i`` of ``logits`` (float32 ``[len(ids), vocab]``, in the CPU's memory, unchanged).

    Raises EngineFailed for a row with a NaN, or whose maximum is not finite.
    """
    peaks: list[float] = logits.amax(dim=-1).tolist()  # a NaN wins
    if not all(map(math.isfinite, peaks)):
        raise EngineFailed("The engine failed on this request.")
    table: Floats = logits.numpy()
    return [token_logprobs(row, peak, token, top) for row, peak, token in zip(table, peaks, ids, strict=True)]
