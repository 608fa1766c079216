"""Everything goes wrong at once, and whom nothing was done to must not notice.

    cd tests && python -m engine.chaos --requests 2000

answers so many requests of all kinds twice: in peace, and in a pool far too small while forward passes fail, logits are
no numbers, copies are lost, readers leave, and readers do not read. Greedy and seeded answers must be the same.
"""

import argparse
import asyncio
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Many
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from fakes import SwappingRunner, digest
from running import one_torch_thread
from tiny_llama import TinyLlama

from genkan.engine.batch import BatchItem
from genkan.engine.config import EngineConfig
from genkan.engine.engine import Engine
from genkan.engine.grammar.spec import GrammarSpec
from genkan.engine.model_runner import ModelRunner
from genkan.engine.runner import Runner
from genkan.engine.sampling_params import SamplingParams
from genkan.engine.sequence import PrefixOptions, Token
from genkan.engine.statistics import EngineStatistics
from genkan.errors import EngineFailed, ReaderTooSlow

VOCAB = 50
RAISES, NO_MEMORY, NO_NUMBERS = 47, 48, 49  # tokens of prompts that break what computes them; no answer has them
AT_ONCE = 96
MAX_UNREAD = 100  # more than anybody generates, but those who do not read
WHOLE_S = 1800.0

Fate = Literal["healthy", "poisoned", "leaves", "does not read"]
FATES: dict[Fate, int] = {"healthy": 66, "poisoned": 14, "leaves": 14, "does not read": 6}  # of a hundred
Answer = list[tuple[object, ...]]


@dataclass(frozen=True)
class Request:
    prompt: list[int]
    params: SamplingParams
    prefix: PrefixOptions
    tenant: str
    n: int
    priority: int
    fate: Fate
    leaves_after: int


@dataclass
class Outcome:
    """``answers`` of those who got one, by the request's number; and what the engine counted in the end."""

    answers: dict[int, Answer]
    statistics: EngineStatistics
    errors: dict[str, int] = field(default_factory=dict)


class EvenTokens:
    """A Matcher: even tokens alone, seven of them at most."""

    def __init__(self) -> None:
        self._taken = 0

    def mask(self, row: npt.NDArray[np.float32]) -> None:
        row[1::2] = -np.inf

    def take(self, token: int, remaining: int) -> int:
        assert token % 2 == 0
        self._taken += 1
        return token

    @property
    def is_closed(self) -> bool:
        return self._taken == 7


class EvenGrammar:
    async def compiled(self, spec: GrammarSpec) -> "EvenGrammar":
        await asyncio.sleep(0)
        return self

    def matcher(self) -> EvenTokens:
        return EvenTokens()

    def after(self, ids: Many[int]) -> "EvenGrammar":
        return self


class NoisyRunner(SwappingRunner):
    """A SwappingRunner, with logits of all sizes that follow from all ids before, bit by bit the same each time."""

    def __init__(self, **sizes: int) -> None:
        super().__init__(digest, vocab_size=251, **sizes)

    def forward(self, items: list[BatchItem]) -> torch.Tensor:
        seeds = super().forward(items).argmax(dim=-1).tolist()
        rows = [np.random.default_rng(seed).normal(0, 2, VOCAB) for seed in seeds]
        return torch.from_numpy(np.array(rows, dtype=np.float32).reshape(-1, VOCAB))


class Faulty:
    """A Runner whose passes fail by their prompts' poison, and at random where there are several sequences in one."""

    def __init__(self, runner: Runner, num_blocks: int, *, faults: random.Random | None) -> None:
        self.max_model_len, self.block_size, self.num_blocks = runner.max_model_len, runner.block_size, num_blocks
        self._runner = runner
        self._faults = faults

    def forward(self, items: list[BatchItem]) -> torch.Tensor:
        if any(RAISES in item.ids for item in items):
            raise RuntimeError("poison")
        if any(NO_MEMORY in item.ids for item in items):
            raise MemoryError("poison")
        self._fail_at_random(0.03 if len(items) > 1 else 0.0)  # what is computed alone is nobody's fault
        logits = self._runner.forward(items)
        logits[:, RAISES:] = -torch.inf
        end = 0
        for item in items:
            begin, end = end, end + item.outputs
            if NO_NUMBERS in item.ids:
                logits[begin:end] = torch.nan
        return logits

    def _fail_at_random(self, chance: float) -> None:
        if self._faults is not None and self._faults.random() < chance:
            raise self._faults.choice([RuntimeError, MemoryError, ValueError])("at random")


