"""What one sequence breaks fails that sequence only; what breaks the engine is told to everyone; and stopping."""

import asyncio
import logging
import threading
from typing import Any

import pytest
import torch
from fakes import WAIT_S, Changes, FakeRunner, Rule, alone, digest
from running import MakeEngine, Tokens, greedy, ids_of, settled, submitted, whole

from genkan.engine.batch import BatchItem
from genkan.engine.engine import Engine
from genkan.engine.sampling_params import SamplingParams
from genkan.engine.sequence import Sequence
from genkan.engine.statistics import EngineStatistics
from genkan.errors import EngineFailed, EngineUnavailable

pytestmark = pytest.mark.anyio

POISON = 66
SECRET = "a secret that is no client's business"


def failing_on_poison(after: int = 0) -> Rule:
    """Fails a prompt that begins with POISON once more than ``after`` ids were seen."""

    def rule(seen: list[int]) -> int:
        if seen[0] == POISON and len(seen) > after:
            raise ValueError(SECRET)
        return digest(seen)

    return rule


async def failure_of(task: Tokens) -> Exception:
    """What a task fails with, in good time."""
    async with asyncio.timeout(WAIT_S):
        try:
            raise AssertionError(f"it ended well: {await task}")
        except (EngineFailed, EngineUnavailable) as error:
            return error


# One sequence


@pytest.mark.parametrize("after", [0, 2])
async def test_an_error_in_the_model_is_raised_after_what_was_there(
    make_engine: MakeEngine, changes: Changes, caplog: pytest.LogCaptureFixture, after: int
) -> None:
    engine = make_engine(FakeRunner(failing_on_poison(after)))
    received: list[int] = []
    with caplog.at_level(logging.ERROR, "genkan.engine"), pytest.raises(EngineFailed) as caught:  # noqa: PT012
        async with asyncio.timeout(WAIT_S):
            async for token in engine.generate([POISON], greedy(9)):
                received.append(token.id)  # noqa: PERF401 - what came before the error is wanted
    assert received == alone(digest, [POISON], after)
    assert SECRET not in caught.value.message
    assert SECRET in caplog.text
    await settled(engine, changes)


@pytest.mark.parametrize("guilty", [{0}, {4}, {6}, {1, 5}, set(range(7))])
async def test_an_error_fails_no_sequence_of_the_same_step_but_the_guilty(
    make_engine: MakeEngine, changes: Changes, guilty: set[int]
) -> None:
    runner = FakeRunner(failing_on_poison())
    engine = make_engine(runner)
    prompts = [[POISON if place in guilty else 1, place] for place in range(7)]
    runner.hold()
    first = await submitted(engine, [9], greedy(2))
    await runner.entered()
    tasks = [await submitted(engine, prompt, greedy(4)) for prompt in prompts]
    runner.let_all()
    for place, task in enumerate(tasks):
        if place in guilty:
            assert isinstance(await failure_of(task), EngineFailed)
        else:
            assert [token.id for token in await task] == alone(digest, prompts[place], 4)
    assert [token.id for token in await first] == alone(digest, [9], 2)
    await settled(engine, changes)


async def test_what_a_failed_step_wrote_is_not_found(make_engine: MakeEngine, changes: Changes) -> None:
    prompt = list(range(1, 25))
    fails = [True]

    def once(seen: list[int]) -> int:
        if seen[:24] == prompt and fails and fails.pop():
            raise ValueError
        return digest(seen)

    engine = make_engine(FakeRunner(once, block_size=4), max_batched_tokens=16, max_sequences=16)
    with pytest.raises(EngineFailed):  # in the second of its chunks
        await whole(engine, prompt, greedy(4))
    await settled(engine, changes)
    tokens = await whole(engine, [*prompt, 50], greedy(4))
    assert [token.id for token in tokens] == alone(digest, [*prompt, 50], 4)
    assert tokens[0].cached_tokens == 16


class NoNumbers(FakeRunner):
    """The logits after a prompt of POISON are NaN."""

    def forward(self, items: list[BatchItem]) -> torch.Tensor:
        logits = super().forward(items)
        wanting = [item for item in items if item.outputs]
        for row, item in enumerate(wanting):
            if item.ids[0] == POISON:
                logits[row, 3] = float("nan")
        return logits


@pytest.mark.parametrize("temperature", [0.0, 1.0])
async def test_logits_that_are_no_numbers_fail_that_sequence_only(
    make_engine: MakeEngine, changes: Changes, caplog: pytest.LogCaptureFixture, temperature: float
) -> None:
    runner = NoNumbers(digest)
    engine = make_engine(runner)
    runner.hold()
    first = await submitted(engine, [9], greedy(3))
    await runner.entered()
    broken = await submitted(engine, [POISON, 1], SamplingParams(max_tokens=3, temperature=temperature))
    beside = await submitted(engine, [8], greedy(3))
    with caplog.at_level(logging.ERROR, "genkan.engine"):
        runner.let_all()
        assert isinstance(await failure_of(broken), EngineFailed)
    assert [[token.id for token in await task] for task in (first, beside)] == [
        alone(digest, [9], 3),
        alone(digest, [8], 3),
    ]
    assert "no numbers" in caplog.text
    await settled(engine, changes)


# The engine itself


