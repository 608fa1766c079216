"""The issue's figures: 3 × 100 simulations of 20,000 requests, in each of which the gateway's own judge decides.

A simulation lasts until it is decided, so all of it is done; judged every 100 requests, to be quick: `make
bench-canary` does it every 20, in six worlds. Seldom looks find less, so it is not easier to roll back the worse.
"""

import pytest

from genkan.bench.canary import CANDIDATES, REQUESTS, World, simulate

RUNS = 100
WORST = World(0.02, stalls=True)  # where most fail anyway, it takes longest


@pytest.mark.parametrize("name", ["latency +30 %", "errors +3 points"])
def test_a_worse_canary_is_rolled_back(name: str) -> None:
    outcomes = [simulate(WORST, CANDIDATES[name], seed, every=100) for seed in range(RUNS)]
    assert sum(outcome.state == "worse" for outcome in outcomes) >= 95
    guards = {outcome.by for outcome in outcomes} - {""}
    assert guards <= ({"error_rate"} if "errors" in name else {"latency_ratio", "ttft_ratio"})


def test_an_equal_canary_is_not() -> None:
    outcomes = [simulate(WORST, CANDIDATES["equal"], seed, every=100) for seed in range(RUNS)]
    assert sum(outcome.state == "worse" for outcome in outcomes) <= 5
    assert REQUESTS == 20_000
