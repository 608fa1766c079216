"""The fewest pieces go, and it takes few weighings to know."""

import random

import pytest

from genkan.gateway.fewest import Found, fewest_out


class Weights:
    """Pieces of these weights, which are guessed at ``scale`` times theirs."""

    def __init__(self, *weights: int, scale: float = 1.0) -> None:
        self.rests = [sum(weights[out:]) for out in range(len(weights))]
        self.guesses = [round(scale * rest) for rest in self.rests]
        self.weighed: list[int] = []
        self._per_guess = 1.0

    async def fewest(self, limit: int, *, knows_whole: bool = True) -> Found:
        whole = self.rests[0] if knows_whole else None
        return await fewest_out(self.guesses, limit, self._weigh, lambda guess: guess * self._per_guess, whole)

    async def _weigh(self, out: int) -> int:
        self.weighed.append(out)
        self._per_guess = self.rests[out] / self.guesses[out]
        return self.rests[out]


@pytest.mark.anyio
@pytest.mark.parametrize("knows_whole", [True, False])
@pytest.mark.parametrize(
    ("limit", "found"),
    [
        (100, Found(0, 100, fits=True)),
        (99, Found(1, 90, fits=True)),
        (90, Found(1, 90, fits=True)),
        (89, Found(2, 70, fits=True)),
        (40, Found(3, 40, fits=True)),
        (39, Found(3, 40, fits=False)),
    ],
)
async def test_as_few_as_will_do(limit: int, found: Found, knows_whole: bool) -> None:
    assert await Weights(10, 20, 30, 40).fewest(limit, knows_whole=knows_whole) == found


@pytest.mark.anyio
async def test_of_one_piece_nothing_goes() -> None:
    assert await Weights(10).fewest(10) == Found(0, 10, fits=True)
    assert await Weights(10).fewest(9) == Found(0, 10, fits=False)
    assert await Weights(10).fewest(9, knows_whole=False) == Found(0, 10, fits=False)


@pytest.mark.anyio
@pytest.mark.parametrize("scale", [0.2, 1.0, 5.0])
async def test_what_is_linear_is_found_at_once(scale: float) -> None:
    weights = Weights(*[100] * 1000, scale=scale)
    assert await weights.fewest(25_000) == Found(750, 25_000, fits=True)
    assert len(weights.weighed) == 1 if scale == 1.0 else len(weights.weighed) <= 3


@pytest.mark.anyio
async def test_guesses_that_mislead_cost_no_more_than_halves() -> None:
    chance = random.Random(7)
    for _ in range(200):
        weights = Weights(*(chance.randint(1, 50) for _ in range(500)))
        weights.guesses = sorted((max(1, round(one * chance.uniform(0.05, 20))) for one in weights.rests), reverse=True)
        limit = chance.randint(1, weights.rests[0])
        found = await weights.fewest(limit)
        assert found.fits == (found.tokens <= limit)
        assert found.tokens == weights.rests[found.num_out]
        assert len(weights.weighed) <= 4 + 9
