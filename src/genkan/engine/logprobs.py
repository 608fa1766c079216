"""Log probabilities of tokens."""

from typing import NamedTuple


class TokenLogprobs(NamedTuple):
    """A token's log probability, and those of the ``top`` most likely in its place, likeliest first."""

    logprob: float
    top: tuple[tuple[int, float], ...] = ()