async def test_a_bug_in_the_scheduler_is_told_to_everyone(
    make_engine: MakeEngine, changes: Changes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = threading.Event()
    runner = FakeRunner(digest)
    engine = make_engine(runner, {"on_broken": broken.set}, max_sequences=1)

    def plan(now_s: float) -> Any:
        raise IndexError(SECRET)

    runner.hold()
    tasks = [await submitted(engine, [place], greedy(9)) for place in range(3)]  # one runs, two wait
    await runner.entered()
    monkeypatch.setattr(engine._scheduler, "plan", plan)
    tasks.append(await submitted(engine, [3], greedy(9)))
    with caplog.at_level(logging.ERROR, "genkan.engine"):
        runner.let_all()
        failures = [await failure_of(task) for task in tasks]
    for failure in failures:
        assert isinstance(failure, EngineUnavailable)
        assert "the server's log says why" in failure.message
        assert SECRET not in failure.message
    assert len({id(failure) for failure in failures}) == 4  # as each is raised in a task of its own
    assert SECRET in caplog.text
    assert await asyncio.to_thread(broken.wait, 10)  # its thread tells the callers first
    with pytest.raises(EngineUnavailable, match="broken"):
        await whole(engine, [5], greedy(1))
    with pytest.raises(EngineUnavailable, match="broken"):
        await engine.prefix_cache_snapshot()
    await changes.until_idle()
    engine.stop()


async def test_a_question_that_breaks_the_engine_is_told_so_itself(
    make_engine: MakeEngine, runner: FakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine()

    def snapshot(now_s: float, max_nodes: int) -> Any:
        raise IndexError

    monkeypatch.setattr(engine._cache, "snapshot", snapshot)
    runner.hold()
    running = await submitted(engine, [10], greedy(9))
    await runner.entered()
    asked = [asyncio.create_task(engine.prefix_cache_snapshot()) for _ in range(2)]
    submitted_late = await submitted(engine, [20], greedy(9))
    runner.let_all()
    async with asyncio.timeout(WAIT_S):
        failures = await asyncio.gather(*asked, running, submitted_late, return_exceptions=True)
    assert [type(failure) for failure in failures] == [EngineUnavailable] * 4


async def test_those_who_came_with_what_breaks_the_engine_are_told_too(
    make_engine: MakeEngine, runner: FakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine()

    def submit(sequence: Sequence) -> None:
        raise IndexError

    runner.hold()
    running = await submitted(engine, [10], greedy(9))
    await runner.entered()
    monkeypatch.setattr(engine._scheduler, "submit", submit)
    together = [await submitted(engine, [place], greedy(9)) for place in (20, 30, 40)]
    runner.let_all()
    for task in (running, *together):
        assert isinstance(await failure_of(task), EngineUnavailable)


class BrokenOnce(Changes):
    """An observer that raises when it hears of the third token, once."""

    def changed(self, statistics: EngineStatistics) -> None:
        broken = any(seen.generated_tokens >= 3 for seen in self.seen)
        super().changed(statistics)
        if statistics.generated_tokens >= 3 and not broken:
            raise OSError("no space left on device")


async def test_a_sequence_that_ends_as_the_engine_breaks_has_its_last_token(
    make_engine: MakeEngine, runner: FakeRunner
) -> None:
    engine = make_engine(options={"observer": BrokenOnce()})
    runner.hold()
    first = await submitted(engine, [10], greedy(2))
    await runner.entered()
    longer = await submitted(engine, [20], greedy(9))
    runner.let_all()
    async with asyncio.timeout(WAIT_S):
        assert [token.id for token in await first] == [11, 12]
    assert isinstance(await failure_of(longer), EngineUnavailable)


# Stopping


async def test_stop_fails_what_runs_and_what_waits(
    make_engine: MakeEngine, runner: FakeRunner, changes: Changes
) -> None:
    engine = make_engine(max_sequences=2)
    runner.hold()
    tasks = [await submitted(engine, [10], greedy(100))]
    await runner.entered()
    tasks += [await submitted(engine, [first], greedy(100)) for first in (20, 30)]
    asked = asyncio.create_task(engine.purge_prefix_cache(b""))
    stopping = asyncio.create_task(asyncio.to_thread(engine.stop))
    while engine._inbox.closed is None:
        await asyncio.to_thread(lambda: None)
    with pytest.raises(EngineUnavailable, match="stopping"):
        await whole(engine, [40], greedy(1))
    runner.let_all()
    await stopping
    for task in tasks:
        failure = await failure_of(task)
        assert isinstance(failure, EngineUnavailable)
        assert "stopping" in failure.message
    with pytest.raises(EngineUnavailable, match="stopping"):
        await asked
    assert runner.computed == [[[10]]]
    statistics = engine.statistics()
    assert (statistics.running, statistics.waiting, statistics.generated_tokens) == (0, 0, 1)
    await changes.until_idle()


async def test_a_stopped_engine_accepts_nothing(engine: Engine, runner: FakeRunner) -> None:
    engine.stop()
    with pytest.raises(EngineUnavailable) as caught:
        await whole(engine, [10], greedy(1))
    assert caught.value.retry_after_s == 5.0
    for question in (engine.prefix_cache_snapshot(), engine.purge_prefix_cache(b"")):
        with pytest.raises(EngineUnavailable, match="stopping"):
            await question
    assert runner.calls == []


async def test_an_engine_can_be_stopped_twice(engine: Engine) -> None:
    assert await ids_of(engine, [10], 1) == [11]
    engine.stop()
    engine.stop()
    with pytest.raises(EngineUnavailable):
        await whole(engine, [10], greedy(1))
