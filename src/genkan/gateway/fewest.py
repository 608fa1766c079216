"""How few pieces must go, found by weighing what is left as seldom as possible."""

from bisect import bisect_left
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

_AIMED = 4  # tries at where the place should be; then by halves
_SURELY = 0.25  # of what a piece is guessed at, it weighs


class Found(NamedTuple):
    """So many pieces to leave out, and what the rest weighs; where nothing ``fits``, all but the last."""

    num_out: int
    tokens: int
    fits: bool


async def fewest_out(
    guesses: Sequence[int],
    limit: int,
    weigh: Callable[[int], Awaitable[int]],
    likely: Callable[[int], float],
    whole: int | None,
) -> Found:
    """How few pieces must go for the rest to weigh ``limit`` at most.

    ``guesses`` are the weights of all, of all without the first piece, and so on, for which ``likely`` knows the scale;
    ``weigh`` tells the true one of what remains without so many, and ``whole`` is that of all, if it is known. A piece
    that is four times too heavy by its guess is not tried. Cost: two or three times ``weigh``, as a rule.

    Source: interpolation search, here with a line through the last point, and bisection where that does not close in.
    """
    end = len(guesses)
    low, high = (-1, end) if whole is None else (0, end)  # too few go, if not all of them; enough, if not too many
    too_heavy, light = whole or 0, 0
    near, weight = 0, likely(guesses[0]) if whole is None else float(whole)
    if whole is not None and whole <= limit:
        return Found(0, whole, fits=True)

    def fits_by_guess(place: int) -> bool:
        return weight - likely(guesses[near] - guesses[place]) <= limit

    tries = 0
    while high - low > 1:
        if high < end:
            # The scale may be that of a short rest, of which most is what stands around every prompt: it counts only
            # where it makes the piece lighter.
            piece = guesses[high - 1] - guesses[high]
            if light + _SURELY * min(likely(piece), piece) > limit:
                break
        if tries < _AIMED:
            place = min(bisect_left(range(end), True, low + 1, high, key=fits_by_guess), high - 1)
        else:
            place = (low + high) // 2
        tries += 1
        near, weight = place, float(tokens := await weigh(place))
        if tokens <= limit:
            high, light = place, tokens
        else:
            low, too_heavy = place, tokens
    return Found(high, light, fits=True) if high < end else Found(low, too_heavy, fits=False)
