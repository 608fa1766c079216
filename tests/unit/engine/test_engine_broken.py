"""When the engine can serve nobody any more: it says so to everyone, and asks to be started again. Else it goes on."""

import asyncio
import logging
import threading
import time

import pytest
import torch
from fakes import WAIT_S, Changes, FakeRunner, alone, digest
from hand_clock import HandClock
from running import MakeEngine, greedy, settled, submitted, whole

from genkan.engine.batch import BatchItem
from genkan.engine.engine import Engine
from genkan.engine.sampling_params import SamplingParams
from genkan.engine.turns import Turns
from genkan.errors import EngineFailed, EngineUnavailable

pytestmark = pytest.mark.anyio

POISON = 66


class Failing(FakeRunner):
    """Raises ``error`` while ``fails``; and always on a prompt that begins with POISON."""

    def __init__(self, error: type[Exception] = RuntimeError) -> None:
        super().__init__(digest, block_size=4)
        self.fails = False
        self._error = error

    def forward(self, items: list[BatchItem]) -> torch.Tensor:
        logits = super().forward(items)
        if self.fails or any(item.ids[0] == POISON for item in items):
            raise self._error("it fails")
        return logits


class Told:
    """An ``on_broken`` that can be waited for."""

    def __init__(self) -> None:
        self.times = 0
        self._event = threading.Event()

    def __call__(self) -> None:
        self.times += 1
        self._event.set()

    async def wait(self) -> None:
        assert await asyncio.to_thread(self._event.wait, WAIT_S)


async def fails(engine: Engine, prompt: list[int]) -> None:
    with pytest.raises(EngineFailed):
        await whole(engine, prompt, greedy(3))


# Repeated failures


