"""All answers to one request, as they come from the engine."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import pytest
from fakes import WAIT_S
from scripted_engine import ScriptedEngine, Step, in_turn, said

from genkan.engine.logprobs import TokenLogprobs
from genkan.engine.sampling_params import SamplingParams
from genkan.engine.sequence import Token
from genkan.errors import EngineFailed, RequestError
from genkan.serving.answering import Answering, Ending
from genkan.serving.echo import Echo
from genkan.serving.generation import Generation, after_prompts, merged
from genkan.serving.pieces import Usage
from genkan.upstream.tokenizer import TextTokenizer

pytestmark = pytest.mark.anyio
PARAMS = SamplingParams(max_tokens=9)
HALF = TokenLogprobs(-0.7)


def sources(*scripts: Sequence[Step]) -> tuple[ScriptedEngine, list[AsyncGenerator[Token, None]]]:
    engine = ScriptedEngine(*scripts)
    return engine, [engine.generate([1], PARAMS) for _ in scripts]


async def taken(tokens: AsyncGenerator[Token, None]) -> list[tuple[int, int]]:
    """Answer and id of each token."""
    async with asyncio.timeout(WAIT_S), aclosing(tokens):
        return [(token.answer, token.id) async for token in tokens]


# Several prompts


async def test_the_answers_to_several_prompts_are_numbered_through() -> None:
    engine, both = sources(in_turn(said([10, 11]), said([20], answer=1)), in_turn(said([30]), said([40], answer=1)))
    found = await taken(merged(both, 2))
    assert [pair for pair in found if pair[0] < 2] == [(0, 10), (1, 20), (0, 11)]
    assert [pair for pair in found if pair[0] >= 2] == [(2, 30), (3, 40)]
    assert engine.open == 0


async def test_a_prompt_does_not_wait_for_another() -> None:
    later = asyncio.Event()
    _, both = sources([later, *said([10])], said([20, 21]))
    tokens = merged(both, 1)
    async with asyncio.timeout(WAIT_S), aclosing(tokens):
        first = [(await anext(tokens)).id for _ in range(2)]
        later.set()
        assert (first, (await anext(tokens)).id) == ([20, 21], 10)


async def test_what_fails_for_one_prompt_fails_for_all_and_leaves_nothing_open() -> None:
    engine, both = sources([asyncio.Event(), *said([10])], [*said([20], "length"), EngineFailed("broken")])
    with pytest.raises(RequestError, match="broken"):
        await taken(merged(both, 1))
    assert engine.open == 0


async def test_closing_it_closes_every_prompts() -> None:
    engine, both = sources(said([10, 11, 12, 13, 14]), [asyncio.Event()])
    tokens = merged(both, 1)
    async with asyncio.timeout(WAIT_S):
        await anext(tokens)
        await tokens.aclose()
    assert engine.open == 0


async def test_nobody_is_read_ahead_of_a_reader_that_does_not_read() -> None:
    engine, both = sources(said(range(100)), said(range(100)))
    tokens = merged(both, 1)
    async with asyncio.timeout(WAIT_S), aclosing(tokens):
        await anext(tokens)
        for _ in range(50):
            await asyncio.sleep(0)  # whatever can go on goes on
        assert engine.given <= 6


# Echo with log probabilities


async def test_other_answers_wait_for_what_the_first_brings_of_their_prompt(tokenizer: TextTokenizer) -> None:
    script = [*said([20, 21], answer=1), *said([10], prompt_logprobs=[None])]
    _, (source,) = sources(script)
    echo = Echo([1], None, tokenizer, scores=False, is_all=False)
    assert await taken(after_prompts(source, [echo], 2)) == [(1, 20), (1, 21), (0, 10)]
    assert echo.logprobs == [None]


# Pieces and usage


def generation(
    tokenizer: TextTokenizer, script: Sequence[Step], num_answers: int = 2, *, per_prompt: int = 2, stop: str = ""
) -> tuple[ScriptedEngine, Generation]:
    engine, (source,) = sources(script)
    ending = Ending(stop=(stop,) if stop else ())
    answers = [Answering(index, tokenizer.text_stream(), ending) for index in range(num_answers)]
    return engine, Generation(source, answers, prompt_tokens=7, per_prompt=per_prompt)


async def test_usage_counts_prompts_once_and_the_tokens_of_all_answers(tokenizer: TextTokenizer) -> None:
    script = in_turn(said([500, 501], cached_tokens=3), said([502, 503, 504], answer=1, cached_tokens=5))
    _, made = generation(tokenizer, script)
    async with asyncio.timeout(WAIT_S):
        ended = [(piece.answer, piece.reason) async for piece in made.pieces() if piece.reason]
    assert ended == [(0, "stop"), (1, "stop")]
    assert made.usage() == Usage(7, 5, 3)
    assert made.is_complete


async def test_each_prompts_cached_tokens_count(tokenizer: TextTokenizer) -> None:
    script = in_turn(said([500, 501], cached_tokens=3), said([502], answer=1, cached_tokens=5))
    _, made = generation(tokenizer, script, per_prompt=1)
    async with asyncio.timeout(WAIT_S):
        assert [piece async for piece in made.pieces()]
    assert made.usage() == Usage(7, 3, 8)


async def test_it_ends_with_the_last_answer_that_a_stop_string_ends(tokenizer: TextTokenizer) -> None:
    (word,) = tokenizer.encode("Hello")
    script = in_turn(said([word] * 9), said([word] * 9, answer=1))
    engine, made = generation(tokenizer, script, stop="Hello")
    async with asyncio.timeout(WAIT_S):
        assert [piece.reason async for piece in made.pieces()] == ["stop", "stop"]
    assert (engine.given, engine.open) == (2, 0)
    assert made.usage().completion_tokens == 2
