"""Every output option on every family: the engine's tokens are those of transformers' logits and a plain sampler.

The models are tiny and random, from GGUF, by the C kernels and by torch, in float32. Whatever an option does to a row,
the reference does token by token in Python, on logits that transformers computes anew for each token without a cache.
"""

import asyncio
import dataclasses
from collections import defaultdict
from collections.abc import Iterator
from contextlib import aclosing
from typing import Any, NamedTuple

import pytest
import torch
from compiled_kernels import compiled_kernels
from sampling_reference import chosen, log_softmax, reference_uniform, ruled
from tiny_checkpoints import SIZES, TinyCheckpoint, write_gguf

from genkan.engine.config import EngineConfig
from genkan.engine.engine import Engine
from genkan.engine.grammar.grammars import Grammars
from genkan.engine.grammar.spec import GrammarSpec
from genkan.engine.grammar.token_table import TokenTable
from genkan.engine.model_runner import ModelRunner
from genkan.engine.sampling_params import SamplingParams
from genkan.engine.sequence import Token

pytestmark = pytest.mark.anyio

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gemma3")
PROMPT = [5, 17, 3, 44, 17, 9, 60, 21, 33, 2, 11, 48]
EOS = 0
VOCABULARY = SIZES["vocab_size"]
TEXTS = [b"", *(bytes([letter]) for letter in range(ord("A"), ord("A") + VOCABULARY - 1))]  # ids as letters
GREEDY = SamplingParams(max_tokens=12, temperature=0.0, stop_ids=frozenset({EOS}))

OPTIONS: dict[str, SamplingParams] = {
    "greedy": GREEDY,
    "temperature and seed": SamplingParams(max_tokens=12, temperature=0.8, seed=7, ignore_eos=True),
    "top_k, top_p, min_p": SamplingParams(max_tokens=12, seed=3, top_k=9, top_p=0.8, min_p=0.02, ignore_eos=True),
    "repetition_penalty": dataclasses.replace(GREEDY, repetition_penalty=1.7),
    "presence_penalty": dataclasses.replace(GREEDY, presence_penalty=1.5),
    "frequency_penalty": dataclasses.replace(GREEDY, frequency_penalty=-1.25),
    "logit_bias": dataclasses.replace(GREEDY, logit_bias=((12, 100.0), (13, 99.5), (EOS, -100.0))),
    "min_tokens": dataclasses.replace(GREEDY, min_tokens=8, logit_bias=((EOS, 100.0),)),
    "all of these": SamplingParams(
        max_tokens=12, seed=11, temperature=1.3, top_k=30, top_p=0.9, min_p=0.01, repetition_penalty=1.2,
        presence_penalty=0.5, frequency_penalty=0.25, logit_bias=((20, 1.5),), min_tokens=12,
        stop_ids=frozenset({EOS}),
    ),
}  # fmt: skip


class Rig(NamedTuple):
    """A family's model, as transformers has it and as the engine runs it."""

    reference: Any
    engine: Engine
    computed: dict[tuple[int, ...], list[list[float]]]

    async def answers(self, params: SamplingParams, n: int = 1, priority: int = 0) -> list[list[Token]]:
        found: defaultdict[int, list[Token]] = defaultdict(list)
        async with aclosing(self.engine.generate(PROMPT, params, n=n, priority=priority)) as tokens:
            async for token in tokens:
                found[token.answer].append(token)
        return [found[answer] for answer in range(n)]

    def logits(self, ids: list[int]) -> list[list[float]]:
        """Of every position, computed without a KV cache."""
        if tuple(ids) not in self.computed:
            with torch.inference_mode():
                self.computed[tuple(ids)] = self.reference(torch.tensor([ids]), use_cache=False).logits[0].tolist()
        return self.computed[tuple(ids)]

    def expected(self, params: SamplingParams, offset: int = 0) -> list[int]:
        answer: list[int] = []
        while len(answer) < params.max_tokens:
            row = ruled(self.logits(PROMPT + answer)[-1], params, PROMPT, answer, None)
            uniform = reference_uniform(params.seed or 0, len(answer), offset)
            token = chosen(
                row, uniform, temperature=params.temperature, top_k=params.top_k, min_p=params.min_p, top_p=params.top_p
            )
            answer.append(token)
            if token in params.stop_ids and not params.ignore_eos:
                break
        return answer


@pytest.fixture(scope="module", params=["c", "torch"])
def kernels(request: pytest.FixtureRequest) -> str:
    if request.param == "c":
        compiled_kernels()  # so there is a compiler
    return str(request.param)


