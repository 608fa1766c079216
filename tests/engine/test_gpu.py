"""On a GPU: greedy tokens are those of transformers in float32, by every way that a step can take. Skipped without."""

import asyncio
from contextlib import aclosing
from typing import Any

import pytest
import torch

from genkan.bench.reference import Transformers
from genkan.engine.config import EngineConfig
from genkan.engine.engine import Engine
from genkan.engine.model_runner import ModelRunner
from genkan.engine.sampling_params import SamplingParams
from genkan.upstream.tokenizer import TextTokenizer

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU"),
]

NEW_TOKENS = 32
TEXTS = [
    "The capital of France is",
    "def fibonacci(n):\n    ",
    "Việt Nam có",
    "대한민국의 수도는",
    "1, 1, 2, 3, 5, 8, 13,",
    " ".join(["The tea ceremony begins when the host cleans each of the utensils."] * 40),
]


@pytest.fixture(scope="module")
def prompts(tokenizer: TextTokenizer) -> list[list[int]]:
    return [tokenizer.encode(text) for text in TEXTS]


@pytest.fixture(scope="module")
def expected(prompts: list[list[int]]) -> list[list[int]]:
    """transformers' greedy tokens in float32, prompt by prompt, on the same GPU."""
    model = Transformers(EngineConfig().model, "cuda")._model.float()
    answers = []
    for prompt in prompts:
        ids = torch.tensor([prompt], device="cuda")
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW_TOKENS, do_sample=False)
        answers.append(out[0, len(prompt) :].tolist())
    return answers


async def generated(prompts: list[list[int]], **settings: Any) -> tuple[list[list[int]], int]:
    """The engine's greedy tokens for all prompts at once, and how often it preempted."""
    config = EngineConfig(device="cuda", profile="exact", max_model_len=2048, **settings)
    runner = ModelRunner(config)
    engine = Engine(runner, config)
    params = SamplingParams(max_tokens=NEW_TOKENS, temperature=0, ignore_eos=True)

    async def one(prompt: list[int]) -> list[int]:
        async with aclosing(engine.generate(prompt, params)) as tokens:
            return [token.id async for token in tokens]

    try:
        answers = await asyncio.gather(*map(one, prompts))
        return list(answers), engine.statistics().preemptions
    finally:
        engine.stop()


@pytest.mark.parametrize(
    "settings",
    [
        {"kernels": "triton"},
        {"kernels": "triton", "cuda_graphs": False},
        {"kernels": "torch"},
        {"kernels": "triton", "max_batched_tokens": 64},
    ],
)
async def test_greedy_tokens_are_those_of_transformers(
    prompts: list[list[int]], expected: list[list[int]], settings: dict[str, Any]
) -> None:
    answers, _ = await generated(prompts, **settings)
    assert answers == expected


async def test_swapped_sequences_go_on_where_they_were(prompts: list[list[int]], expected: list[list[int]]) -> None:
    block = 2 * 30 * 3 * 64 * 4 * 16
    blocks = -(-(max(map(len, prompts)) + NEW_TOKENS) // 16) + 6
    answers, preemptions = await generated(
        prompts, preemption="swap", kv_memory_bytes=blocks * block, swap_bytes=64 << 20, prefix_cache=False
    )
    assert preemptions > 0
    assert answers == expected
