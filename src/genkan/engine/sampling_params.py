"""What one sequence asks of the engine, beside its prompt: how to choose each token, and when to end."""

from dataclasses import dataclass
from typing import Literal

from genkan.engine.grammar.spec import GrammarSpec

FinishReason = Literal["stop", "length"]
MAX_TOP_LOGPROBS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How to choose each token, and when to end.

    A row of logits passes, in this order: ``logit_bias`` (token id and what is added), ``min_tokens`` (no stop id
    before so many), the ``grammar``, the penalties, then the choice. ``repetition_penalty`` (above 0;
    1: none) divides the positive logits of all tokens of prompt and answer and multiplies the negative ones;
    ``presence_penalty`` is subtracted once from what the answer has, ``frequency_penalty`` for each time.

    A temperature below 1e-5 is greedy. The filters apply in the order min-p, top-k, top-p, and each keeps one token at
    least: ``min_p`` drops what is less likely than that share of the most likely token, ``top_k`` keeps so many (None:
    all), ``top_p`` keeps the smallest set of most likely tokens that holds so much of what is left.

    ``logprobs``: with each token its own log probability and those of so many most likely, up to 20, of the
    model's own logits, before all of the above; ``prompt_logprobs`` the same for the tokens of the prompt.

    ``seed`` makes sampling repeatable. Any of ``stop_ids`` ends the sequence, unless ``ignore_eos``.

    ``continued``: so many of the prompt's last tokens are the answer's first. They count for ``min_tokens``, the
    penalties, the ``grammar`` and the draws of a ``seed`` as if they had been drawn here; ``max_tokens`` are to follow.
    """

    max_tokens: int
    min_tokens: int = 0
    stop_ids: frozenset[int] = frozenset()
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None
    min_p: float = 0.0
    seed: int | None = None
    ignore_eos: bool = False
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    grammar: GrammarSpec | None = None
    continued: int = 0
