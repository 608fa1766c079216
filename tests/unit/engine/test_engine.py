"""The engine's async face: which tokens come, when, and who gets to wait."""

import asyncio
import random
import threading
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import pytest
import torch
from fakes import WAIT_S, Changes, FakeRunner, alone, answering, digest
from running import MakeEngine, greedy, ids_of, settled, submitted, whole

from genkan.engine import stream
from genkan.engine.batch import BatchItem
from genkan.engine.engine import Engine
from genkan.engine.sampling_params import SamplingParams
from genkan.engine.sequence import Token
from genkan.errors import ContextTooLong, EngineOverloaded

pytestmark = pytest.mark.anyio


def token(id_: int, reason: Any = None) -> Token:
    return Token(id_, reason, 0)


# One sequence


async def test_tokens_come_in_order_and_the_last_has_the_reason(engine: Engine, runner: FakeRunner) -> None:
    assert await whole(engine, [5, 10], greedy(3)) == [token(11), token(12), token(13, "length")]
    assert runner.computed == [[[5, 10]], [[11]], [[12]]]


async def test_one_token_costs_one_step(engine: Engine, runner: FakeRunner) -> None:
    assert await whole(engine, [10], greedy(1)) == [token(11, "length")]
    assert runner.computed == [[[10]]]


async def test_a_stop_token_is_the_last_token(engine: Engine, runner: FakeRunner) -> None:
    assert await whole(engine, [10], greedy(50, stop_ids=frozenset({12, 99}))) == [token(11), token(12, "stop")]
    assert runner.computed == [[[10]], [[11]]]


async def test_a_stop_token_at_the_limit_is_a_stop(engine: Engine) -> None:
    assert await whole(engine, [10], greedy(2, stop_ids=frozenset({12}))) == [token(11), token(12, "stop")]


async def test_a_stop_token_in_the_prompt_does_not_stop(engine: Engine) -> None:
    assert await whole(engine, [12, 10], greedy(1, stop_ids=frozenset({12}))) == [token(11, "length")]


async def test_stop_tokens_can_be_ignored(engine: Engine) -> None:
    its = greedy(3, stop_ids=frozenset({12}), ignore_eos=True)
    assert await whole(engine, [10], its) == [token(11), token(12), token(13, "length")]


async def test_each_token_is_there_before_the_next_is_computed(engine: Engine, runner: FakeRunner) -> None:
    runner.hold()
    async with aclosing(engine.generate([10], greedy(3))) as tokens, asyncio.timeout(WAIT_S):
        for expected in (token(11), token(12), token(13, "length")):
            runner.let()
            assert await anext(tokens) == expected


async def test_a_long_prompt_is_computed_in_chunks(make_engine: MakeEngine, runner: FakeRunner) -> None:
    prompt = list(range(40))
    engine = make_engine(max_batched_tokens=16, max_sequences=16)
    assert await ids_of(engine, prompt, 2) == [40, 41]
    assert runner.computed == [[prompt[:16]], [prompt[16:32]], [prompt[32:]], [[40]]]


async def test_without_chunks_a_long_prompt_is_computed_at_once(make_engine: MakeEngine, runner: FakeRunner) -> None:
    prompt = list(range(40))
    engine = make_engine(max_batched_tokens=16, max_sequences=16, chunked_prefill=False)
    assert await ids_of(engine, prompt, 2) == [40, 41]
    assert runner.computed == [[prompt], [[40]]]


async def test_the_prompt_is_not_changed(engine: Engine) -> None:
    prompt = [10]
    await ids_of(engine, prompt, 3)
    assert prompt == [10]


async def test_a_reader_may_be_behind(engine: Engine, changes: Changes) -> None:
    tokens = engine.generate([10], greedy(50))
    received = [await anext(tokens)]
    await changes.until_idle()  # all tokens are made, one is read
    received += [token async for token in tokens]
    assert [token.id for token in received] == list(range(11, 61))


