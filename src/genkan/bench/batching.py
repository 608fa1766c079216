"""What continuous batching, many clients and chunked prefill are worth.

Each function runs its requests on an engine and gives back the figures of one round.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain, count
from statistics import median

from genkan.bench import load
from genkan.bench.timing import Answer, percentile
from genkan.bench.workload import Request, unseen

SLOTS = 8
CLIENTS = 32


def continuous(engine: load.Generates, requests: Sequence[Request]) -> Mapping[str, float]:
    """All at once, on an engine of eight slots, which takes the next as soon as one ends.

    ``tok_s``, and ``short_p50_s``: the median time from the beginning, when all requests were there, to the answer of
    those that want no more tokens than the median request.
    """
    answers = asyncio.run(load.together(engine, unseen(requests)))
    began_s = min(each.submitted_s for each in answers)
    return _served(requests, [each.token_s[-1] - began_s for each in answers])


def static(engine: load.Generates, requests: Sequence[Request]) -> Mapping[str, float]:
    """Eight at a time, the next eight when all have ended: a padded batch, as static servers run it.

    Every row is computed until the longest ends and is answered then; only the tokens it wanted count.
    """
    return _served(requests, asyncio.run(_static(engine, requests)))


async def _static(engine: load.Generates, requests: Sequence[Request]) -> list[float]:
    """When each request was answered, in seconds from the beginning."""
    requests = unseen(requests)
    began_s: float | None = None
    ended_s: list[float] = []
    for start in range(0, len(requests), SLOTS):
        batch = requests[start : start + SLOTS]
        longest = max(request.output_tokens for request in batch)
        answers = await load.together(engine, [replace(request, output_tokens=longest) for request in batch])
        began_s = answers[0].submitted_s if began_s is None else began_s
        ended_s += [max(each.token_s[-1] for each in answers) - began_s] * len(batch)
    return ended_s


def _served(requests: Sequence[Request], ended_s: Sequence[float]) -> Mapping[str, float]:
    lengths = [request.output_tokens for request in requests]
    short = median(lengths)
    return {
        "tok_s": sum(lengths) / max(ended_s),
        "short_p50_s": median(end for end, length in zip(ended_s, lengths, strict=True) if length <= short),
    }


def concurrent(engine: load.Generates, requests: Sequence[Request]) -> Mapping[str, float]:
    """``tok_s`` with 32 clients."""
    return {"tok_s": load.tokens_per_s(asyncio.run(load.clients(engine, unseen(requests), CLIENTS)))}


def serial(engine: load.Generates, requests: Sequence[Request]) -> Mapping[str, float]:
    """``tok_s`` with one client."""
    return {"tok_s": load.tokens_per_s(asyncio.run(load.clients(engine, unseen(requests), 1)))}


def disturbed(engine: load.Generates, requests: Sequence[Request], long: Request) -> tuple[list[float], Answer]:
    """Let ``requests`` decode, and send ``long`` when each has a quarter of its tokens.

    Returns every gap between two tokens of one sequence of ``requests``, in seconds, and the answer to ``long``.
    """
    answers, late = asyncio.run(_disturbed(engine, requests, long))
    return list(chain.from_iterable(each.gaps_s for each in answers)), late


async def _disturbed(engine: load.Generates, requests: Sequence[Request], long: Request) -> tuple[list[Answer], Answer]:
    decoding = asyncio.Semaphore(0)
    async with asyncio.TaskGroup() as tasks:
        running = [
            tasks.create_task(load.answer(engine, request, _after(request.output_tokens // 4, decoding.release)))
            for request in requests
        ]
        for _ in requests:
            await decoding.acquire()
        late = await load.answer(engine, long)
    return [task.result() for task in running], late


def _after(tokens: int, then: Callable[[], None]) -> Callable[[], None]:
    """An ``on_token`` that calls ``then`` at the token of that number."""
    numbers = count(1)

    def on_token() -> None:
        if next(numbers) == tokens:
            then()

    return on_token


def gap_figures(gaps_s: Sequence[float]) -> Mapping[str, float]:
    """``p50_ms``, ``p99_ms``, ``max_ms`` and ``p99_over_p50`` of the gaps between tokens."""
    p50, p99 = percentile(gaps_s, 50), percentile(gaps_s, 99)
    return {"p50_ms": 1e3 * p50, "p99_ms": 1e3 * p99, "max_ms": 1e3 * max(gaps_s), "p99_over_p50": p99 / p50}
