"""Sequences that end before their time: cancelled in any state, and readers that do not read."""

import asyncio

import pytest
from fakes import Changes, FakeRunner, alone, digest
from running import MakeEngine, Tokens, cancel, greedy, ids_of, settled, submitted

from genkan.engine.engine import Engine
from genkan.errors import ReaderTooSlow

pytestmark = pytest.mark.anyio


async def test_closing_the_generator_stops_before_the_next_step(
    engine: Engine, runner: FakeRunner, changes: Changes
) -> None:
    runner.hold()
    tokens = engine.generate([10], greedy(100))
    runner.let()
    assert (await anext(tokens)).id == 11
    await runner.entered()
    await runner.entered()  # the second step is under way
    await tokens.aclose()
    runner.let_all()
    await settled(engine, changes)
    assert runner.computed == [[[10]], [[11]]]


async def test_cancelling_the_task_that_waits_for_a_token_stops_it(
    engine: Engine, runner: FakeRunner, changes: Changes
) -> None:
    runner.hold()
    task = await submitted(engine, [10], greedy(100))
    await runner.entered()
    await cancel(task)
    runner.let_all()
    await settled(engine, changes)
    assert runner.computed == [[[10]]]


async def test_cancelling_while_the_prompt_is_computed_stops_after_the_chunk(
    make_engine: MakeEngine, runner: FakeRunner, changes: Changes
) -> None:
    engine = make_engine(max_batched_tokens=16, max_sequences=16)
    runner.hold()
    task = await submitted(engine, list(range(100)), greedy(5))
    await runner.entered()
    runner.let()
    await runner.entered()  # the second of seven chunks is under way
    await cancel(task)
    runner.let_all()
    await settled(engine, changes)
    assert runner.computed == [[list(range(16))], [list(range(16, 32))]]


async def test_a_sequence_cancelled_before_its_first_step_costs_none(
    engine: Engine, runner: FakeRunner, changes: Changes
) -> None:
    runner.hold()
    running = await submitted(engine, [10], greedy(2))
    await runner.entered()
    never = await submitted(engine, [20], greedy(2))
    behind = await submitted(engine, [30], greedy(1))
    await cancel(never)
    runner.let_all()
    assert [token.id for token in await running] == [11, 12]
    assert [token.id for token in await behind] == [31]
    await settled(engine, changes)
    assert runner.computed == [[[10]], [[11], [30]]]


async def test_a_sequence_cancelled_in_the_queue_is_never_run(
    make_engine: MakeEngine, runner: FakeRunner, changes: Changes
) -> None:
    engine = make_engine(max_sequences=1)
    runner.hold()
    running = await submitted(engine, [10], greedy(3))
    await runner.entered()
    waiting = await submitted(engine, [20], greedy(2))
    behind = await submitted(engine, [30], greedy(1))
    runner.let()
    await runner.entered()  # by now it waits in the scheduler
    await cancel(waiting)
    runner.let_all()
    assert [(await task)[-1].id for task in (running, behind)] == [13, 31]
    await settled(engine, changes)
    assert runner.computed == [[[10]], [[11]], [[12]], [[30]]]


async def test_a_cancelled_sequence_gives_its_place_to_another(make_engine: MakeEngine, runner: FakeRunner) -> None:
    engine = make_engine(max_sequences=1, max_waiting=1)
    runner.hold()
    running = await submitted(engine, [10], greedy(2))
    await runner.entered()
    await cancel(await submitted(engine, [20], greedy(1)))
    runner.let()
    await runner.entered()  # cancels are taken before a step
    another = await submitted(engine, [30], greedy(1))
    runner.let_all()
    assert [(await task)[-1].id for task in (running, another)] == [12, 31]


SHARED = [7, 3, 9, 1, 8, 2, 6, 4]
PROMPTS = [[*SHARED, 1], [*SHARED, 2, 5, 5, 5, 5, 5], [3], [*SHARED, 1, 7]]
NEW_TOKENS = 12
NUM_BLOCKS = 12  # of four tokens; all four sequences would need 25


async def start_all(engine: Engine, runner: FakeRunner) -> list[Tokens]:
    """All PROMPTS, the first of them alone in the first step, which is held; what follows is always the same."""
    runner.hold()
    first = await submitted(engine, PROMPTS[0], greedy(NEW_TOKENS))
    await runner.entered()
    return [first, *[await submitted(engine, prompt, greedy(NEW_TOKENS)) for prompt in PROMPTS[1:]]]


async def num_steps(make_engine: MakeEngine) -> int:
    """How many steps PROMPTS take when none is cancelled."""
    runner = FakeRunner(digest, num_blocks=NUM_BLOCKS, block_size=4)
    tasks = await start_all(make_engine(runner), runner)
    runner.let_all()
    await asyncio.gather(*tasks)
    return len(runner.calls)


@pytest.mark.parametrize("victim", range(len(PROMPTS)))
async def test_a_cancel_at_any_step_frees_everything_and_harms_nobody(
    make_engine: MakeEngine, changes: Changes, victim: int
) -> None:
    preemptions = 0
    for step in range(await num_steps(make_engine)):
        changes.seen.clear()
        runner = FakeRunner(digest, num_blocks=NUM_BLOCKS, block_size=4)
        engine = make_engine(runner)
        tasks = await start_all(engine, runner)
        for _ in range(step):
            runner.let()
            await runner.entered()
        await cancel(tasks[victim])
        runner.let_all()
        for place, task in enumerate(tasks):
            if place != victim:
                assert [token.id for token in await task] == alone(digest, PROMPTS[place], NEW_TOKENS)
        await settled(engine, changes)
        preemptions += engine.statistics().preemptions
    assert preemptions > 0


async def test_a_reader_that_is_too_slow_loses_its_sequence_and_nobody_elses(
    make_engine: MakeEngine, runner: FakeRunner, changes: Changes
) -> None:
    engine = make_engine(max_unread_tokens=16)
    runner.hold()
    slow = engine.generate([10], greedy(100))
    runner.let()
    received = [(await anext(slow)).id]
    for step in range(2, 19):
        runner.let()
        await changes.until_steps(step)
    beside = await submitted(engine, [100], greedy(16))
    runner.let_all()
    assert [token.id for token in await beside] == list(range(101, 117))
    await settled(engine, changes)
    with pytest.raises(ReaderTooSlow) as caught:  # noqa: PT012
        async for token in slow:
            received.append(token.id)  # noqa: PERF401 - what came before the error is wanted
    assert received == list(range(11, 28))  # the one it read, and 16 more
    assert (caught.value.limit_tokens, caught.value.status) == (16, 408)
    assert not any([29] in items for items in runner.computed)  # one more step may have been under way


async def test_a_reader_that_keeps_up_may_have_any_number_of_tokens(
    make_engine: MakeEngine, runner: FakeRunner
) -> None:
    engine = make_engine(max_unread_tokens=16)
    runner.hold()
    tokens = engine.generate([10], greedy(100))
    for expected in range(11, 111):
        runner.let()
        assert (await anext(tokens)).id == expected


async def test_the_engine_goes_on_after_a_cancel(engine: Engine, runner: FakeRunner) -> None:
    runner.hold()
    task = await submitted(engine, [10], greedy(100))
    await runner.entered()
    await cancel(task)
    runner.let_all()
    assert await ids_of(engine, [20], 2) == [21, 22]