async def test_the_fake_answers_as_a_test_asks(make_engine: MakeEngine) -> None:
    engine = make_engine(FakeRunner(answering([7, 7, 8, 7, 7, 9])))
    assert await ids_of(engine, [1, 2], 6) == [7, 7, 8, 7, 7, 9]


# Sampling


class FlatRunner(FakeRunner):
    """All tokens are equally likely."""

    def forward(self, items: list[BatchItem]) -> torch.Tensor:
        return super().forward(items) * 0


async def test_a_seed_repeats_the_answer_whatever_runs_beside_it(make_engine: MakeEngine) -> None:
    engine = make_engine(FlatRunner(digest))
    seeded = [SamplingParams(max_tokens=12, seed=seed) for seed in (1, 2)]
    first, other = [[token.id for token in await whole(engine, [5], params)] for params in seeded]
    together = await asyncio.gather(*(whole(engine, [5], seeded[0]) for _ in range(5)), whole(engine, [5], seeded[1]))
    assert [[token.id for token in tokens] for tokens in together] == [first] * 5 + [other]
    assert first != other


async def test_without_a_seed_answers_differ(make_engine: MakeEngine) -> None:
    engine = make_engine(FlatRunner(digest))
    first, second = [await whole(engine, [5], SamplingParams(max_tokens=20)) for _ in range(2)]
    assert first != second


# Many sequences


def prompts_that_share(number: int, longest: int) -> list[list[int]]:
    """Prompts of 1 to ``longest`` tokens from a few beginnings."""
    draw = random.Random(number * longest)
    beginnings = [[draw.randrange(250) for _ in range(longest)] for _ in range(3)]
    prompts = []
    for _ in range(number):
        shared = draw.choice(beginnings)[: draw.randrange(longest)]
        own = [draw.randrange(250) for _ in range(draw.randint(1, longest - len(shared)))]
        prompts.append(shared + own)
    return prompts


SMALL_STEPS = {"max_batched_tokens": 16, "max_sequences": 16}


@pytest.mark.parametrize(
    ("num_blocks", "settings", "preempts"),
    [
        (900, {}, False),
        (900, SMALL_STEPS, False),
        (900, {"prefix_cache": False}, False),
        (900, SMALL_STEPS | {"chunked_prefill": False}, False),
        (900, {"max_sequences": 1}, False),
        (30, {}, True),
        (30, SMALL_STEPS, True),
        (30, {"chunk_slowdown": 2.0}, True),
        (30, {"prefix_cache": False}, True),
        (30, SMALL_STEPS | {"chunked_prefill": False}, True),
        (30, {"preemption": "off"}, False),
    ],
)
async def test_every_answer_is_what_it_would_be_alone(
    make_engine: MakeEngine, changes: Changes, num_blocks: int, settings: dict[str, Any], preempts: bool
) -> None:
    runner = FakeRunner(digest, max_model_len=112, num_blocks=num_blocks, block_size=4)
    engine = make_engine(runner, **settings)
    for number in (24, 25):  # the second time over what the first left in the cache
        prompts = prompts_that_share(number, 60)
        answers = await asyncio.gather(*(ids_of(engine, prompt, 40) for prompt in prompts))
        assert answers == [alone(digest, prompt, 40) for prompt in prompts]
        await settled(engine, changes)
    assert (engine.statistics().preemptions > 0) == preempts


async def test_sequences_share_a_step(engine: Engine, runner: FakeRunner) -> None:
    runner.hold()
    first = await submitted(engine, [10], greedy(3))
    await runner.entered()
    others = [await submitted(engine, [start], greedy(2)) for start in (20, 30)]
    runner.let_all()
    await asyncio.gather(first, *others)
    assert runner.computed == [[[10]], [[11], [20], [30]], [[12], [21], [31]]]


async def test_those_above_max_sequences_wait_for_a_place(make_engine: MakeEngine, runner: FakeRunner) -> None:
    engine = make_engine(max_sequences=1)
    runner.hold()
    tasks = [await submitted(engine, [first], greedy(2)) for first in (10, 30, 20)]
    runner.let_all()
    assert [[token.id for token in await task] for task in tasks] == [[11, 12], [31, 32], [21, 22]]
    assert runner.computed == [[[10]], [[11]], [[30]], [[31]], [[20]], [[21]]]


