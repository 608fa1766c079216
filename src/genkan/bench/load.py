"""Puts load on the engine and times its answers."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import Protocol

from genkan.bench.timing import Answer
from genkan.bench.workload import Request
from genkan.engine.config import EngineConfig
from genkan.engine.engine import Engine
from genkan.engine.model_runner import ModelRunner
from genkan.engine.sampling_params import SamplingParams
from genkan.engine.sequence import PrefixOptions, Token


class Generates(Protocol):
    """The part of the engine that takes load."""

    def generate(
        self, prompt_ids: Sequence[int], params: SamplingParams, *, tenant: str, prefix: PrefixOptions
    ) -> AsyncGenerator[Token, None]: ...


@contextmanager
def serving(runner: ModelRunner, config: EngineConfig) -> Iterator[Engine]:
    """An engine on ``runner``, stopped afterwards. One runner serves one engine at a time."""
    engine = Engine(runner, config)
    try:
        yield engine
    finally:
        engine.stop()


async def answer(engine: Generates, request: Request, on_token: Callable[[], None] | None = None) -> Answer:
    """Generate exactly ``request.output_tokens``, greedily, and time each; ``on_token`` is called after each."""
    params = SamplingParams(max_tokens=request.output_tokens, temperature=0, ignore_eos=True)
    prefix = PrefixOptions(namespace=request.namespace)
    token_s: list[float] = []
    ids: list[int] = []
    cached_tokens = 0
    submitted_s = time.perf_counter()
    async with aclosing(engine.generate(request.prompt, params, tenant="bench", prefix=prefix)) as tokens:
        async for token in tokens:
            token_s.append(time.perf_counter())
            ids.append(token.id)
            cached_tokens = max(cached_tokens, token.cached_tokens)
            if on_token is not None:
                on_token()
    return Answer(submitted_s, token_s, ids, len(request.prompt), cached_tokens)


async def together(engine: Generates, requests: Sequence[Request]) -> list[Answer]:
    """All at once; the answers in the order of the requests."""
    return await asyncio.gather(*(answer(engine, request) for request in requests))


async def clients(engine: Generates, requests: Sequence[Request], number: int) -> list[Answer]:
    """``number`` clients, each of which sends the next request when its last one is answered.

    The answers are in the order of the requests. A request counts as made when a client sends it.
    """
    waiting = deque(enumerate(requests))
    answers: dict[int, Answer] = {}

    async def client() -> None:
        while waiting:
            index, request = waiting.popleft()
            answers[index] = await answer(engine, request)

    await asyncio.gather(*(client() for _ in range(number)))
    return [answers[index] for index in range(len(requests))]


def elapsed_s(answers: Sequence[Answer]) -> float:
    """From the first request to the last token."""
    return max(each.token_s[-1] for each in answers) - min(each.submitted_s for each in answers)


def tokens_per_s(answers: Sequence[Answer]) -> float:
    """Generated tokens over the time from the first request to the last token."""
    return sum(len(each.token_s) for each in answers) / elapsed_s(answers)
