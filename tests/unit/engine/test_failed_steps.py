"""What is looked at after a failed step, and how often."""

from hand_clock import HandClock
from schedules import BLOCK

from genkan.engine.block_pool import BlockPool
from genkan.engine.failed_steps import FailedSteps
from genkan.engine.pace import Pace
from genkan.engine.prefix_cache import PrefixCache
from genkan.engine.sampler import Drawn
from genkan.engine.scheduler import Limits, Scheduler
from genkan.engine.step import failed

CHECK_S = 0.4


class Checked(Scheduler):
    """One whose check takes CHECK_S, and that counts them."""

    def __init__(self, clock: HandClock) -> None:
        pool = BlockPool(4)
        limits = Limits(max_batched_tokens=16, max_sequences=4)
        super().__init__(pool, PrefixCache(pool, block_size=BLOCK), limits, Pace(None))
        self.checks = 0
        self._clock = clock

    def check(self) -> None:
        super().check()
        self.checks += 1
        self._clock.advance(CHECK_S)


def test_a_flood_of_failures_costs_the_others_a_twentieth_of_the_time() -> None:
    clock = HandClock()
    scheduler = Checked(clock)
    failures = FailedSteps(lambda _: None, scheduler, 3, clock)  # type: ignore[arg-type, return-value]  # never asked
    began_s = clock.monotonic()
    for _ in range(10_000):
        clock.advance(0.01)
        failures.note([failed(), Drawn(1)], clock.monotonic())
    took_s = clock.monotonic() - began_s
    assert failures.num_failed == 10_000
    assert 1 < scheduler.checks * CHECK_S <= took_s / 20 + CHECK_S


def test_nothing_is_looked_at_where_nothing_failed() -> None:
    clock = HandClock()
    scheduler = Checked(clock)
    FailedSteps(lambda _: None, scheduler, 3, clock).note([Drawn(1), None], 0.0)  # type: ignore[arg-type, return-value]  # never asked
    assert scheduler.checks == 0
