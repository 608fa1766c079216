"""Verified caching on synthetic prompts: however entries differ, no more requests are wrong than may be."""

import math

import numpy as np
import pytest

from genkan.cache.verified import IGNORANT, KNOWING, Prior, Seen, chance

ENTRIES, REQUESTS = 25, 1_500

#: How the entries' true lines lie, as the score sees them: the mean and spread of offsets, and the typical slope.
WORLDS = {
    "as the score says": (0.0, 0.5, 1.0),
    "entries differ": (0.0, 1.5, 1.0),
    "harder than it says": (-2.0, 1.0, 1.0),
    "much harder": (-4.0, 0.5, 1.0),
    "easier": (2.0, 1.0, 1.0),
    "sharper": (-4.0, 0.5, 2.0),
    "all or nothing": (-8.0, 1.0, 4.0),
}


def traffic(world: str, prior: Prior, rate: float, seed: int) -> tuple[int, int]:
    """How many of the requests are served, and how many wrongly. Popular entries are asked more often."""
    random = np.random.default_rng(seed)
    offset, spread, slope = WORLDS[world]
    offsets = random.normal(offset, spread, ENTRIES)
    slopes = slope * np.exp(random.normal(0.0, 0.3, ENTRIES))
    popular = 1.0 / np.arange(1, ENTRIES + 1)
    asked = random.choice(ENTRIES, REQUESTS, p=popular / popular.sum())
    odds = random.uniform(-1.0, 5.0, REQUESTS)
    drawn = random.random((REQUESTS, 2))
    seen: list[list[Seen]] = [[] for _ in range(ENTRIES)]
    served = wrong = 0
    for entry, x, (draw, luck) in zip(asked.tolist(), odds.tolist(), drawn.tolist(), strict=True):
        right = luck < 1.0 / (1.0 + math.exp(-(offsets[entry] + slopes[entry] * x)))
        if draw < chance(seen[entry][-64:], x, rate, prior):
            served += 1
            wrong += not right
        else:
            seen[entry].append((x, right))
    return served, wrong


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("prior", [KNOWING, IGNORANT], ids=["with a prior", "without"])
@pytest.mark.parametrize("rate", [0.01, 0.05])
def test_the_share_of_wrong_answers_stays_below_the_rate(world: str, prior: Prior, rate: float) -> None:
    _, wrong = traffic(world, prior, rate, seed=7)
    chance_s = 3.0 * math.sqrt(rate * (1.0 - rate) / REQUESTS)  # what luck alone may add, once in 700 times
    assert wrong / REQUESTS <= rate + chance_s


def test_it_serves_and_more_so_where_the_score_is_right() -> None:
    for prior in (KNOWING, IGNORANT):
        served, _ = traffic("as the score says", prior, 0.05, seed=7)
        harder, _ = traffic("harder than it says", prior, 0.05, seed=7)
        assert served / REQUESTS > 0.35
        assert 0 < harder < served


def test_the_same_draws_give_the_same_run() -> None:
    assert traffic("entries differ", KNOWING, 0.02, seed=3) == traffic("entries differ", KNOWING, 0.02, seed=3)
