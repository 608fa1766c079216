"""The client tells its own slowness from the server's."""

import asyncio

import pytest
from virtual_time import LoopClock, run_virtually

from genkan.bench.client.lag import OwnLag, own_faults, watched

CLOCK = LoopClock()


def test_a_loop_that_is_held_up_is_late_by_that_much() -> None:
    async def held_up() -> OwnLag:
        loop = asyncio.get_running_loop()
        async with watched(CLOCK) as own:
            await asyncio.sleep(0.1)
            loop.now_s += 0.25  # type: ignore[attr-defined]  # as a function that takes that long
            await asyncio.sleep(0.1)
        return own

    own = run_virtually(held_up())
    assert max(own.lag_s) == pytest.approx(0.25, abs=0.011)
    assert sorted(own.lag_s)[-2] == pytest.approx(0.0, abs=1e-6)
    assert own.elapsed_s == pytest.approx(0.45, abs=0.011)


def test_a_quick_client_is_at_no_fault() -> None:
    assert own_faults(OwnLag([0.001] * 100, cpu_s=1.0, elapsed_s=10.0), [0.001] * 100, 0.01) == []


@pytest.mark.parametrize(
    ("own", "delays_s", "words"),
    [
        (OwnLag([0.006] * 100, 0.0, 10.0), [], "event loop was late by 6.0 ms"),
        (OwnLag([], 0.0, 10.0), [0.0] * 50 + [0.02] * 50, "requests 20.0 ms late"),
        (OwnLag([], 9.5, 10.0), [], "95 % of a core"),
    ],
)
def test_each_of_its_faults_is_named(own: OwnLag, delays_s: list[float], words: str) -> None:
    (fault,) = own_faults(own, delays_s, 0.01)
    assert words in fault


def test_what_is_little_beside_the_latency_is_no_fault() -> None:
    assert own_faults(OwnLag([0.02] * 100, 0.0, 10.0), [0.02] * 100, latency_p50_s=1.0) == []
