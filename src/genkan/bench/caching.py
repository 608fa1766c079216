"""What the prefix cache is worth, and what it costs where there is nothing to share.

Each function runs its requests on an engine and gives back the figures of one round.
"""

import asyncio
import secrets
import time
from collections.abc import Mapping, Sequence
from statistics import mean, median

from genkan.bench import load
from genkan.bench.timing import Answer
from genkan.bench.workload import Request, Workload, isolated, unseen

CLIENTS = 32
SEED = 2

CHATS = 8
TURNS = 6
CHAT_SYSTEM_TOKENS = 512
TURN_TOKENS = 64  # of each message and of each answer


def shared(engine: load.Generates, requests: Sequence[Request]) -> Mapping[str, float]:
    """Serve ``requests`` in one namespace that is empty at first, so every system prompt is computed at least once.

    ``rps``, ``ttft_p50_ms``, ``hit_rate`` (of requests) and ``tokens_saved`` (of prompt tokens).
    """
    return _served(engine, unseen(requests))


def salted(engine: load.Generates, requests: Sequence[Request]) -> Mapping[str, float]:
    """The same with a namespace for each request, so that the cache does all its work and finds nothing."""
    return _served(engine, isolated(requests))


def unique(engine: load.Generates, requests: Sequence[Request]) -> Mapping[str, float]:
    """Serve ``requests``, which share nothing. Besides what ``shared`` gives: ``cpu_s``, of the whole process."""
    began_s = time.process_time()
    served = shared(engine, requests)
    return {**served, "cpu_s": time.process_time() - began_s}


def chats(engine: load.Generates, *, turn_tokens: int = TURN_TOKENS) -> Mapping[str, float]:
    """Eight chats of six turns at once. ``reused``: the share of earlier tokens that later turns found in the cache.

    Earlier tokens are the prompt before and its answer, all of which a turn sends again.
    """
    return asyncio.run(_chats(engine, turn_tokens))


async def _chats(engine: load.Generates, turn_tokens: int) -> Mapping[str, float]:
    namespace = secrets.token_bytes(16)
    system = Workload(SEED).prompt(CHAT_SYSTEM_TOKENS)
    told = await asyncio.gather(*(_chat(engine, namespace, system, seed, turn_tokens) for seed in range(CHATS)))
    cached, earlier = (sum(counts) for counts in zip(*told, strict=True))
    return {"reused": cached / earlier}


async def _chat(
    engine: load.Generates, namespace: bytes, system: list[int], seed: int, turn_tokens: int
) -> tuple[int, int]:
    """Of one chat's turns but the first: tokens found in the cache, and tokens that an earlier turn had."""
    workload = Workload(seed)
    history, cached, earlier = system, 0, 0
    for turn in range(TURNS):
        prompt = history + workload.prompt(turn_tokens)
        answer = await load.answer(engine, Request(prompt, turn_tokens, namespace))
        if turn > 0:
            cached += answer.cached_tokens
            earlier += len(history)
        history = prompt + answer.ids
    return cached, earlier


def _served(engine: load.Generates, requests: Sequence[Request]) -> Mapping[str, float]:
    answers = asyncio.run(load.clients(engine, requests, CLIENTS))
    return {
        "rps": len(answers) / load.elapsed_s(answers),
        "ttft_p50_ms": 1e3 * median(each.ttft_s for each in answers),
        **_found(answers),
    }


def _found(answers: Sequence[Answer]) -> Mapping[str, float]:
    return {
        "hit_rate": mean(each.cached_tokens > 0 for each in answers),
        "tokens_saved": sum(each.cached_tokens for each in answers) / sum(each.prompt_tokens for each in answers),
    }
