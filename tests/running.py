"""Giving sequences to an Engine, and taking their tokens."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import Any

import anyio.lowlevel
import torch
from fakes import WAIT_S, Changes

from genkan.engine.engine import Engine
from genkan.engine.sampling_params import SamplingParams
from genkan.engine.sequence import Token

MakeEngine = Callable[..., Engine]
Tokens = asyncio.Task[list[Token]]


class ManualClock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s

    def unix(self) -> float:
        return 1_700_000_000.75


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Torch divides no work: the fake's rows are tiny, and handing them to threads takes longer than they do."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def greedy(max_tokens: int, **more: Any) -> SamplingParams:
    return SamplingParams(max_tokens=max_tokens, temperature=0, **more)


async def whole(engine: Engine, prompt: Sequence[int], params: SamplingParams, **options: Any) -> list[Token]:
    """All tokens of a sequence; ``options`` are those of ``Engine.generate``."""
    async with aclosing(engine.generate(prompt, params, **options)) as tokens, asyncio.timeout(WAIT_S):
        return [token async for token in tokens]


async def ids_of(engine: Engine, prompt: Sequence[int], max_tokens: int, **options: Any) -> list[int]:
    """The ids of a greedy answer."""
    return [token.id for token in await whole(engine, prompt, greedy(max_tokens), **options)]


async def submitted(engine: Engine, prompt: Sequence[int], params: SamplingParams, **options: Any) -> Tokens:
    """A task that has given its sequence to the engine."""
    task = asyncio.create_task(whole(engine, prompt, params, **options))
    await anyio.lowlevel.checkpoint()
    return task


async def cancel(task: Tokens) -> None:
    """Cancel a task, which may have ended already."""
    task.cancel()
    await asyncio.wait([task])


async def settled(engine: Engine, changes: Changes) -> None:
    """Wait until nothing runs or waits any more; then all blocks are free or cached, and no page is locked.

    Raises EngineUnavailable if the blocks are not as they should be.
    """
    await changes.until_idle()
    await engine.check()
    snapshot = await engine.prefix_cache_snapshot()
    assert snapshot["blocks"]["running"] == 0
    assert snapshot["evictable_pages"] == snapshot["pages"]
