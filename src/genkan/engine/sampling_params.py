"""What one sequence asks of the engine, beside its prompt: how to choose each token, and when to end."""

from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How to choose each token, and when to end.

    A temperature below 1e-5 is greedy. The filters apply in the order min-p, top-k, top-p, and each keeps one token at
    least: ``min_p`` drops what is less likely than that share of the most likely token, ``top_k`` keeps so many (None:
    all), ``top_p`` keeps the smallest set of most likely tokens that holds so much of what is left.

    ``seed`` makes sampling repeatable. Any of ``stop_ids`` ends the sequence, unless ``ignore_eos``.
    """

    max_tokens: int
    stop_ids: frozenset[int] = frozenset()
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None
    min_p: float = 0.0
    seed: int | None = None
    ignore_eos: bool = False
