"""What the engine tells those who count."""

import asyncio

import pytest
import torch
from fakes import Changes, FakeRunner, alone, digest
from running import MakeEngine, ManualClock, cancel, greedy, ids_of, settled, submitted, whole

from genkan.engine.batch import BatchItem
from genkan.engine.engine import Engine
from genkan.engine.statistics import EngineStatistics, StepReport
from genkan.errors import EngineFailed, EngineOverloaded

pytestmark = pytest.mark.anyio

STEP_S = 0.25


class TimedRunner(FakeRunner):
    """Each pass takes STEP_S on ``clock``."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(digest)
        self._clock = clock

    def forward(self, items: list[BatchItem]) -> torch.Tensor:
        logits = super().forward(items)
        self._clock.now_s += STEP_S
        return logits


def report(*, decodes: int = 0, prompt: int = 0, first: tuple[float, ...] = (), gap: tuple[float, ...] = ()) -> object:
    return StepReport(
        step_s=STEP_S, num_decodes=decodes, prompt_tokens=prompt, first_token_s=list(first), token_gap_s=list(gap)
    )


async def test_a_step_is_reported_with_what_came_of_it(make_engine: MakeEngine, changes: Changes) -> None:
    clock = ManualClock()
    runner = TimedRunner(clock)
    engine = make_engine(runner, {"clock": clock}, max_batched_tokens=16, max_sequences=16)
    runner.hold()
    first = await submitted(engine, list(range(20)), greedy(3))
    await runner.entered()
    second = await submitted(engine, [7], greedy(2))
    runner.let_all()
    await asyncio.gather(first, second)
    await changes.until_steps(4)
    assert changes.steps == [
        report(prompt=16),
        report(prompt=4 + 1, first=(0.5, 0.5)),  # the second waited for a step before its own
        report(decodes=2, gap=(0.25, 0.25)),
        report(decodes=1, gap=(0.25,)),
    ]


async def test_waiting_is_part_of_the_time_to_the_first_token(make_engine: MakeEngine, changes: Changes) -> None:
    clock = ManualClock()
    runner = TimedRunner(clock)
    engine = make_engine(runner, {"clock": clock}, max_sequences=1)
    runner.hold()
    first = await submitted(engine, [1], greedy(3))
    await runner.entered()
    second = await submitted(engine, [2], greedy(1))
    runner.let_all()
    await asyncio.gather(first, second)
    await changes.until_steps(4)
    assert changes.steps[-1] == report(prompt=1, first=(1.0,))


async def test_what_is_computed_again_is_reported_as_prompt(make_engine: MakeEngine, changes: Changes) -> None:
    runner = FakeRunner(digest, num_blocks=8, block_size=4)
    engine = make_engine(runner, prefix_cache=False)
    answers = await asyncio.gather(*(ids_of(engine, [place, 1, 2], 24) for place in range(3)))
    assert answers == [alone(digest, [place, 1, 2], 24) for place in range(3)]
    assert engine.statistics().preemptions > 0
    await changes.until_steps(len(runner.calls))
    for step, items in zip(changes.steps, runner.computed, strict=True):
        assert step.num_decodes == sum(len(ids) == 1 for ids in items)
        assert step.prompt_tokens == sum(len(ids) for ids in items if len(ids) > 1)
        assert len(step.first_token_s) + len(step.token_gap_s) == len(items)


async def test_statistics_count_what_runs_waits_and_was_generated(
    make_engine: MakeEngine, runner: FakeRunner, changes: Changes
) -> None:
    engine = make_engine(max_sequences=1)
    assert engine.statistics() == EngineStatistics(blocks=64, free_blocks=64)
    runner.hold()
    tasks = [await submitted(engine, [first] * 20, greedy(2)) for first in (10, 20)]
    await runner.entered()
    assert engine.statistics() == EngineStatistics(running=1, waiting=1, blocks=64, free_blocks=62, prefix_queries=1)
    runner.let_all()
    await asyncio.gather(*tasks)
    await whole(engine, [10] * 20, greedy(2))
    assert engine.statistics() == EngineStatistics(
        generated_tokens=6,
        prompt_tokens=60,
        cached_tokens=16,
        blocks=64,
        free_blocks=62,
        cached_pages=2,
        prefix_queries=3,
        prefix_hits=1,
    )
    await changes.until_idle()
    assert changes.seen[-1] == engine.statistics()


async def test_a_start_and_an_end_are_told(engine: Engine, changes: Changes) -> None:
    await whole(engine, [10], greedy(2))
    await changes.until_idle()
    told = [(seen.waiting, seen.running, seen.generated_tokens) for seen in changes.seen]
    assert told == [(1, 0, 0), (0, 1, 0), (0, 1, 1), (0, 1, 1), (0, 0, 2)]


async def test_evictions_are_counted(make_engine: MakeEngine, changes: Changes) -> None:
    engine = make_engine(FakeRunner(digest, num_blocks=4, block_size=4))
    for start in range(4):
        await ids_of(engine, [start] * 9, 3)
        await settled(engine, changes)
    assert engine.statistics().evictions > 0


def failing_on_40(seen: list[int]) -> int:
    if seen[0] == 40:
        raise ValueError
    return digest(seen)


async def test_statistics_are_back_to_nothing_after_every_kind_of_end(
    make_engine: MakeEngine, changes: Changes
) -> None:
    runner = FakeRunner(failing_on_40)
    engine = make_engine(runner, max_sequences=1, max_waiting=2)
    runner.hold()
    running = await submitted(engine, [10], greedy(100))
    await runner.entered()
    waiting = await submitted(engine, [20], greedy(100))
    broken = await submitted(engine, [40], greedy(100))
    with pytest.raises(EngineOverloaded):
        await whole(engine, [30], greedy(1))
    await cancel(waiting)
    await cancel(running)
    runner.let_all()
    with pytest.raises(EngineFailed):
        await broken
    await settled(engine, changes)
    assert (engine.statistics().running, engine.statistics().waiting) == (0, 0)
