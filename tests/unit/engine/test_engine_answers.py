"""Several answers to one prompt, priorities, prompts that are scored, and answers in a form."""

import asyncio
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from fakes import Changes, FakeRunner, SwappingRunner, alone, answering, digest, successor
from running import MakeEngine, greedy, settled, submitted, whole

from genkan.engine.batch import BatchItem
from genkan.engine.client import Capability
from genkan.engine.engine import Engine
from genkan.engine.grammar.spec import GrammarSpec
from genkan.engine.sampling_params import SamplingParams
from genkan.engine.sequence import PrefixOptions, Token
from genkan.errors import ContextTooLong, EngineFailed, EngineOverloaded, InvalidRequest, UnsupportedOption

pytestmark = pytest.mark.anyio

PROMPT = list(range(1, 14))  # three pages and one token
SMALL = {"block_size": 4, "num_blocks": 64}


class FlatRunner(FakeRunner):
    """All tokens are equally likely."""

    def forward(self, items: list[BatchItem]) -> torch.Tensor:
        return super().forward(items) * 0


class SlopedRunner(FakeRunner):
    """After each token the next by number has logit 2, all others have 0."""

    def forward(self, items: list[BatchItem]) -> torch.Tensor:
        return (super().forward(items) == 0) * 2.0


def by_answer(tokens: list[Token], n: int) -> list[list[int]]:
    return [[token.id for token in tokens if token.answer == answer] for answer in range(n)]


# Several answers


@pytest.mark.parametrize("n", [1, 2, 8])
async def test_each_answer_is_one_of_its_own(make_engine: MakeEngine, changes: Changes, n: int) -> None:
    engine = make_engine(FakeRunner(digest, **SMALL))
    tokens = await whole(engine, PROMPT, greedy(5), n=n)
    assert by_answer(tokens, n) == [alone(digest, PROMPT, 5)] * n
    assert [token.answer for token in tokens if token.finish_reason == "length"] == list(range(n))
    await settled(engine, changes)


@pytest.mark.parametrize("prefix", [PrefixOptions(), PrefixOptions(use=False), PrefixOptions(namespace=b"a")])
async def test_answers_share_the_pages_of_their_prompt(
    make_engine: MakeEngine, changes: Changes, prefix: PrefixOptions
) -> None:
    runner = FakeRunner(digest, **SMALL)
    engine = make_engine(runner)
    tokens = await whole(engine, PROMPT, greedy(2), n=4, prefix=prefix)
    assert runner.computed[0] == [PROMPT]
    assert runner.computed[1] == [[digest(PROMPT)], *[PROMPT[12:]] * 3]
    assert {token.cached_tokens for token in tokens} == {0}
    await settled(engine, changes)
    statistics = engine.statistics()
    assert statistics.prompt_tokens == len(PROMPT)
    assert statistics.cached_tokens == 0
    assert statistics.prefix_queries == prefix.use
    assert statistics.cached_pages == (3 if prefix.use else 0)


async def test_answers_that_keep_to_themselves_are_found_by_nobody_while_they_run(
    make_engine: MakeEngine, runner: FakeRunner, changes: Changes
) -> None:
    runner = FakeRunner(digest, **SMALL)
    engine = make_engine(runner, prefix_cache=False)
    first, second = await asyncio.gather(*(whole(engine, PROMPT, greedy(9), n=2) for _ in range(2)))
    assert by_answer(first, 2) == by_answer(second, 2) == [alone(digest, PROMPT, 9)] * 2
    assert sum(items.count(PROMPT) for items in runner.computed) == 2
    await settled(engine, changes)
    assert engine.statistics().free_blocks == engine.statistics().blocks


async def test_with_a_seed_answers_differ_and_repeat_and_the_first_is_that_of_one(make_engine: MakeEngine) -> None:
    engine = make_engine(FlatRunner(digest, **SMALL))
    params = SamplingParams(max_tokens=9, seed=5)
    one = by_answer(await whole(engine, PROMPT, params), 1)
    three, again = [by_answer(await whole(engine, PROMPT, params, n=3), 3) for _ in range(2)]
    assert three == again
    assert three[0] == one[0]
    assert len(set(map(tuple, three))) == 3