@pytest.mark.parametrize("error", [RuntimeError, MemoryError, KeyError])
async def test_after_so_many_failed_steps_in_a_row_the_engine_is_broken(
    make_engine: MakeEngine, error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    told, runner = Told(), Failing(error)
    engine = make_engine(runner, {"on_broken": told}, max_failed_steps=3)
    runner.fails = True
    for _ in range(2):
        await fails(engine, [1, 2])
    with caplog.at_level(logging.ERROR, "genkan.engine"), pytest.raises((EngineFailed, EngineUnavailable)):
        await whole(engine, [1, 2], greedy(3))
    await told.wait()
    assert "3 steps in a row failed" in caplog.text
    with pytest.raises(EngineUnavailable, match="broken"):
        await whole(engine, [1, 2], greedy(3))
    assert told.times == 1


async def test_those_that_wait_are_told_when_the_engine_breaks(make_engine: MakeEngine) -> None:
    told, runner = Told(), Failing()
    engine = make_engine(runner, {"on_broken": told}, max_failed_steps=1, max_sequences=1)
    runner.hold()
    first = await submitted(engine, [1], greedy(3))
    await runner.entered()
    waiting = await submitted(engine, [2], greedy(3))
    runner.fails = True
    runner.let_all()
    with pytest.raises(EngineFailed):
        await first
    with pytest.raises(EngineUnavailable):
        await waiting
    await told.wait()


async def test_a_step_that_goes_well_starts_the_count_again(make_engine: MakeEngine, changes: Changes) -> None:
    told, runner = Told(), Failing()
    engine = make_engine(runner, {"on_broken": told}, max_failed_steps=2)
    for _ in range(4):
        runner.fails = True
        await fails(engine, [1, 2])
        runner.fails = False
        assert [token.id for token in await whole(engine, [1, 2], greedy(3))] == alone(digest, [1, 2], 3)
    await settled(engine, changes)
    assert engine.statistics().failed_steps == 4
    assert told.times == 0


async def test_poisoned_requests_one_after_the_other_break_nothing(make_engine: MakeEngine, changes: Changes) -> None:
    told, runner = Told(), Failing()
    engine = make_engine(runner, {"on_broken": told}, max_failed_steps=3)
    for _ in range(20):
        await fails(engine, [POISON, 2])
    assert [token.id for token in await whole(engine, [1, 2], greedy(3))] == alone(digest, [1, 2], 3)
    await settled(engine, changes)
    assert told.times == 0
    assert sum(items == [[0]] for items in runner.computed) == 6  # one look at the model for every three


def in_line(turns: Turns, number: int) -> bool:
    """Whether so many have the turn or wait for it, in good time."""
    end_s = time.monotonic() + WAIT_S
    while len(turns) < number and time.monotonic() < end_s:
        pass
    return len(turns) == number


async def test_the_wait_for_other_engines_turns_is_no_hanging(make_engine: MakeEngine, changes: Changes) -> None:
    told, clock, turns = Told(), HandClock(), Turns()
    asked: list[float] = []

    class Asking(FakeRunner):
        def forward(self, items: list[BatchItem]) -> torch.Tensor:
            asked.append(clock.monotonic())
            return super().forward(items)

    options = {"on_broken": told, "clock": clock, "turns": turns}
    engine = make_engine(Asking(digest, block_size=4), options, step_timeout_s=0.01)
    with turns.turn():
        task = await submitted(engine, [1, 2], greedy(1))
        assert await asyncio.to_thread(in_line, turns, 2)
        clock.advance(100)
        assert not engine._watchdog.hangs()
        assert asked == []
    assert [token.id for token in await task] == alone(digest, [1, 2], 1)
    await settled(engine, changes)
    assert told.times == 0
    assert [report.step_s for report in changes.steps] == [0.0]


async def test_a_model_that_gives_no_numbers_is_no_model(make_engine: MakeEngine) -> None:
    class NoNumbers(FakeRunner):
        def forward(self, items: list[BatchItem]) -> torch.Tensor:
            return super().forward(items) * float("nan")

    told = Told()
    engine = make_engine(NoNumbers(), {"on_broken": told}, max_failed_steps=2)
    await fails(engine, [1])
    with pytest.raises((EngineFailed, EngineUnavailable)):
        await whole(engine, [1], greedy(3))
    await told.wait()


async def test_logits_of_a_wrong_shape_fail_the_step_and_harm_nothing_else(
    make_engine: MakeEngine, changes: Changes
) -> None:
    class Short(FakeRunner):
        def forward(self, items: list[BatchItem]) -> torch.Tensor:
            logits = super().forward(items)
            return logits[:0] if any(item.ids[0] == POISON for item in items) else logits

    engine = make_engine(Short(digest))
    with pytest.raises(EngineFailed):
        await whole(engine, [POISON], SamplingParams(max_tokens=3, logprobs=2, frequency_penalty=1.0))
    assert [token.id for token in await whole(engine, [1, 2], greedy(3))] == alone(digest, [1, 2], 3)
    await settled(engine, changes)


async def test_lost_blocks_break_the_engine_once_something_fails(make_engine: MakeEngine) -> None:
    told, runner = Told(), Failing()
    engine = make_engine(runner, {"on_broken": told})
    await whole(engine, [1, 2], greedy(3))
    engine._pool.take(1)
    with pytest.raises((EngineFailed, EngineUnavailable)):
        await whole(engine, [POISON], greedy(3))
    await told.wait()


# Steps that hang


async def test_a_step_that_hangs_is_told_to_everyone(
    make_engine: MakeEngine, runner: FakeRunner, caplog: pytest.LogCaptureFixture
) -> None:
    told = Told()
    engine = make_engine(options={"on_broken": told}, step_timeout_s=0.05, max_sequences=1)
    runner.hold()
    first = await submitted(engine, [10], greedy(3))
    await runner.entered()
    waiting = await submitted(engine, [20], greedy(3))
    asked = asyncio.create_task(engine.purge_prefix_cache(b""))
    for task in (first, waiting, asked):
        with pytest.raises(EngineUnavailable, match="hangs"):
            await task
    await told.wait()
    assert "takes longer than 0.05 s" in caplog.text
    runner.let_all()
    await asyncio.to_thread(engine.stop)  # it ends, now that its step has
    assert not engine._thread.is_alive()
    assert (engine.statistics().running, engine.statistics().waiting, told.times) == (0, 0, 1)


async def test_steps_that_end_in_time_are_no_hang(make_engine: MakeEngine, runner: FakeRunner) -> None:
    told = Told()
    engine = make_engine(FakeRunner(digest), {"on_broken": told}, step_timeout_s=0.5)
    for _ in range(3):
        assert len(await whole(engine, [1, 2], greedy(50))) == 50
    assert told.times == 0
