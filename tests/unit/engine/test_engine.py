"""The engine's thread and its async face, over a model that a test drives pass by pass."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing

import anyio.lowlevel
import pytest
from fakes import WAIT_S, Changes, FakeRunner, answering

from genkan.engine.config import EngineConfig
from genkan.engine.engine import Engine
from genkan.engine.sequence import SamplingParams, Sequence, Token
from genkan.engine.statistics import EngineStatistics
from genkan.errors import EngineFailed, EngineOverloaded, EngineUnavailable

pytestmark = pytest.mark.anyio

MakeEngine = Callable[..., Engine]


@pytest.fixture
def runner() -> FakeRunner:
    return FakeRunner()


@pytest.fixture
def changes() -> Changes:
    return Changes()


@pytest.fixture
def make_engine(runner: FakeRunner, changes: Changes) -> Iterator[MakeEngine]:
    engines: list[Engine] = []

    def make(model: FakeRunner = runner, *, max_waiting: int = 8, prefill_chunk: int = 16) -> Engine:
        engines.append(Engine(model, EngineConfig(max_waiting=max_waiting, prefill_chunk=prefill_chunk), changes))
        return engines[-1]

    yield make
    runner.let_all()
    for engine in engines:
        engine.stop()


@pytest.fixture
def engine(make_engine: MakeEngine) -> Engine:
    return make_engine()


def params(max_tokens: int, *, stop_ids: frozenset[int] = frozenset(), temperature: float = 0) -> SamplingParams:
    return SamplingParams(max_tokens=max_tokens, stop_ids=stop_ids, temperature=temperature)


async def whole(engine: Engine, prompt: list[int], its: SamplingParams) -> list[Token]:
    async with aclosing(engine.generate(prompt, its)) as tokens, asyncio.timeout(WAIT_S):
        return [token async for token in tokens]


async def submitted(engine: Engine, prompt: list[int], its: SamplingParams) -> "asyncio.Task[list[Token]]":
    """A task that has given its sequence to the engine."""
    task = asyncio.create_task(whole(engine, prompt, its))
    await anyio.lowlevel.checkpoint()
    return task


async def cancel(task: "asyncio.Task[list[Token]]") -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_tokens_come_in_order_and_the_last_has_the_reason(engine: Engine, runner: FakeRunner) -> None:
    assert await whole(engine, [5, 10], params(3)) == [Token(11, None), Token(12, None), Token(13, "length")]
    assert runner.calls == [[5, 10], [11], [12]]


async def test_one_token_costs_one_forward_pass(engine: Engine, runner: FakeRunner) -> None:
    assert await whole(engine, [10], params(1)) == [Token(11, "length")]
    assert runner.calls == [[10]]


async def test_a_stop_token_is_the_last_token(engine: Engine, runner: FakeRunner) -> None:
    stop = frozenset({12, 99})
    assert await whole(engine, [10], params(50, stop_ids=stop)) == [Token(11, None), Token(12, "stop")]
    assert runner.calls == [[10], [11]]


async def test_a_stop_token_at_the_limit_is_a_stop(engine: Engine) -> None:
    assert await whole(engine, [10], params(2, stop_ids=frozenset({12}))) == [Token(11, None), Token(12, "stop")]


async def test_a_stop_token_in_the_prompt_does_not_stop(engine: Engine) -> None:
    assert await whole(engine, [12, 10], params(1, stop_ids=frozenset({12}))) == [Token(11, "length")]


async def test_each_token_is_there_before_the_next_is_computed(engine: Engine, runner: FakeRunner) -> None:
    runner.hold()
    async with aclosing(engine.generate([10], params(3))) as tokens, asyncio.timeout(WAIT_S):
        for expected in (Token(11, None), Token(12, None), Token(13, "length")):
            runner.let()
            assert await anext(tokens) == expected


async def test_a_long_prompt_is_computed_in_chunks(make_engine: MakeEngine, runner: FakeRunner) -> None:
    prompt = list(range(40))
    assert await whole(make_engine(prefill_chunk=16), prompt, params(2)) == [Token(40, None), Token(41, "length")]
    assert runner.calls == [prompt[:16], prompt[16:32], prompt[32:], [40]]


async def test_a_prompt_of_exactly_one_chunk_is_computed_at_once(make_engine: MakeEngine, runner: FakeRunner) -> None:
    await whole(make_engine(prefill_chunk=16), list(range(16)), params(1))
    assert runner.calls == [list(range(16))]


async def test_the_model_sees_all_the_ids_before(make_engine: MakeEngine) -> None:
    # The next token is the sum of all before it, so a chunk or a token that gets lost changes the rest.
    engine = make_engine(FakeRunner(lambda seen: sum(seen) % 251), prefill_chunk=16)
    prompt = [1] * 20
    assert [token.id for token in await whole(engine, prompt, params(4))] == [20, 40, 80, 160]


async def test_the_prompt_is_not_changed(engine: Engine) -> None:
    prompt = [10]
    await whole(engine, prompt, params(3))
    assert prompt == [10]


async def test_sequences_are_served_in_the_order_they_came(engine: Engine, runner: FakeRunner) -> None:
    runner.hold()
    tasks = [await submitted(engine, [first], params(2)) for first in (10, 30, 20)]
    runner.let_all()
    assert [[token.id for token in await task] for task in tasks] == [[11, 12], [31, 32], [21, 22]]
    assert runner.calls == [[10], [11], [30], [31], [20], [21]]


async def test_a_sampled_sequence_draws_from_the_logits(engine: Engine) -> None:
    # The fake's logits leave one token possible, whatever the temperature.
    assert await whole(engine, [10], params(2, temperature=2.0)) == [Token(11, None), Token(12, "length")]


async def test_closing_the_generator_stops_within_one_forward_pass(
    engine: Engine, runner: FakeRunner, changes: Changes
) -> None:
    runner.hold()
    tokens = engine.generate([10], params(100))
    runner.let()
    assert await anext(tokens) == Token(11, None)
    await runner.entered()
    await runner.entered()  # the second pass is under way
    await tokens.aclose()
    runner.let_all()
    await changes.until_idle()
    assert runner.calls == [[10], [11]]


async def test_cancelling_the_task_that_waits_for_a_token_stops_it(
    engine: Engine, runner: FakeRunner, changes: Changes
) -> None:
    runner.hold()
    task = await submitted(engine, [10], params(100))
    await runner.entered()
    await cancel(task)
    runner.let_all()
    await changes.until_idle()
    assert runner.calls == [[10]]


async def test_cancelling_while_the_prompt_is_computed_stops_after_the_chunk(
    make_engine: MakeEngine, runner: FakeRunner, changes: Changes
) -> None:
    engine = make_engine(prefill_chunk=16)
    runner.hold()
    task = await submitted(engine, list(range(100)), params(5))
    await runner.entered()
    runner.let()
    await runner.entered()  # the second of seven chunks is under way
    await cancel(task)
    runner.let_all()
    await changes.until_idle()
    assert runner.calls == [list(range(16)), list(range(16, 32))]


async def test_a_sequence_cancelled_in_the_queue_costs_no_forward_pass(
    engine: Engine, runner: FakeRunner, changes: Changes
) -> None:
    runner.hold()
    running = await submitted(engine, [10], params(2))
    await runner.entered()
    waiting = await submitted(engine, [20], params(2))
    behind = await submitted(engine, [30], params(1))
    await cancel(waiting)
    runner.let_all()
    assert [token.id for token in await running] == [11, 12]
    assert [token.id for token in await behind] == [31]
    await changes.until_idle()
    assert runner.calls == [[10], [11], [30]]


async def test_a_sequence_cancelled_in_the_queue_gives_its_place_to_another(
    make_engine: MakeEngine, runner: FakeRunner
) -> None:
    engine = make_engine(max_waiting=1)
    runner.hold()
    running = await submitted(engine, [10], params(1))
    await runner.entered()
    await cancel(await submitted(engine, [20], params(1)))
    another = await submitted(engine, [30], params(1))
    runner.let_all()
    assert [(await task)[0].id for task in (running, another)] == [11, 31]


async def test_the_engine_goes_on_after_a_cancel(engine: Engine, runner: FakeRunner) -> None:
    runner.hold()
    task = await submitted(engine, [10], params(100))
    await runner.entered()
    await cancel(task)
    runner.let_all()
    assert [token.id for token in await whole(engine, [20], params(2))] == [21, 22]


@pytest.mark.parametrize("max_waiting", [0, 1, 3])
async def test_the_engine_refuses_exactly_when_max_waiting_wait(
    make_engine: MakeEngine, runner: FakeRunner, max_waiting: int
) -> None:
    engine = make_engine(max_waiting=max_waiting)
    runner.hold()
    accepted = [await submitted(engine, [10], params(1))]
    await runner.entered()
    accepted += [await submitted(engine, [20 + index], params(1)) for index in range(max_waiting)]
    assert engine.statistics() == EngineStatistics(running=1, waiting=max_waiting, generated_tokens=0)
    with pytest.raises(EngineOverloaded, match=f"at most {max_waiting} requests") as caught:
        await whole(engine, [99], params(1))
    assert (caught.value.status, caught.value.retry_after_s) == (503, 5.0)
    runner.let_all()
    assert [(await task)[0].id for task in accepted] == [11, *(21 + index for index in range(max_waiting))]
    assert [99] not in runner.calls


async def test_the_engine_accepts_again_once_there_is_room(
    make_engine: MakeEngine, runner: FakeRunner, changes: Changes
) -> None:
    engine = make_engine(max_waiting=0)
    runner.hold()
    first = await submitted(engine, [10], params(1))
    with pytest.raises(EngineOverloaded):
        await whole(engine, [20], params(1))
    runner.let_all()
    await first
    await changes.until_idle()
    assert (await whole(engine, [30], params(1)))[0].id == 31


def failing_on(prompt_id: int, after: int) -> Callable[[list[int]], int]:
    """Fails a prompt that begins with ``prompt_id`` once ``after`` ids were seen."""

    def rule(seen: list[int]) -> int:
        if seen[0] == prompt_id and len(seen) > after:
            raise ValueError("a secret that is no client's business")
        return seen[-1] + 1

    return rule


@pytest.mark.parametrize("after", [0, 2])
async def test_an_error_in_the_model_fails_that_sequence_only(
    make_engine: MakeEngine, changes: Changes, caplog: pytest.LogCaptureFixture, after: int
) -> None:
    engine = make_engine(FakeRunner(failing_on(10, after)))
    received: list[int] = []
    with caplog.at_level(logging.ERROR, "genkan.engine"), pytest.raises(EngineFailed) as caught:  # noqa: PT012
        async with asyncio.timeout(WAIT_S):
            async for token in engine.generate([10], params(9)):
                received.append(token.id)  # noqa: PERF401 - what came before the error is wanted
    assert received == [11, 12][:after]
    assert "secret" not in caught.value.message
    assert "secret" in caplog.text
    assert [token.id for token in await whole(engine, [20], params(3))] == [21, 22, 23]
    await changes.until_idle()


async def test_logits_that_cannot_be_sampled_fail_that_sequence_only(make_engine: MakeEngine) -> None:
    class Broken(FakeRunner):
        def forward(self, ids, kv):  # type: ignore[no-untyped-def]
            logits, kv = super().forward(ids, kv)
            return (logits * float("nan") if ids == [10] else logits), kv

    engine = make_engine(Broken())
    with pytest.raises(EngineFailed):
        await whole(engine, [10], params(1, temperature=1.0))
    assert (await whole(engine, [20], params(1, temperature=1.0)))[0].id == 21


async def test_stop_fails_what_runs_and_what_waits(engine: Engine, runner: FakeRunner) -> None:
    runner.hold()
    tasks = [await submitted(engine, [first], params(100)) for first in (10, 20, 30)]
    await runner.entered()
    stopping = asyncio.create_task(asyncio.to_thread(engine.stop))
    for task in reversed(tasks[1:]):  # these fail at once, so stop has begun
        with pytest.raises(EngineUnavailable, match="stopping"):
            await task
    runner.let_all()
    with pytest.raises(EngineUnavailable, match="stopping"):
        await tasks[0]
    await stopping
    assert runner.calls == [[10]]
    assert engine.statistics() == EngineStatistics(running=0, waiting=0, generated_tokens=1)


async def test_a_stopped_engine_accepts_nothing(engine: Engine, runner: FakeRunner) -> None:
    engine.stop()
    with pytest.raises(EngineUnavailable) as caught:
        await whole(engine, [10], params(1))
    assert caught.value.retry_after_s == 5.0
    assert runner.calls == []


async def test_an_engine_can_be_stopped_twice(engine: Engine) -> None:
    engine.stop()
    engine.stop()
    with pytest.raises(EngineUnavailable):
        await whole(engine, [10], params(1))


async def test_statistics_count_what_runs_waits_and_was_generated(
    engine: Engine, runner: FakeRunner, changes: Changes
) -> None:
    assert engine.statistics() == EngineStatistics(running=0, waiting=0, generated_tokens=0)
    runner.hold()
    tasks = [await submitted(engine, [first], params(2)) for first in (10, 20)]
    await runner.entered()
    assert engine.statistics() == EngineStatistics(running=1, waiting=1, generated_tokens=0)
    runner.let_all()
    await asyncio.gather(*tasks)
    await changes.until_idle()
    assert engine.statistics() == EngineStatistics(running=0, waiting=0, generated_tokens=4)


async def test_statistics_are_back_to_nothing_after_every_kind_of_end(
    make_engine: MakeEngine, runner: FakeRunner, changes: Changes
) -> None:
    failing = FakeRunner(failing_on(40, 0))
    engine = make_engine(failing, max_waiting=2)
    failing.hold()
    running = await submitted(engine, [10], params(100))
    await failing.entered()
    waiting = await submitted(engine, [20], params(100))
    broken = await submitted(engine, [40], params(100))
    with pytest.raises(EngineOverloaded):
        await whole(engine, [30], params(1))
    await cancel(waiting)
    await cancel(running)
    failing.let_all()
    with pytest.raises(EngineFailed):
        await broken
    await changes.until_idle()
    numbers = engine.statistics()
    assert (numbers.running, numbers.waiting) == (0, 0)


async def test_every_start_and_end_is_told(engine: Engine, changes: Changes) -> None:
    await whole(engine, [10], params(2))
    await changes.until_idle()
    assert EngineStatistics(running=1, waiting=0, generated_tokens=0) in changes.seen
    assert changes.seen[-1] == EngineStatistics(running=0, waiting=0, generated_tokens=2)


async def test_a_sequence_whose_loop_has_closed_is_cancelled() -> None:
    loop = asyncio.new_event_loop()
    sequence = Sequence([10], params(1), loop)
    loop.close()
    sequence.deliver(Token(11, None))
    assert sequence.cancelled


async def test_a_reader_that_is_slow_loses_no_token(engine: Engine, runner: FakeRunner, changes: Changes) -> None:
    tokens: AsyncGenerator[Token, None] = engine.generate([10], params(50))
    received = [await anext(tokens)]
    await changes.until_idle()  # all tokens are made, one is read
    received += [token async for token in tokens]
    assert [token.id for token in received] == list(range(11, 61))


async def test_the_fake_answers_as_a_test_asks(make_engine: MakeEngine) -> None:
    engine = make_engine(FakeRunner(answering([7, 7, 8, 7, 7, 9])))
    assert [token.id for token in await whole(engine, [1, 2], params(6))] == [7, 7, 8, 7, 7, 9]
