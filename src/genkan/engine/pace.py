"""How many prompt tokens a step may compute beside decodes, so that those who read along do not notice. Pure.

A step takes about as long as its decodes alone, and so much more for each prompt token. Both are measured as the
engine runs, and the chunk is what keeps the step below ``slowdown`` times the first.
"""

ROUND_TO = 16
_WEIGHT = 0.2  # of the newest measurement


class Pace:
    """Measured step times, and the chunk they allow."""

    def __init__(self, slowdown: float | None) -> None:
        """``slowdown``: the longest a mixed step may take, in steps of decodes alone; None sets no limit."""
        self._slowdown = slowdown
        self._decode_s: float | None = None
        self._token_s: float | None = None

    def chunk_limit(self, num_decodes: int, budget: int) -> int:
        """Prompt tokens for the next step beside ``num_decodes``: ``budget``, or a smaller multiple of 16 but not 0."""
        if self._slowdown is None or num_decodes == 0 or self._decode_s is None or not self._token_s:
            return budget
        allowed = int((self._slowdown - 1) * self._decode_s / self._token_s) // ROUND_TO * ROUND_TO
        return min(max(allowed, ROUND_TO), budget)

    def observe(self, step_s: float, num_decodes: int, prompt_tokens: int) -> None:
        """A step took ``step_s``."""
        if prompt_tokens == 0:
            self._decode_s = _moved(self._decode_s, step_s)
        elif prompt_tokens >= ROUND_TO:
            own = step_s - (self._decode_s or 0.0 if num_decodes else 0.0)
            # A hiccup of the machine may make the difference meaningless, but never negative.
            self._token_s = _moved(self._token_s, max(own, 0.1 * step_s) / prompt_tokens)


def _moved(old: float | None, new: float) -> float:
    return new if old is None else old + _WEIGHT * (new - old)