async def test_every_answer_takes_a_place(make_engine: MakeEngine, runner: FakeRunner) -> None:
    engine = make_engine(max_sequences=2, max_waiting=2)
    runner.hold()
    accepted = await submitted(engine, [10], greedy(1), n=3)
    with pytest.raises(EngineOverloaded):
        await whole(engine, [20], greedy(1), n=2)
    last = await submitted(engine, [30], greedy(1))
    runner.let_all()
    assert by_answer(await accepted, 3) == [[11]] * 3
    assert [token.id for token in await last] == [31]


@pytest.mark.parametrize("n", [0, 9, 5_000_000])
async def test_so_many_answers_are_refused(engine: Engine, n: int) -> None:
    with pytest.raises(InvalidRequest, match="from 1 to 8") as caught:
        await whole(engine, [10], greedy(1), n=n)
    assert caught.value.param == "n"


async def test_closing_the_generator_stops_all_answers(engine: Engine, runner: FakeRunner, changes: Changes) -> None:
    runner.hold()
    tokens = engine.generate([10], greedy(100), n=3)
    runner.let()
    assert (await anext(tokens)).id == 11
    await runner.entered()
    await runner.entered()
    await tokens.aclose()
    runner.let_all()
    await settled(engine, changes)
    assert len(runner.calls) == 2


async def test_an_answer_that_fails_takes_the_others_with_it(make_engine: MakeEngine, changes: Changes) -> None:
    params = SamplingParams(max_tokens=12, seed=5)
    answers = by_answer(await whole(make_engine(FlatRunner(digest, **SMALL)), PROMPT, params, n=3), 3)
    changes.seen.clear()

    def second_fails(seen: list[int]) -> int:
        if seen == PROMPT + answers[1][:4]:
            raise ValueError
        return digest(seen)

    engine = make_engine(FlatRunner(second_fails, **SMALL))
    beside = asyncio.create_task(whole(engine, [99], params))
    received: list[Token] = []
    with pytest.raises(EngineFailed):  # noqa: PT012
        async for token in engine.generate(PROMPT, params, n=3):
            received.append(token)  # noqa: PERF401 - what came before the error is wanted
    assert by_answer(received, 3)[1] == answers[1][:4]
    assert len(await beside) == 12
    await settled(engine, changes)


async def test_answers_are_preempted_and_go_on(make_engine: MakeEngine, changes: Changes) -> None:
    runner = SwappingRunner(digest, num_blocks=12, block_size=4, num_host_blocks=9)
    engine = make_engine(runner, preemption="swap")
    prompts = [[*PROMPT, place] for place in range(3)]
    answers = await asyncio.gather(*(whole(engine, prompt, greedy(20), n=3) for prompt in prompts))
    assert [by_answer(tokens, 3) for tokens in answers] == [[alone(digest, prompt, 20)] * 3 for prompt in prompts]
    assert engine.statistics().preemptions > 0
    await settled(engine, changes)


# Priority


async def test_the_higher_priority_goes_first_among_a_tenants_own(make_engine: MakeEngine, runner: FakeRunner) -> None:
    engine = make_engine(max_sequences=1)
    runner.hold()
    tasks = [await submitted(engine, [1], greedy(1), tenant="a")]
    await runner.entered()
    for first, tenant, priority in ((10, "a", 0), (20, "a", 7), (30, "b", -5), (40, "a", 7)):
        tasks.append(await submitted(engine, [first], greedy(1), tenant=tenant, priority=priority))
    runner.let_all()
    await asyncio.gather(*tasks)
    # Both tenants in turn, whatever their priorities.
    assert runner.computed == [[[1]], [[20]], [[30]], [[40]], [[10]]]


# Scored prompts


async def test_a_prompt_is_scored_token_by_token(make_engine: MakeEngine, changes: Changes) -> None:
    engine = make_engine(SlopedRunner(lambda seen: (seen[-1] + 1) % 4, vocab_size=4, **SMALL))
    tokens = await whole(engine, [0, 1, 3, 2], greedy(2, prompt_logprobs=1))
    total = math.log(math.exp(2) + 3)
    scores = tokens[0].prompt_logprobs
    assert scores is not None
    assert scores[0] is None
    assert [score.logprob for score in scores[1:] if score] == pytest.approx([2 - total, -total, -total])
    assert [score.top[0][0] for score in scores[1:] if score] == [1, 2, 0]
    assert tokens[1].prompt_logprobs is None
    await settled(engine, changes)


