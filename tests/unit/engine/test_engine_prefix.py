"""What the engine finds in its prefix cache, for whom, and what can be asked about it."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import anyio.lowlevel
import pytest
from fakes import Changes, FakeRunner, alone, digest
from running import MakeEngine, ManualClock, greedy, ids_of, settled, submitted, whole

from genkan.engine.engine import Engine
from genkan.engine.sequence import PrefixOptions

pytestmark = pytest.mark.anyio

PROMPT = list(range(1, 14))  # three pages and one token


@pytest.fixture
def runner() -> FakeRunner:
    return FakeRunner(digest, block_size=4)


async def cached_tokens(engine: Engine, prompt: list[int] = PROMPT, **prefix: Any) -> int:
    """How much of a prompt was found; also that its answer is right and that each token says the same."""
    tokens = await whole(engine, prompt, greedy(3), prefix=PrefixOptions(**prefix))
    assert [token.id for token in tokens] == alone(digest, prompt, 3)
    (found,) = {token.cached_tokens for token in tokens}
    return found


async def test_a_prompt_is_found_again_and_not_computed(engine: Engine, runner: FakeRunner) -> None:
    assert [await cached_tokens(engine) for _ in range(3)] == [0, 12, 12]
    assert [items[0] for items in runner.computed[::3]] == [PROMPT, PROMPT[12:], PROMPT[12:]]


async def test_the_last_token_of_a_prompt_is_always_computed(engine: Engine, runner: FakeRunner) -> None:
    assert [await cached_tokens(engine, PROMPT[:12]) for _ in range(2)] == [0, 8]
    assert runner.computed[3] == [PROMPT[8:12]]


async def test_whole_pages_of_a_common_beginning_are_found(engine: Engine) -> None:
    await cached_tokens(engine)
    assert await cached_tokens(engine, [*PROMPT[:7], 99, 99, 99]) == 4


async def test_a_chat_that_goes_on_finds_the_answer_too(engine: Engine) -> None:
    answer = await ids_of(engine, PROMPT, 8)
    assert await cached_tokens(engine, [*PROMPT, *answer, 50, 51]) == 20  # 21 tokens, the last of them never computed


async def test_equal_prompts_at_once_are_computed_once(engine: Engine, runner: FakeRunner, changes: Changes) -> None:
    found = await asyncio.gather(*(cached_tokens(engine) for _ in range(5)))
    assert sorted(found) == [0, 12, 12, 12, 12]
    await settled(engine, changes)
    prompt_tokens = sum(len(ids) for items in runner.computed for ids in items) - 5 * 2  # but the decodes
    assert prompt_tokens == len(PROMPT) + 4


async def test_a_request_may_stay_out_of_the_cache(engine: Engine) -> None:
    assert await cached_tokens(engine, use=False) == 0
    assert await cached_tokens(engine) == 0  # nothing was left
    assert await cached_tokens(engine, use=False) == 0  # nothing is looked for
    assert engine.statistics().prefix_queries == 1


async def test_the_cache_can_be_off_for_everyone(make_engine: MakeEngine, changes: Changes) -> None:
    engine = make_engine(prefix_cache=False)
    assert [await cached_tokens(engine) for _ in range(2)] == [0, 0]
    await settled(engine, changes)
    assert engine.statistics().cached_pages == 0


async def test_namespaces_find_nothing_of_each_other(engine: Engine) -> None:
    found = [await cached_tokens(engine, namespace=name) for name in (b"a", b"b", b"ab", b"", b"a", b"b")]
    assert found == [0, 0, 0, 0, 12, 12]


async def test_pages_can_be_pinned(engine: Engine, changes: Changes) -> None:
    await cached_tokens(engine, pin=True)
    await settled(engine, changes)
    assert engine.statistics().pinned_pages == 3


async def test_no_page_is_pinned_beyond_the_configured_share(make_engine: MakeEngine, changes: Changes) -> None:
    engine = make_engine(pin_share=0.04)  # of 64 blocks
    await cached_tokens(engine, pin=True)
    await settled(engine, changes)
    assert engine.statistics().pinned_pages == 2


@pytest.mark.parametrize(
    ("configured_s", "own_s", "found"),
    [(None, None, [12, 12]), (10, None, [12, 0]), (None, 10, [12, 0]), (10, 1000, [12, 12]), (1000, 10, [12, 0])],
)
async def test_pages_stay_as_long_as_their_ttl(
    make_engine: MakeEngine, configured_s: int | None, own_s: float | None, found: list[int]
) -> None:
    clock = ManualClock()
    engine = make_engine(options={"clock": clock}, prefix_ttl_s=configured_s)
    await cached_tokens(engine, ttl_s=own_s)
    clock.now_s = 9.0
    first = await cached_tokens(engine, ttl_s=own_s)  # and the time starts anew
    clock.now_s = 20.0
    assert [first, await cached_tokens(engine, ttl_s=own_s)] == found


# Questions


async def asked(question: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
    """A task that has put its question to the engine."""
    task = asyncio.create_task(question)
    await anyio.lowlevel.checkpoint()
    return task


async def test_a_snapshot_shows_blocks_and_pages(engine: Engine, changes: Changes) -> None:
    await cached_tokens(engine, namespace=b"a")
    await settled(engine, changes)
    snapshot = await engine.prefix_cache_snapshot()
    assert snapshot["blocks"] == {"total": 64, "free": 61, "cached": 3, "running": 0}
    (namespace,) = snapshot["namespaces"]
    assert (namespace["namespace"], namespace["pages"]) == (b"a".hex(), 3)
    assert namespace["children"][0]["first_tokens"] == PROMPT[:12]


async def test_a_snapshot_can_be_taken_while_sequences_run(engine: Engine, runner: FakeRunner) -> None:
    runner.hold()
    task = await submitted(engine, PROMPT, greedy(3))
    await runner.entered()
    question = await asked(engine.prefix_cache_snapshot())
    runner.let()
    await runner.entered()  # it was answered before this step
    blocks = (await question)["blocks"]
    runner.let_all()
    assert blocks == {"total": 64, "free": 60, "cached": 3, "running": 1}
    assert len(await task) == 3


async def test_a_snapshot_draws_as_many_nodes_as_were_asked_for(engine: Engine) -> None:
    for start in range(3):
        await cached_tokens(engine, [start, *PROMPT])
    for max_nodes, drawn in ((2, 2), (2000, 3)):
        snapshot = await engine.prefix_cache_snapshot(max_nodes)
        (namespace,) = snapshot["namespaces"]
        assert (len(namespace["children"]), snapshot["truncated"]) == (drawn, drawn < 3)


async def test_an_empty_cache_can_be_asked_about(engine: Engine) -> None:
    snapshot = await engine.prefix_cache_snapshot()
    assert snapshot["blocks"] == {"total": 64, "free": 64, "cached": 0, "running": 0}
    assert snapshot["namespaces"] == []
    assert await engine.purge_prefix_cache(b"") == 0


async def test_a_purge_drops_the_namespaces_that_begin_so(engine: Engine, changes: Changes) -> None:
    for name in (b"a1", b"a2", b"b1"):
        await cached_tokens(engine, namespace=name)
    await settled(engine, changes)
    assert await engine.purge_prefix_cache(b"a") == 6
    assert engine.statistics().cached_pages == 3
    assert changes.seen[-1].free_blocks == 61
    assert [await cached_tokens(engine, namespace=name) for name in (b"a1", b"a2", b"b1")] == [0, 0, 12]


async def test_a_purge_does_not_harm_who_runs(engine: Engine, runner: FakeRunner, changes: Changes) -> None:
    await cached_tokens(engine)
    runner.hold()
    task = await submitted(engine, PROMPT, greedy(9))
    for _ in range(4):  # three steps have ended, this one's first is under way
        await runner.entered()
    question = await asked(engine.purge_prefix_cache(b""))
    runner.let()
    assert await question == 3
    runner.let_all()
    assert [token.id for token in await task] == alone(digest, PROMPT, 9)
    await settled(engine, changes)
    assert engine.statistics().cached_pages == 0  # nor does it leave anything
    assert await cached_tokens(engine) == 0


async def test_who_asks_may_give_up(engine: Engine, runner: FakeRunner) -> None:
    runner.hold()
    task = await submitted(engine, PROMPT, greedy(1))
    await runner.entered()
    question = await asked(engine.prefix_cache_snapshot())
    question.cancel()
    await asyncio.wait([question])
    runner.let_all()
    assert len(await task) == 1
    assert (await engine.prefix_cache_snapshot())["pages"] == 3
