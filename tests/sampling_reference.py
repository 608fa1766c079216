"""Sampling written plainly in float64: what the engine's sampler is compared with."""

import itertools
import math
from collections import Counter
from collections.abc import Collection, Sequence
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from genkan.engine.sampling_params import SamplingParams

Floats = npt.NDArray[np.float64]
_FLOAT32 = 3.4028234663852886e38


def rounded(logit: float) -> float:
    """As float32 holds it, and at most its largest."""
    return float(np.float32(min(max(logit, -_FLOAT32), _FLOAT32)))


def ruled(
    logits: Sequence[float],
    params: SamplingParams,
    prompt: Sequence[int],
    answer: Sequence[int],
    allowed_ids: Collection[int] | None,
) -> Floats:
    """The logits after bias, fewest tokens, grammar (``allowed_ids``) and penalties, token by token."""
    appeared, times = {*prompt, *answer}, Counter(answer)
    bias = dict(params.logit_bias)
    result = []
    for token, logit in enumerate(logits):
        too_early = token in params.stop_ids and len(answer) < params.min_tokens
        if logit == -math.inf or too_early or (allowed_ids is not None and token not in allowed_ids):
            result.append(-math.inf)
            continue
        if token in bias:
            logit = rounded(logit + bias[token])
        if token in appeared:
            logit = logit / params.repetition_penalty if logit > 0 else logit * params.repetition_penalty
        logit -= times[token] * params.frequency_penalty
        logit -= (token in times) * params.presence_penalty
        result.append(rounded(logit))
    return np.array(result)


def log_softmax(logits: Sequence[float]) -> list[float]:
    peak = max(logits)
    shifted = [logit - peak for logit in logits]
    total = math.fsum(map(math.exp, shifted))
    return [each - math.log(total) for each in shifted]


def reference_uniform(seed: int, position: int, offset: int = 0) -> float:
    key, data = seed.to_bytes(16, "little", signed=True), position.to_bytes(8, "little")
    if offset:
        key += offset.to_bytes(8, "little")
    bits = int.from_bytes(blake2b(data, key=key, digest_size=8).digest(), "little")
    return (bits >> 11) / 2**53


def chosen(logits: Floats, uniform: float, *, temperature: float, top_k: int | None, min_p: float, top_p: float) -> int:
    """The filters one after the other, each on the ranks that the one before left."""
    ranks = np.argsort(-logits, kind="stable")
    if temperature < 1e-5:
        return int(ranks[0])
    probabilities = np.exp((logits - logits.max()) / temperature)
    ranks = ranks[probabilities[ranks] >= min_p]
    ranks = ranks[:top_k]
    before = np.cumsum(probabilities[ranks]) - probabilities[ranks]
    beyond = before >= top_p * probabilities[ranks].sum()
    beyond[0] = False
    kept = np.sort(ranks[~beyond])
    sums = np.cumsum(probabilities[kept])
    return int(kept[np.searchsorted(sums, uniform * sums[-1], side="right")])


def allowed(
    logits: Floats, uniform: float, *, temperature: float, top_k: int | None, min_p: float, top_p: float
) -> set[int]:
    """The answers of ``chosen`` when each threshold moves by what float32 may be off."""
    return {
        chosen(
            logits,
            min(max(uniform + shift, 0), 1 - 2**-53),
            temperature=temperature,
            top_k=top_k,
            min_p=min(min_p * low, 1) if min_p else 0,
            top_p=top_p + high if top_p < 1 else 1,
        )
        for shift, low, high in itertools.product((-1e-5, 0, 1e-5), (1 - 1e-5, 1, 1 + 1e-5), (-1e-5, 0, 1e-5))
    }