@pytest.fixture(scope="module", params=FAMILIES)
def rig(request: pytest.FixtureRequest, kernels: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    checkpoint = TinyCheckpoint(
        family=request.param, windows=request.param == "mistral", settings={"hidden_size": 64, "intermediate_size": 96}
    )
    reference = checkpoint.model()
    path = write_gguf(reference, request.param, tmp_path_factory.mktemp("model") / "model.gguf")
    config = EngineConfig.model_validate(
        {"model": str(path), "profile": "exact", "kernels": kernels, "kv_memory_bytes": 8 << 20, "threads": 1}
    )
    runner = ModelRunner(config)
    assert runner.kernels == kernels
    table = TokenTable(tokens=TEXTS, stop_ids=frozenset({EOS}), eos_id=EOS, special=frozenset({EOS}))
    grammars = Grammars(table, timeout_s=10, max_bytes=1 << 16, cache=8, vocab_size=VOCABULARY)
    engine = Engine(runner, config, grammars=grammars)
    yield Rig(reference, engine, {})
    engine.stop()
    grammars.close()


@pytest.mark.parametrize("option", OPTIONS)
async def test_tokens_are_those_of_the_reference(rig: Rig, option: str) -> None:
    params = OPTIONS[option]
    [answer] = await rig.answers(params)
    assert [token.id for token in answer] == rig.expected(params)


@pytest.mark.parametrize("option", OPTIONS)
async def test_an_answer_that_was_begun_elsewhere_goes_on_as_if_it_had_been_begun_here(rig: Rig, option: str) -> None:
    params = OPTIONS[option]
    answer = rig.expected(params)
    for begun in {1, len(answer) // 2, len(answer) - 1} - {0}:
        rest = dataclasses.replace(params, max_tokens=params.max_tokens - begun, continued=begun)
        async with aclosing(rig.engine.generate(PROMPT + answer[:begun], rest)) as tokens:
            assert [token.id async for token in tokens] == answer[begun:]


@pytest.mark.parametrize("priority", [-100, 100])
async def test_priority_changes_no_token(rig: Rig, priority: int) -> None:
    [answer] = await rig.answers(GREEDY, priority=priority)
    assert [token.id for token in answer] == rig.expected(GREEDY)


async def test_several_answers_are_each_the_references(rig: Rig) -> None:
    params = OPTIONS["temperature and seed"]
    answers = await rig.answers(params, n=4)
    assert [[token.id for token in answer] for answer in answers] == [rig.expected(params, place) for place in range(4)]


async def test_logprobs_are_the_models_own(rig: Rig) -> None:
    params = dataclasses.replace(OPTIONS["repetition_penalty"], logprobs=5)
    [answer] = await rig.answers(params)
    ids = [token.id for token in answer]
    assert ids == rig.expected(OPTIONS["repetition_penalty"])
    for place, token in enumerate(answer):
        row = log_softmax(rig.logits(PROMPT + ids[:place])[-1])
        best = sorted(range(VOCABULARY), key=lambda each: -row[each])[:5]
        assert token.logprobs is not None
        assert token.logprobs.logprob == pytest.approx(row[token.id], abs=1e-4)
        assert [each for each, _ in token.logprobs.top] == best
        assert [value for _, value in token.logprobs.top] == pytest.approx([row[each] for each in best], abs=1e-4)


async def test_prompt_logprobs_are_too(rig: Rig) -> None:
    params = dataclasses.replace(GREEDY, max_tokens=1, prompt_logprobs=3)
    for _ in range(2):  # the second time the prompt is in the prefix cache, and is computed all the same
        [[token]] = await rig.answers(params)
        assert token.prompt_logprobs is not None
        first, *others = token.prompt_logprobs
        assert first is None
        rows = [log_softmax(row) for row in rig.logits(PROMPT)]
        for place, (found, row) in enumerate(zip(others, rows, strict=False), start=1):
            assert found is not None
            assert found.logprob == pytest.approx(row[PROMPT[place]], abs=1e-4)
            assert [each for each, _ in found.top] == sorted(range(VOCABULARY), key=lambda each: -row[each])[:3]


@pytest.mark.parametrize(
    ("spec", "texts"),
    [
        (GrammarSpec("choice", '["ABBA", "CABAL", "DAB"]'), {"ABBA", "CABAL", "DAB"}),
        (GrammarSpec("regex", "X[YZ]{2}W"), {f"X{one}{two}W" for one in "YZ" for two in "YZ"}),
    ],
)
async def test_a_grammar_holds_for_every_answer(rig: Rig, spec: GrammarSpec, texts: set[str]) -> None:
    params = dataclasses.replace(OPTIONS["temperature and seed"], grammar=spec, stop_ids=frozenset({EOS}))
    answers = await rig.answers(dataclasses.replace(params, ignore_eos=False), n=4)
    for answer in answers:
        assert b"".join(TEXTS[token.id] for token in answer).decode() in texts
        assert answer[-1].finish_reason == "stop"


async def test_all_at_once_they_are_what_each_is_alone(rig: Rig) -> None:
    alone = {option: rig.expected(params) for option, params in OPTIONS.items()}
    answers = await asyncio.gather(*(rig.answers(params) for params in OPTIONS.values()))
    assert {option: [token.id for token in answer] for option, [answer] in zip(OPTIONS, answers, strict=True)} == alone
