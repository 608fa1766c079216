"""What is timed of a sequence, and the numbers that come of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Answer:
    """One answered request: when it was made, when each token came (seconds of one clock), and what was found cached.

    ``prompt_tokens`` counts the whole prompt, ``cached_tokens`` the part of it that was not computed again.
    """

    submitted_s: float
    token_s: list[float]
    ids: list[int]
    prompt_tokens: int
    cached_tokens: int

    @property
    def ttft_s(self) -> float:
        """From the request to its first token."""
        return self.token_s[0] - self.submitted_s

    @property
    def gaps_s(self) -> list[float]:
        """The time between each token and the next: one fewer than tokens."""
        return np.diff(self.token_s).tolist()


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that ``percent`` of ``values`` do not exceed, interpolated. Raises ValueError when there are none."""
    if not values:
        raise ValueError("no values to take a percentile of")
    return float(np.percentile(values, percent))


def decode_rate(token_s: Sequence[Sequence[float]]) -> float:
    """Tokens a second while all sequences decode: after the last one's first token, until the first one ends.

    ``token_s`` holds the times of each sequence's tokens. All arms are measured this way, so that how each of them
    staggers its prefills does not count. Raises ValueError when one sequence had ended before another began.
    """
    begin, end = max(times[0] for times in token_s), min(times[-1] for times in token_s)
    if end <= begin:
        raise ValueError("the sequences never decoded together: ask for more tokens")
    return sum(begin < time <= end for times in token_s for time in times) / (end - begin)
