"""How many prompt tokens a step may compute beside decodes, so that those who read along hardly notice. Pure.

A step's time is taken to be ``base + decode · sequences that decode + prompt · prompt tokens``. The three are fitted to
the steps as they are measured, by least squares in which old steps fade (recursive, three normal equations). The chunk
is then what keeps a step below ``slowdown`` times one with the same decodes and no prompt.
"""

from collections.abc import Sequence

ROUND_TO = 16
LEAST_CHUNK = 32  # fewer would make the prompts' own work several times slower, as a step has its fixed costs
_FADING = 0.98  # an old step's weight, for each that came after
_RIDGE = 1e-3  # of a coefficient that the steps say nothing of; they are scaled to about 1
_SCALES = (1.0, 1 / 32, 1 / 256)
_LONGEST_SURPRISE = 3.0  # a step that took longer than that times what was expected tells of the machine, not of it

_Vector = tuple[float, float, float]


class Pace:
    """Measured step times, and the chunk they allow."""

    def __init__(self, slowdown: float | None) -> None:
        """``slowdown``: the longest a mixed step may take, in steps of decodes alone; None sets no limit."""
        self._slowdown = slowdown
        self._normal = [[_RIDGE if row == column else 0.0 for column in range(3)] for row in range(3)]
        self._moment = [0.0, 0.0, 0.0]
        self._coefficients: _Vector = (0.0, 0.0, 0.0)
        self._seen_decode = self._seen_prompt = False

    def chunk_limit(self, num_decodes: int, budget: int) -> int:
        """Prompt tokens for a step beside ``num_decodes``: ``budget``, or a smaller multiple of 16 from 32 on."""
        if self._slowdown is None or num_decodes == 0 or not (self._seen_decode and self._seen_prompt):
            return budget
        base_s, decode_s, prompt_s = self._coefficients
        if prompt_s <= 0:
            return budget
        decodes_s = max(base_s + decode_s * num_decodes * _SCALES[1], 0.0)
        allowed = int((self._slowdown - 1) * decodes_s / (prompt_s * _SCALES[2])) // ROUND_TO * ROUND_TO
        return min(max(allowed, LEAST_CHUNK), budget)

    def observe(self, step_s: float, num_decodes: int, prompt_tokens: int) -> None:
        """A step took ``step_s``. Cost: some 10 µs."""
        if self._slowdown is None:
            return
        self._seen_decode |= prompt_tokens == 0
        self._seen_prompt |= prompt_tokens >= ROUND_TO
        features = (_SCALES[0], num_decodes * _SCALES[1], prompt_tokens * _SCALES[2])
        expected_s = sum(a * b for a, b in zip(features, self._coefficients, strict=True))
        if expected_s > 0:
            step_s = min(step_s, _LONGEST_SURPRISE * expected_s)
        for row in range(3):
            self._moment[row] = _FADING * self._moment[row] + features[row] * step_s
            for column in range(3):
                kept = _FADING * self._normal[row][column] + features[row] * features[column]
                self._normal[row][column] = kept + ((1 - _FADING) * _RIDGE if row == column else 0.0)
        self._coefficients = _solved(self._normal, self._moment)


def _solved(matrix: Sequence[Sequence[float]], right: Sequence[float]) -> _Vector:
    """``x`` with ``matrix · x = right``, by Cramer's rule. The matrix is positive definite, thanks to the ridge."""
    first, second, third = zip(*matrix, strict=True)
    whole = _determinant(first, second, third)
    b = tuple(right)
    return (
        _determinant(b, second, third) / whole,
        _determinant(first, b, third) / whole,
        _determinant(first, second, b) / whole,
    )


def _determinant(a: Sequence[float], b: Sequence[float], c: Sequence[float]) -> float:
    return a[0] * (b[1] * c[2] - b[2] * c[1]) - b[0] * (a[1] * c[2] - a[2] * c[1]) + c[0] * (a[1] * b[2] - a[2] * b[1])