# Event loops


def counted(loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tokens each of the engine's wake-ups of ``loop`` brings."""
    wake_ups: list[int] = []
    wake = loop.call_soon_threadsafe

    def counting(callback: Callable[..., Any], *args: Any, **more: Any) -> asyncio.Handle:
        if callback is stream._put_all:
            wake_ups.append(len(args[0]))
        return wake(callback, *args, **more)

    monkeypatch.setattr(loop, "call_soon_threadsafe", counting)
    return wake_ups


async def test_a_step_wakes_the_event_loop_once(
    engine: Engine, runner: FakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    wake_ups = counted(asyncio.get_running_loop(), monkeypatch)
    runner.hold()
    first = await submitted(engine, [10], greedy(5))
    await runner.entered()
    others = [await submitted(engine, [start], greedy(4)) for start in range(20, 27)]
    runner.let_all()
    await asyncio.gather(first, *others)
    assert wake_ups == [1, 8, 8, 8, 8]


async def test_readers_in_several_event_loops_get_their_own_tokens(make_engine: MakeEngine) -> None:
    engine = make_engine(FakeRunner(digest))
    answers: dict[int, list[list[int]]] = {}

    async def ask(thread: int) -> None:
        answers[thread] = await asyncio.gather(*(ids_of(engine, [thread, place], 20) for place in range(4)))

    threads = [threading.Thread(target=lambda thread=thread: asyncio.run(ask(thread))) for thread in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    for number in range(3):
        assert answers[number] == [alone(digest, [number, place], 20) for place in range(4)]


# What is refused


@pytest.mark.parametrize(("max_sequences", "max_waiting"), [(1, 0), (1, 3), (2, 1)])
async def test_the_engine_refuses_when_so_many_run_and_wait(
    make_engine: MakeEngine, runner: FakeRunner, max_sequences: int, max_waiting: int
) -> None:
    engine = make_engine(max_sequences=max_sequences, max_waiting=max_waiting)
    limit = max_sequences + max_waiting
    runner.hold()
    accepted = [await submitted(engine, [10 * place], greedy(1)) for place in range(limit)]
    with pytest.raises(EngineOverloaded, match=f"at most {limit} requests") as caught:
        await whole(engine, [99], greedy(1))
    assert (caught.value.status, caught.value.retry_after_s) == (503, 5.0)
    runner.let_all()
    assert [(await task)[0].id for task in accepted] == [10 * place + 1 for place in range(limit)]
    assert not any([99] in items for items in runner.computed)


async def test_the_engine_accepts_again_once_there_is_room(make_engine: MakeEngine, runner: FakeRunner) -> None:
    engine = make_engine(max_sequences=1, max_waiting=0)
    runner.hold()
    first = await submitted(engine, [10], greedy(1))
    with pytest.raises(EngineOverloaded):
        await whole(engine, [20], greedy(1))
    runner.let_all()
    await first  # whose place is free before its reader has the last token
    assert await ids_of(engine, [30], 1) == [31]


@pytest.mark.parametrize(
    ("max_model_len", "num_blocks", "limit"),
    [(100, 64, 100), (1000, 5, 80)],
    ids=["the model's window", "all the KV memory"],
)
async def test_a_sequence_that_could_never_end_is_refused(
    make_engine: MakeEngine, changes: Changes, max_model_len: int, num_blocks: int, limit: int
) -> None:
    runner = FakeRunner(digest, max_model_len=max_model_len, num_blocks=num_blocks, block_size=16)
    engine = make_engine(runner)
    assert engine.max_model_len == limit
    with pytest.raises(ContextTooLong) as caught:
        await whole(engine, [1] * 60, greedy(limit - 59))
    assert (caught.value.limit_tokens, caught.value.given_tokens, caught.value.param) == (limit, limit + 1, "prompt")
    assert changes.seen == []
    assert await ids_of(engine, [1] * 60, limit - 60) == alone(digest, [1] * 60, limit - 60)