async def test_scoring_looks_for_nothing_in_the_cache_and_leaves_its_pages(make_engine: MakeEngine) -> None:
    engine = make_engine(FakeRunner(digest, **SMALL))
    await whole(engine, PROMPT, greedy(2))
    scored = await whole(engine, PROMPT, greedy(2, prompt_logprobs=0))
    assert scored[0].cached_tokens == 0
    assert len(scored[0].prompt_logprobs or ()) == len(PROMPT)
    new = [100 + id_ for id_ in PROMPT]
    await whole(engine, new, greedy(2, prompt_logprobs=0))
    assert (await whole(engine, new, greedy(2)))[0].cached_tokens == 12


async def test_scores_are_the_same_in_chunks_and_after_preemption(make_engine: MakeEngine, changes: Changes) -> None:
    prompt = [digest([place]) for place in range(90)]
    params = greedy(9, prompt_logprobs=3)
    calm = await whole(make_engine(FlatRunner(digest, **SMALL)), prompt, params)
    runner = FlatRunner(digest, num_blocks=26, block_size=4)
    engine = make_engine(runner, max_batched_tokens=16, max_sequences=16)
    older = [asyncio.create_task(whole(engine, [place], greedy(40), tenant=str(place))) for place in range(3)]
    pressed = await whole(engine, prompt, params, n=2)
    await asyncio.gather(*older)
    assert engine.statistics().preemptions > 0
    (scores,) = [token.prompt_logprobs for token in pressed if token.prompt_logprobs is not None]
    assert scores == calm[0].prompt_logprobs
    await settled(engine, changes)


async def test_a_step_scores_so_many_tokens_and_no_more(make_engine: MakeEngine, changes: Changes) -> None:
    runner = FakeRunner(digest, num_blocks=64, block_size=16, max_model_len=400)
    engine = make_engine(runner, chunked_prefill=False)
    scoring = [whole(engine, [place, *range(149)], greedy(2, prompt_logprobs=0)) for place in range(2)]
    plain = whole(engine, [7] * 90, greedy(2))
    *scored, tokens = await asyncio.gather(*scoring, plain)
    assert all(len(answer[0].prompt_logprobs or ()) == 150 for answer in scored)
    assert [token.id for token in tokens] == alone(digest, [7] * 90, 2)
    assert max(sum(item.outputs for item in items) for items in runner.calls) <= 64 + 3
    await settled(engine, changes)


async def test_a_prompt_of_one_token_has_nothing_to_score(engine: Engine) -> None:
    tokens = await whole(engine, [10], greedy(1, prompt_logprobs=2))
    assert tokens[0].prompt_logprobs == [None]


class NoNumbersAt(FakeRunner):
    """The logits after token 5 are NaN."""

    def forward(self, items: list[BatchItem]) -> torch.Tensor:
        logits = super().forward(items)
        logits[logits[:, 6] == 0] = float("nan")
        return logits


async def test_scores_that_are_no_numbers_fail_that_request_only(make_engine: MakeEngine, changes: Changes) -> None:
    engine = make_engine(NoNumbersAt(successor, **SMALL))
    beside = asyncio.create_task(whole(engine, [20], greedy(5)))
    with pytest.raises(EngineFailed):
        await whole(engine, [4, 5, 9], greedy(3, prompt_logprobs=0))
    assert [token.id for token in await beside] == [21, 22, 23, 24, 25]
    await settled(engine, changes)


# Answers in a form

SPEC = GrammarSpec("regex", "[ab]*")


class OnlyThese:
    """A Matcher: the tokens of ``ids`` in turn, and then the end."""

    def __init__(self, ids: list[int]) -> None:
        self._left = list(ids)

    def mask(self, row: npt.NDArray[np.float32]) -> None:
        if not self._left:
            raise EngineFailed("nothing is left")
        allowed = row[self._left[0]]
        row[:] = -np.inf
        row[self._left[0]] = allowed

    def take(self, token: int, remaining: int) -> int:
        assert token == self._left.pop(0)
        return token

    @property
    def is_closed(self) -> bool:
        return not self._left


class OneGrammar:
    """Compiles everything to the same, or raises ``error``."""

    def __init__(self, ids: list[int], error: Exception | None = None) -> None:
        self.asked: list[GrammarSpec] = []
        self._ids = ids
        self._error = error

    async def compiled(self, spec: GrammarSpec) -> "OneGrammar":
        self.asked.append(spec)
        if self._error is not None:
            raise self._error
        return self

    def matcher(self) -> OnlyThese:
        if self._ids == [66]:
            raise ValueError("a grammar bomb")
        return OnlyThese(self._ids)

    def after(self, ids: Sequence[int]) -> "OneGrammar":
        return self