class FaultySwaps(Faulty):
    """As Faulty, and one copy in twenty fails."""

    def __init__(self, runner: SwappingRunner, num_blocks: int, *, faults: random.Random | None) -> None:
        super().__init__(runner, num_blocks, faults=faults)
        self._swaps = runner
        self.num_host_blocks = runner.num_host_blocks

    def copy_out(self, blocks: Many[int], host_blocks: Many[int]) -> None:
        self._fail_at_random(0.05)
        self._swaps.copy_out(blocks, host_blocks)

    def copy_in(self, blocks: Many[int], host_blocks: Many[int]) -> None:
        self._fail_at_random(0.05)
        self._swaps.copy_in(blocks, host_blocks)


MakeRunner = Callable[[int, random.Random | None], Runner]


def requests_of(number: int, seed: int) -> list[Request]:
    """So many, of all kinds; two in three are healthy."""
    draw = random.Random(seed)
    beginnings = [[draw.randrange(RAISES) for _ in range(60)] for _ in range(6)]
    return [_request(draw, beginnings) for _ in range(number)]


def _request(draw: random.Random, beginnings: list[list[int]]) -> Request:
    fate = draw.choices(list(FATES), list(FATES.values()))[0]
    prompt = draw.choice(beginnings)[: draw.randrange(60)] + [
        draw.randrange(RAISES) for _ in range(draw.randint(1, 30))
    ]
    if fate == "poisoned":
        prompt[draw.randrange(len(prompt))] = draw.choice([RAISES, NO_MEMORY, NO_NUMBERS])
        prompt[-1] = prompt[-1] if RAISES in prompt or NO_MEMORY in prompt else NO_NUMBERS
    return Request(
        prompt=prompt,
        params=_params(draw, endless=fate == "does not read"),
        prefix=PrefixOptions(
            namespace=draw.choice([b"a", b"b"]),
            use=draw.random() < 0.85,
            ttl_s=draw.choice([None, None, 0.05]),
            pin=draw.random() < 0.1,
        ),
        tenant=draw.choice("xyz"),
        n=draw.choice([1, 1, 1, 1, 2, 5]),
        priority=draw.choice([0, 0, 0, -3, 8]),
        fate=fate,
        leaves_after=draw.randint(0, 12),
    )


def _params(draw: random.Random, *, endless: bool) -> SamplingParams:
    is_scored = draw.random() < 0.1
    return SamplingParams(
        max_tokens=MAX_UNREAD + 20 if endless else draw.randint(1, 48),
        min_tokens=draw.choice([0, 0, 5]),
        stop_ids=frozenset(draw.sample(range(RAISES), draw.choice([0, 0, 1]))),
        temperature=draw.choice([0.0, 0.7, 1.3]),
        top_p=draw.choice([1.0, 0.9]),
        top_k=draw.choice([None, 20]),
        seed=draw.getrandbits(32),
        repetition_penalty=draw.choice([1.0, 1.0, 1.2]),
        presence_penalty=draw.choice([0.0, 0.0, 0.5]),
        frequency_penalty=draw.choice([0.0, 0.0, 0.5]),
        logit_bias=draw.choice([(), (), ((3, 2.0), (7, -5.0))]),
        ignore_eos=endless,
        logprobs=draw.choice([None, None, 0, 3]),
        prompt_logprobs=2 if is_scored else None,
        grammar=GrammarSpec("regex", "even") if draw.random() < 0.15 and not endless else None,
    )


async def answered(requests: list[Request], engine: Engine) -> Outcome:
    """Ask the engine all, up to AT_ONCE at a time, and behave as each request's fate has it."""
    outcome = Outcome({}, engine.statistics())
    places = asyncio.Semaphore(AT_ONCE)
    readers_are_done = asyncio.Event()

    async def ask(number: int, request: Request) -> None:
        async with places if request.fate != "does not read" else asyncio.Semaphore():
            try:
                answer = await _read(engine, request, readers_are_done)
            except (EngineFailed, ReaderTooSlow) as error:
                name = type(error).__name__
                outcome.errors[name] = outcome.errors.get(name, 0) + 1
                assert request.fate == ("poisoned" if name == "EngineFailed" else "does not read")
                return
        if answer is not None:
            assert request.fate != "poisoned"
            outcome.answers[number] = answer

    async with asyncio.timeout(WHOLE_S), asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask(number, request)) for number, request in enumerate(requests)]
        readers = [task for task, each in zip(tasks, requests, strict=True) if each.fate != "does not read"]
        await asyncio.wait(readers)
        readers_are_done.set()
    await _check_that_all_is_free(engine)
    outcome.statistics = engine.statistics()
    return outcome


