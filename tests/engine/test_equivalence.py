"""The engine's tokens against transformers' own, on the real model in float32.

The reference shares nothing with the engine but the file: transformers reads and dequantises it with its own GGUF
loader and generates with its own loop, all prompts in one padded batch to save time. Greedy tokens must be equal one
for one. That is a fair demand only where no two tokens are about equally likely, which a test of its own checks.
"""

import asyncio
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from typing import Any, NamedTuple

import pytest
import torch
from compiled_kernels import compiled_kernels
from engine.checkpoints import forget, load_gguf_checkpoint
from transformers import AutoConfig, AutoModelForCausalLM, modeling_gguf_pytorch_utils
from transformers.initialization import no_init_weights

from genkan.engine.config import EngineConfig
from genkan.engine.engine import Engine
from genkan.engine.load.source import locate
from genkan.engine.model_runner import ModelRunner
from genkan.engine.sampling_params import SamplingParams
from genkan.upstream.tokenizer import TextTokenizer

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]  # transformers takes its time, more so on a busy machine

NEW_TOKENS = 32
PADDING = 0
SOME = {"English": 0, "Japanese": 8, "long": 19}  # places among the prompts
CONFIG = EngineConfig(profile="exact", kernels="c", prefix_cache=False, kv_memory_bytes=256 << 20)

CHATS = [
    "What is the capital of France?",
    "Write a haiku about the sea.",
    "Count from 1 to 20.",
    "What is 12 + 30? Explain.",
    "Write a Python function that reverses a string.",
    "Việt Nam có bao nhiêu tỉnh thành?",
    "Kể cho tôi nghe về Hà Nội.",
    "대한민국의 수도는 어디입니까?",
    "Translate to English: 今日は天気がいいですね。",
    "Hi",
]
TEXTS = [
    "Once upon a time, in a small village by the river,",
    "def fibonacci(n):\n    ",
    "#include <stdio.h>\n\nint main(void) {\n",
    "1, 1, 2, 3, 5, 8, 13, 21,",
    "3.14159 26535 89793",
    "2024-11-01, 2024-11-02, 2024-11-03,",
    "Người Việt Nam",
    "안녕하세요, 저는",
    "😀😀😀",
    "The following text describes, at some length, how a tea ceremony is prepared. First the host cleans each of the "
    "utensils in front of the guests, in an order that is fixed. Then the water is heated, the tea is put into the "
    "bowl, and the water is poured over it. The guests wait in silence until the first of them is handed the bowl,",
]


class Expected(NamedTuple):
    """What transformers gives for one prompt: its tokens, and by how much each was the likeliest, in logits."""

    ids: list[int]
    margins: list[float]


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Torch's threads spin while they wait for each other: on a machine that others use, one is faster than two."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.fixture(scope="module")
def reference() -> Any:
    # What AutoModelForCausalLM.from_pretrained(..., gguf_file=...) does, which asks for one more package to do it.
    file = locate(CONFIG.model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(modeling_gguf_pytorch_utils, "load_gguf_checkpoint", load_gguf_checkpoint)
        its_config = AutoConfig.from_pretrained(file.parent, gguf_file=file.name)
    with no_init_weights():
        model = AutoModelForCausalLM.from_config(its_config, dtype=torch.float32, attn_implementation="sdpa")
    tensors = load_gguf_checkpoint(file, return_tensors=True, model_to_load=model)["tensors"]
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    assert (missing, unexpected) == (["lm_head.weight"], [])
    model.tie_weights()  # that one to the embedding, which is left out with the rest
    forget()
    return model.eval()


@pytest.fixture(scope="module")
def prompts(tokenizer: TextTokenizer) -> list[list[int]]:
    chats = [tokenizer.render_chat([{"role": "user", "content": content}]) for content in CHATS]
    return [tokenizer.encode(text) for text in chats + TEXTS]


@pytest.fixture(scope="module")
def expected(reference: Any, tokenizer: TextTokenizer, prompts: list[list[int]]) -> list[Expected]:
    longest = max(map(len, prompts))
    with one_torch_thread():
        out = reference.generate(
            torch.tensor([[PADDING] * (longest - len(prompt)) + prompt for prompt in prompts]),
            attention_mask=torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]),
            max_new_tokens=NEW_TOKENS,
            do_sample=False,
            eos_token_id=sorted(tokenizer.stop_ids),
            pad_token_id=PADDING,
            return_dict_in_generate=True,
            output_logits=True,
        )
    best_two = torch.stack(out.logits, dim=1).topk(2).values
    answers = []
    margins_of = (best_two[..., 0] - best_two[..., 1]).tolist()
    for ids, margins in zip(out.sequences[:, longest:].tolist(), margins_of, strict=True):
        ends = [place + 1 for place, token in enumerate(ids) if token in tokenizer.stop_ids]
        end = min(ends, default=NEW_TOKENS)
        answers.append(Expected(ids[:end], margins[:end]))
    return answers


@contextmanager
def running(config: EngineConfig) -> Iterator[Engine]:
    engine = Engine(ModelRunner(config), config)
    yield engine
    engine.stop()


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    compiled_kernels()  # so there is a compiler
    with running(CONFIG) as engine:
        yield engine


@pytest.fixture(scope="module")
def torch_engine() -> Iterator[Engine]:
    with running(CONFIG.model_copy(update={"kernels": "torch"})) as engine:
        yield engine


async def tokens_of(engine: Engine, prompt: list[int], stop_ids: frozenset[int]) -> list[int]:
    params = SamplingParams(max_tokens=NEW_TOKENS, stop_ids=stop_ids, temperature=0)
    async with aclosing(engine.generate(prompt, params)) as tokens, asyncio.timeout(60):
        return [token.id async for token in tokens]


@pytest.mark.parametrize("index", range(len(CHATS) + len(TEXTS)), ids=[ascii(text[:20]) for text in CHATS + TEXTS])
async def test_greedy_tokens_are_those_of_transformers(
    engine: Engine, tokenizer: TextTokenizer, prompts: list[list[int]], expected: list[Expected], index: int
) -> None:
    assert await tokens_of(engine, prompts[index], tokenizer.stop_ids) == expected[index].ids


async def test_all_prompts_at_once_give_the_same_tokens(
    engine: Engine, tokenizer: TextTokenizer, prompts: list[list[int]], expected: list[Expected]
) -> None:
    answers = await asyncio.gather(*(tokens_of(engine, prompt, tokenizer.stop_ids) for prompt in prompts))
    assert answers == [answer.ids for answer in expected]


@pytest.mark.parametrize("index", SOME.values(), ids=SOME)
async def test_torchs_own_operations_give_the_same_tokens(
    torch_engine: Engine, tokenizer: TextTokenizer, prompts: list[list[int]], expected: list[Expected], index: int
) -> None:
    assert await tokens_of(torch_engine, prompts[index], tokenizer.stop_ids) == expected[index].ids


def test_no_token_compared_was_almost_another(expected: list[Expected]) -> None:
    # Rounding moves a float32 logit by some 1e-5 here.
    assert min(margin for answer in expected for margin in answer.margins) > 1e-3


def test_the_answers_compared_are_answers(tokenizer: TextTokenizer, expected: list[Expected]) -> None:
    assert "Paris" in tokenizer.decode(expected[0].ids)
    assert sum(len(answer.ids) for answer in expected) > len(expected) * NEW_TOKENS / 2
