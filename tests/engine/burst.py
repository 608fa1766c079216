"""A burst of requests in a pool at 40 % of what they need at their peak: all end, and as if there were room.

    cd tests && python -m engine.burst --requests 200

does it with the default model in the exact profile, within one second.
"""

import argparse
import asyncio
import inspect
import random
import sys
import textwrap
import time
from contextlib import aclosing
from typing import NamedTuple

from fakes import Changes

from genkan.engine.config import EngineConfig
from genkan.engine.engine import Engine
from genkan.engine.model_runner import ModelRunner
from genkan.engine.runner import Runner
from genkan.engine.sampling_params import SamplingParams
from genkan.engine.statistics import EngineStatistics
from genkan.upstream.tokenizer import TextTokenizer

SHARE = 0.4
TOGETHER_S = 600.0


class Request(NamedTuple):
    prompt: list[int]
    params: SamplingParams
    at_s: float


class Arm(NamedTuple):
    """What the requests were answered, in their order, and how many blocks were in use when most were."""

    answers: list[list[int]]
    peak_blocks: int
    statistics: EngineStatistics
    took_s: float


class FewBlocks:
    """A Runner that does not let on how many blocks it has."""

    def __init__(self, runner: Runner, num_blocks: int) -> None:
        self.max_model_len, self.block_size, self.num_blocks = runner.max_model_len, runner.block_size, num_blocks
        self.forward = runner.forward


def requests_of(number: int, ids: list[int], *, longest: int, seed: int = 1) -> list[Request]:
    """Prompts of 16 to ``longest`` tokens out of ``ids``, half of them sampled, over one second."""
    draw = random.Random(seed)
    found = []
    for place in range(number):
        at, length = draw.randrange(len(ids) - longest), draw.randint(16, longest)
        params = SamplingParams(
            max_tokens=draw.randint(40, 72), temperature=float(place % 2), seed=place, ignore_eos=True
        )
        found.append(Request(ids[at : at + length], params, draw.random()))
    return sorted(found, key=lambda request: request.at_s)


def answered(runner: Runner, requests: list[Request], *, within_s: float, **settings: object) -> Arm:
    """Send all of them at their times, of which one second is ``within_s``."""
    changes = Changes()
    config = EngineConfig.model_validate({"max_sequences": 200, "chunk_slowdown": None, **settings})
    engine = Engine(runner, config, changes)

    async def ask(request: Request) -> list[int]:
        await asyncio.sleep(request.at_s * within_s)
        async with aclosing(engine.generate(request.prompt, request.params)) as tokens:
            return [token.id async for token in tokens]

    async def ask_all() -> list[list[int]]:
        async with asyncio.timeout(TOGETHER_S):
            answers = await asyncio.gather(*map(ask, requests))
        await engine.check()
        return answers

    began_s = time.monotonic()
    try:
        answers = asyncio.run(ask_all())
    finally:
        engine.stop()
    peak = max(seen.blocks - seen.free_blocks for seen in changes.seen)
    return Arm(answers, peak, engine.statistics(), time.monotonic() - began_s)


def both(runner: Runner, requests: list[Request], *, within_s: float, **settings: object) -> tuple[Arm, Arm]:
    """With room for all, and with SHARE of the blocks that this took."""
    free = answered(runner, requests, within_s=within_s, **(settings | {"prefix_cache": False}))
    few = FewBlocks(runner, int(SHARE * free.peak_blocks))
    return free, answered(few, requests, within_s=within_s, **settings)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--requests", type=int, default=200)
    given = arguments.parse_args()
    runner = ModelRunner(EngineConfig(profile="exact", kernels="c", kv_memory_bytes=1 << 30, max_model_len=2048))
    ids = TextTokenizer(runner.metadata).encode(inspect.getsource(textwrap))
    free, few = both(runner, requests_of(given.requests, ids, longest=120), within_s=1.0)
    equal = sum(map(list.__eq__, free.answers, few.answers))
    sys.stdout.write(
        f"{equal} of {given.requests} answers equal; peak {free.peak_blocks} blocks, then {few.statistics.blocks}; "
        f"{few.statistics.preemptions} preemptions; {free.took_s:.1f} s and {few.took_s:.1f} s; {few.statistics}\n"
    )


if __name__ == "__main__":
    main()