def in_form(max_tokens: int = 9, **more: Any) -> SamplingParams:
    return greedy(max_tokens, grammar=SPEC, **more)


async def test_each_answer_has_a_matcher_of_its_own_and_ends_when_it_is_closed(make_engine: MakeEngine) -> None:
    grammars = OneGrammar([3, 5, 8])
    engine = make_engine(FakeRunner(digest, **SMALL), {"grammars": grammars})
    tokens = await whole(engine, PROMPT, in_form(), n=2)
    assert by_answer(tokens, 2) == [[3, 5, 8]] * 2
    assert [token.finish_reason for token in tokens if token.id == 8] == ["stop", "stop"]
    assert grammars.asked == [SPEC]


async def test_a_grammar_goes_on_after_a_preemption_where_it_was(make_engine: MakeEngine, changes: Changes) -> None:
    form = [3, 5, 8] * 6
    runner = FakeRunner(digest, num_blocks=8, block_size=4)
    engine = make_engine(runner, {"grammars": OneGrammar(form)})
    answers = await asyncio.gather(*(whole(engine, [place], in_form(30)) for place in range(4)))
    assert [[token.id for token in tokens] for tokens in answers] == [form] * 4
    assert engine.statistics().preemptions > 0
    await settled(engine, changes)


async def test_a_grammar_that_cannot_be_is_refused_before_anything_is_submitted(
    make_engine: MakeEngine, changes: Changes
) -> None:
    engine = make_engine(options={"grammars": OneGrammar([], InvalidRequest("no schema"))})
    with pytest.raises(InvalidRequest, match="no schema"):
        await whole(engine, PROMPT, in_form())
    assert changes.seen == []


async def test_what_cannot_run_for_its_length_is_not_compiled(make_engine: MakeEngine) -> None:
    grammars = OneGrammar([3])
    engine = make_engine(options={"grammars": grammars})
    with pytest.raises(ContextTooLong):
        await whole(engine, PROMPT, in_form(10_000))
    assert grammars.asked == []


async def test_a_matcher_that_cannot_be_made_fails_its_request_only(make_engine: MakeEngine, changes: Changes) -> None:
    engine = make_engine(FakeRunner(digest, **SMALL), {"grammars": OneGrammar([66])})
    beside = asyncio.create_task(whole(engine, [9], greedy(12)))
    with pytest.raises(EngineFailed):
        await whole(engine, PROMPT, in_form(), n=2)
    assert [token.id for token in await beside] == alone(digest, [9], 12)
    await settled(engine, changes)


async def test_a_grammar_that_breaks_in_the_middle_fails_its_request_only(
    make_engine: MakeEngine, changes: Changes
) -> None:
    class Breaks(OneGrammar):
        def matcher(self) -> OnlyThese:
            return Broken(self._ids)

    class Broken(OnlyThese):
        def take(self, token: int, remaining: int) -> int:
            raise RuntimeError("lost")

    engine = make_engine(FakeRunner(digest, **SMALL), {"grammars": Breaks([3, 5])})
    beside = asyncio.create_task(whole(engine, [9], greedy(12)))
    with pytest.raises(EngineFailed):
        await whole(engine, PROMPT, in_form())
    assert [token.id for token in await beside] == alone(digest, [9], 12)
    await settled(engine, changes)


async def test_without_grammars_none_is_promised_and_none_followed(engine: Engine, make_engine: MakeEngine) -> None:
    assert make_engine(options={"grammars": OneGrammar([])}).capabilities == frozenset(Capability)
    grammars = {Capability.JSON, Capability.REGEX, Capability.CHOICE, Capability.GRAMMAR}
    assert engine.capabilities == frozenset(Capability) - grammars
    with pytest.raises(UnsupportedOption, match="response_format"):
        await whole(engine, [1], in_form())


async def test_the_fake_still_answers(make_engine: MakeEngine) -> None:
    engine = make_engine(FakeRunner(answering([7, 8])))
    assert by_answer(await whole(engine, [1, 2], greedy(2), n=2), 2) == [[7, 8]] * 2
