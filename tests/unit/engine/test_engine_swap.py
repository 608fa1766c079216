"""Preempted KV in the host's memory: the same tokens come, whatever is copied and whatever cannot be."""

import asyncio

import pytest
from fakes import Changes, FakeRunner, SwappingRunner, alone, digest
from running import MakeEngine, cancel, greedy, ids_of, settled, submitted

pytestmark = pytest.mark.anyio

PROMPTS = [[place, *range(10)] for place in range(4)]
TOKENS = 24


def swapping(num_host_blocks: int = 64) -> SwappingRunner:
    return SwappingRunner(digest, num_blocks=14, block_size=4, num_host_blocks=num_host_blocks)


@pytest.mark.parametrize("num_host_blocks", [3, 9, 64])
@pytest.mark.parametrize("prefix_cache", [True, False])
async def test_every_answer_is_what_it_would_be_alone(
    make_engine: MakeEngine, changes: Changes, num_host_blocks: int, prefix_cache: bool
) -> None:
    runner = swapping(num_host_blocks)
    engine = make_engine(runner, preemption="swap", prefix_cache=prefix_cache)
    answers = await asyncio.gather(*(ids_of(engine, prompt, TOKENS) for prompt in PROMPTS))
    assert answers == [alone(digest, prompt, TOKENS) for prompt in PROMPTS]
    await settled(engine, changes)
    statistics = engine.statistics()
    assert statistics.preemptions >= statistics.swaps
    assert (statistics.host_blocks, statistics.free_host_blocks) == (num_host_blocks, num_host_blocks)
    if num_host_blocks == 64:
        assert statistics.swaps == statistics.preemptions > 0
        assert runner.num_copied_in > 0


async def test_what_is_copied_back_is_not_computed_again(make_engine: MakeEngine) -> None:
    computed = []
    for preemption in ("recompute", "swap"):
        runner = swapping()
        engine = make_engine(runner, preemption=preemption, prefix_cache=False)
        await asyncio.gather(*(ids_of(engine, prompt, TOKENS) for prompt in PROMPTS))
        assert engine.statistics().preemptions > 0
        computed.append(sum(len(ids) for items in runner.computed for ids in items))
    assert computed[1] == sum(len(prompt) + TOKENS - 1 for prompt in PROMPTS) < computed[0]


async def test_copies_that_fail_cost_time_and_nothing_else(make_engine: MakeEngine, changes: Changes) -> None:
    runner = swapping()
    runner.copies_fail = True
    engine = make_engine(runner, preemption="swap")
    answers = await asyncio.gather(*(ids_of(engine, prompt, TOKENS) for prompt in PROMPTS))
    assert answers == [alone(digest, prompt, TOKENS) for prompt in PROMPTS]
    assert engine.statistics().preemptions > 0
    assert runner.num_copied_in == 0
    await settled(engine, changes)


async def test_a_swapped_sequence_that_is_cancelled_frees_its_copy(make_engine: MakeEngine, changes: Changes) -> None:
    runner = swapping()
    runner.hold()
    engine = make_engine(runner, preemption="swap")
    tasks = [await submitted(engine, prompt, greedy(TOKENS)) for prompt in PROMPTS]
    while engine.statistics().free_host_blocks == engine.statistics().host_blocks:
        runner.let()
        await runner.entered()
    for task in tasks[1:]:
        await cancel(task)
    runner.let_all()
    assert [token.id for token in await tasks[0]] == alone(digest, PROMPTS[0], TOKENS)
    await settled(engine, changes)
    assert engine.statistics().free_host_blocks == engine.statistics().host_blocks


async def test_without_host_memory_swap_computes_again(make_engine: MakeEngine, changes: Changes) -> None:
    engine = make_engine(FakeRunner(digest, num_blocks=14, block_size=4), preemption="swap")
    answers = await asyncio.gather(*(ids_of(engine, prompt, TOKENS) for prompt in PROMPTS))
    assert answers == [alone(digest, prompt, TOKENS) for prompt in PROMPTS]
    assert engine.statistics().preemptions > engine.statistics().swaps == 0
    await settled(engine, changes)
