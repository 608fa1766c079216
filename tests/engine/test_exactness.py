"""The same tokens whatever the engine does meanwhile, on the real model, in both profiles.

What a prompt is answered alone, computed at once and without a prefix cache, is the measure. Half the prompts are
answered by sampling with a seed, where a last bit of a logit may be enough to change a token.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import NamedTuple

import pytest
import torch

from genkan.engine.batch import BatchItem
from genkan.engine.config import EngineConfig
from genkan.engine.engine import Engine
from genkan.engine.model_runner import ModelRunner
from genkan.engine.sampling_params import SamplingParams
from genkan.engine.sequence import Token
from genkan.engine.statistics import EngineStatistics, StepReport

pytestmark = pytest.mark.anyio

NEW_TOKENS = 16
LENGTHS = (30, 90, 300)


class Prompt(NamedTuple):
    ids: list[int]
    params: SamplingParams


class Steps:
    """An EngineObserver that keeps all reports."""

    def __init__(self) -> None:
        self.reports: list[StepReport] = []

    def changed(self, statistics: EngineStatistics) -> None:
        pass

    def stepped(self, report: StepReport) -> None:
        self.reports.append(report)

    @property
    def chunks(self) -> list[int]:
        """The prompt tokens of each step that had some."""
        return [report.prompt_tokens for report in self.reports if report.prompt_tokens]


class FewBlocks:
    """A Runner that does not let on how many blocks it has."""

    def __init__(self, runner: ModelRunner, num_blocks: int) -> None:
        self._runner = runner
        self.max_model_len, self.block_size, self.num_blocks = runner.max_model_len, runner.block_size, num_blocks

    def forward(self, items: list[BatchItem]) -> torch.Tensor:
        return self._runner.forward(items)


@pytest.fixture(scope="module")
def prompts(text: list[int]) -> list[Prompt]:
    ways = (
        params(NEW_TOKENS),
        params(NEW_TOKENS, temperature=1.0, seed=5),
        params(NEW_TOKENS, temperature=0.8, seed=6),
    )
    return [
        Prompt(text[400 * place :][:count], way) for place, (count, way) in enumerate(zip(LENGTHS, ways, strict=True))
    ]


@pytest.fixture(scope="module")
def alone(runner: ModelRunner, prompts: list[Prompt]) -> list[list[int]]:
    """The measure: each prompt's tokens."""

    async def answers() -> list[list[int]]:
        with running(runner, prefix_cache=False, chunked_prefill=False) as engine:
            return [ids_of(await answered(engine, prompt)) for prompt in prompts]

    return asyncio.run(answers())


def params(max_tokens: int, *, temperature: float = 0.0, seed: int | None = None) -> SamplingParams:
    return SamplingParams(max_tokens=max_tokens, temperature=temperature, seed=seed)


@contextmanager
def running(runner: ModelRunner | FewBlocks, steps: Steps | None = None, **settings: object) -> Iterator[Engine]:
    """An engine of its own, with an empty prefix cache; chunks depend on no measured time."""
    config = EngineConfig.model_validate({"chunk_slowdown": None, **settings})
    engine = Engine(runner, config, steps)
    try:
        yield engine
    finally:
        engine.stop()


async def answered(engine: Engine, prompt: Prompt) -> list[Token]:
    async with aclosing(engine.generate(prompt.ids, prompt.params)) as tokens, asyncio.timeout(60):
        return [token async for token in tokens]


def ids_of(tokens: Sequence[Token]) -> list[int]:
    return [token.id for token in tokens]


def traffic(text: list[int]) -> list[Prompt]:
    """Prompts and answers of all lengths, that begin like none of the prompts compared."""
    return [
        Prompt(text[1000 + 20 * place :][:count], params(max_tokens, temperature=1.0, seed=place))
        for place, (count, max_tokens) in enumerate([(5, 40), (17, 9), (64, 20), (100, 3), (33, 30)])
    ]


