"""When requests are due in an open loop, whatever the server does: the world does not wait for it.

Users arrive at random and know nothing of each other, which is a Poisson process. A constant rate is kinder to a
server: no two requests ever come at once.
"""

import random
from collections.abc import Iterator
from itertools import count, takewhile
from typing import Literal, get_args

Arrivals = Literal["poisson", "constant"]
ARRIVALS: tuple[Arrivals, ...] = get_args(Arrivals)


def offsets_s(kind: Arrivals, rate: float, seed: int, *, until_s: float | None = None) -> Iterator[float]:
    """Seconds from the start at which each request is due, ``rate`` a second on average; without end by default."""
    offsets = _poisson(rate, seed) if kind == "poisson" else (number / rate for number in count())
    return offsets if until_s is None else takewhile(lambda offset: offset < until_s, offsets)


def _poisson(rate: float, seed: int) -> Iterator[float]:
    dice = random.Random(f"arrivals/{seed}")  # noqa: S311 - repeatable is what is wanted
    at_s = 0.0
    while True:
        at_s += dice.expovariate(rate)
        yield at_s