async def _read(engine: Engine, request: Request, readers_are_done: asyncio.Event) -> Answer | None:
    """What came, without what may differ: where it was found, and how the answers' tokens were mixed."""
    answers: dict[int, Answer] = {answer: [] for answer in range(request.n)}
    tokens = engine.generate(
        request.prompt,
        request.params,
        tenant=request.tenant,
        prefix=request.prefix,
        n=request.n,
        priority=request.priority,
    )
    read = 0
    async with aclosing(tokens):
        async for token in tokens:
            read += 1
            answers[token.answer].append(_compared(token))
            if request.fate == "leaves" and read > request.leaves_after:
                return None
            if request.fate == "does not read":
                await readers_are_done.wait()
    return [each for answer in answers.values() for each in answer]


def _compared(token: Token) -> tuple[object, ...]:
    scores = None if token.prompt_logprobs is None else tuple(token.prompt_logprobs)
    return token.answer, token.id, token.finish_reason, token.logprobs, scores


async def _check_that_all_is_free(engine: Engine) -> None:
    await engine.check()
    await engine.purge_prefix_cache(b"")
    await engine.check()
    statistics = engine.statistics()
    assert (statistics.running, statistics.waiting) == (0, 0)
    assert statistics.free_blocks == statistics.blocks, "blocks are in use, and nobody is there"
    assert statistics.free_host_blocks == statistics.host_blocks


@contextmanager
def running(runner: Runner, **settings: object) -> Iterator[Engine]:
    config = EngineConfig.model_validate(
        {"max_waiting": 100_000, "max_unread_tokens": MAX_UNREAD, "max_sequences": 24, "max_batched_tokens": 64}
        | settings
    )
    engine = Engine(runner, config, grammars=EvenGrammar())
    try:
        yield engine
    finally:
        engine.stop()


def chaos(make_runner: MakeRunner, requests: list[Request], seed: int, *, num_blocks: int) -> tuple[Outcome, int]:
    """Ask all of it in peace and in chaos; what came of the chaos, and how many answers were compared."""
    healthy = [request for request in requests if request.fate != "poisoned"]
    calm = {id(request): answer for request, answer in zip(healthy, _calm(make_runner, healthy), strict=True)}
    with running(make_runner(num_blocks, random.Random(seed)), preemption="swap") as engine:
        outcome = asyncio.run(answered(requests, engine))
    for number, answer in outcome.answers.items():
        assert answer == calm[id(requests[number])], f"request {number} was answered otherwise"
    for number, request in enumerate(requests):
        assert request.fate != "healthy" or number in outcome.answers, f"request {number} was not answered"
    return outcome, len(outcome.answers)


def _calm(make_runner: MakeRunner, requests: list[Request]) -> list[Answer]:
    """The answers when nothing goes wrong and there is room for all."""
    with running(make_runner(2000, None), max_unread_tokens=1024) as engine:

        async def ask_all() -> list[Answer]:
            places = asyncio.Semaphore(AT_ONCE)

            async def ask(request: Request) -> Answer:
                async with places:
                    answer = await _read(engine, _healed(request), asyncio.Event())
                    assert answer is not None
                    return answer

            return await asyncio.gather(*map(ask, requests))

        answers = asyncio.run(ask_all())
        assert engine.statistics().preemptions == engine.statistics().failed_steps == 0
        return answers


def _healed(request: Request) -> Request:
    return Request(**{**request.__dict__, "fate": "healthy"})


def noisy(num_blocks: int, faults: random.Random | None) -> Runner:
    """A NoisyRunner that fails, with copies on the host."""
    return FaultySwaps(
        NoisyRunner(num_blocks=num_blocks, block_size=16, num_host_blocks=24, max_model_len=256),
        num_blocks,
        faults=faults,
    )


def of_tiny_llama(folder: Path) -> MakeRunner:
    """A tiny random llama by the C kernels in the exact profile, that fails."""
    model = TinyLlama(vocab_size=VOCAB).written(folder / "tiny.gguf")
    config = EngineConfig(model=str(model), profile="exact", kernels="c", threads=1, kv_memory_bytes=32 << 20)
    runner = ModelRunner(config)
    assert runner.num_blocks >= 2000
    return lambda num_blocks, faults: Faulty(runner, num_blocks, faults=faults)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--requests", type=int, default=2000)
    arguments.add_argument("--seed", type=int, default=1)
    given = arguments.parse_args()
    requests = requests_of(given.requests, given.seed)
    with one_torch_thread(), tempfile.TemporaryDirectory() as folder:
        for name, make_runner in (("swap, fake model", noisy), ("recompute, tiny llama", of_tiny_llama(Path(folder)))):
            outcome, compared = chaos(make_runner, requests, given.seed, num_blocks=14)
            sys.stdout.write(f"{name}: {compared} answers equal; {outcome.errors}; {outcome.statistics}\n")


if __name__ == "__main__":
    main()