async def among(engine: Engine, prompts: list[Prompt], others: list[Prompt]) -> list[list[int]]:
    """The prompts' tokens while others are answered, which are submitted before them and after."""
    middle = len(others) // 2
    mixed = [*others[:middle], *prompts, *others[middle:]]
    answers = await asyncio.gather(*(answered(engine, prompt) for prompt in mixed))
    return [ids_of(answer) for answer in answers[middle : middle + len(prompts)]]


def test_the_answers_compared_are_answers(alone: list[list[int]]) -> None:
    assert [len(answer) for answer in alone] == [NEW_TOKENS] * len(LENGTHS)
    assert len({tuple(answer) for answer in alone}) == len(LENGTHS)


async def test_a_warm_prefix_cache_gives_the_same_tokens(
    runner: ModelRunner, prompts: list[Prompt], alone: list[list[int]]
) -> None:
    with running(runner) as engine:
        cold = [await answered(engine, prompt) for prompt in prompts]
        warm = [await answered(engine, prompt) for prompt in prompts]
    assert [answer[0].cached_tokens for answer in cold] == [0, 0, 0]
    assert [answer[0].cached_tokens for answer in warm] == [16, 80, 288]
    assert [ids_of(answer) for answer in cold] == alone
    assert [ids_of(answer) for answer in warm] == alone


async def test_a_chat_that_goes_on_gives_the_same_tokens_as_one_that_begins_there(
    runner: ModelRunner, prompts: list[Prompt], alone: list[list[int]], text: list[int]
) -> None:
    first = prompts[1]
    further = Prompt(first.ids + alone[1] + text[1200:1220], first.params)
    with running(runner, prefix_cache=False) as engine:
        expected = ids_of(await answered(engine, further))
    with running(runner) as engine:
        await answered(engine, first)
        tokens = await answered(engine, further)
    assert tokens[0].cached_tokens == 96  # of which 6 were generated
    assert ids_of(tokens) == expected


@pytest.mark.parametrize(
    ("settings", "chunks"),
    [
        ({"max_batched_tokens": 64}, [64, 64, 64, 64, 44]),
        ({"max_batched_tokens": 100}, [100, 100, 100]),
        ({"max_batched_tokens": 256}, [256, 44]),
        ({"max_batched_tokens": 64, "chunked_prefill": False}, [300]),
    ],
    ids=["64", "100", "256", "off"],
)
async def test_any_chunks_give_the_same_tokens(
    runner: ModelRunner, prompts: list[Prompt], alone: list[list[int]], settings: dict[str, object], chunks: list[int]
) -> None:
    steps = Steps()
    with running(runner, steps, **settings) as engine:
        assert ids_of(await answered(engine, prompts[2])) == alone[2]
    assert steps.chunks == chunks


@pytest.mark.parametrize("budget", [64, 512])
async def test_mixed_traffic_gives_the_same_tokens(
    runner: ModelRunner, prompts: list[Prompt], alone: list[list[int]], text: list[int], budget: int
) -> None:
    steps = Steps()
    with running(runner, steps, max_batched_tokens=budget) as engine:
        assert await among(engine, prompts, traffic(text)) == alone
    assert any(report.num_decodes >= 3 for report in steps.reports)
    assert budget > 64 or any(report.num_decodes and report.prompt_tokens for report in steps.reports)


async def test_chunks_made_to_fit_the_measured_pace_give_the_same_tokens(
    runner: ModelRunner, prompts: list[Prompt], alone: list[list[int]], text: list[int]
) -> None:
    with running(runner, chunk_slowdown=1.5, max_batched_tokens=64) as engine:
        assert await among(engine, prompts, traffic(text)) == alone


async def test_a_preempted_sequence_gives_the_same_tokens(
    runner: ModelRunner, prompts: list[Prompt], alone: list[list[int]], text: list[int]
) -> None:
    # Six older ones soon take a block more each; their blocks and those of one prompt are all there are.
    older = [Prompt(text[1000 + 50 * place :][:28], params(40)) for place in range(6)]
    with running(FewBlocks(runner, 24)) as engine:
        *_, tokens = await asyncio.gather(*(answered(engine, prompt) for prompt in [*older, prompts[1]]))
        assert engine.statistics().preemptions > 0
    assert ids_of(tokens) == alone[1]
