"""A sequence that is preempted at any step of its life gives the same tokens, on the real model, in both profiles.

The scheduler is driven step by step, so that it is known in which of them the blocks run out.
"""

import pytest

from genkan.engine.batch import BatchItem
from genkan.engine.block_pool import BlockPool
from genkan.engine.model_runner import ModelRunner
from genkan.engine.pace import Pace
from genkan.engine.plan import Scheduled
from genkan.engine.prefix_cache import PrefixCache
from genkan.engine.sampling_params import SamplingParams
from genkan.engine.scheduler import Limits, Scheduler
from genkan.engine.sequence import PrefixOptions, Sequence

PROMPT_TOKENS, NEW_TOKENS = 90, 8
BUDGET = 64  # so the prompt takes two steps
STEPS = range(2, 10)  # 1 admits both sequences; 10 would draw the last token
BLOCK_SIZE = 16


class Pair:
    """A sequence, an older one beside it, and what is there for both."""

    def __init__(self, runner: ModelRunner, text: list[int], *, older_tokens: int) -> None:
        self.pool = BlockPool(40)
        self.cache = PrefixCache(self.pool, block_size=BLOCK_SIZE, pin_share=0, ttl_s=None)
        limits = Limits(max_batched_tokens=BUDGET, max_sequences=2)
        self.scheduler = Scheduler(self.pool, self.cache, limits, Pace(None))
        self.older = Sequence(text[700 : 700 + older_tokens], greedy(100), prefix=PrefixOptions(use=False))
        self.sequence = Sequence(text[:PROMPT_TOKENS], greedy(NEW_TOKENS))
        self.scheduler.submit(self.older)
        self.scheduler.submit(self.sequence)
        self._runner = runner

    @property
    def is_running(self) -> bool:
        return self.sequence in self.scheduler.running

    @property
    def has_ended(self) -> bool:
        return self.sequence.num_generated == NEW_TOKENS

    def step(self) -> None:
        """Plan and compute one; each sequence that wants a token gets the likeliest."""
        parts = self.scheduler.plan(0.0).parts
        wants_token = [part.wants_token for part in parts]
        drawn = iter(self._runner.forward([item(part) for part in parts]).argmax(dim=-1).tolist())
        for part, wants in zip(parts, wants_token, strict=True):
            self.scheduler.computed(part, 0.0)
            if wants:
                part.sequence.tokens.append(next(drawn))

    def step_without_free_blocks(self) -> None:
        held = self.pool.take(self.pool.num_free)
        self.step()
        self.pool.give_back(held)


def greedy(max_tokens: int) -> SamplingParams:
    return SamplingParams(max_tokens=max_tokens, temperature=0)


def item(part: Scheduled) -> BatchItem:
    start = part.sequence.num_computed
    ids = part.sequence.tokens[start : start + part.count]
    return BatchItem(ids, start, part.sequence.blocks, part.outputs)


@pytest.fixture(scope="module")
def expected(runner: ModelRunner, text: list[int]) -> list[int]:
    """The tokens when nothing is short; what stands beside it is of another length than below."""
    pair = Pair(runner, text, older_tokens=5)
    while not pair.has_ended:
        pair.step()
    assert pair.sequence.num_preempted == 0
    return pair.sequence.tokens[PROMPT_TOKENS:].tolist()


@pytest.mark.parametrize("finds_its_pages", [True, False], ids=["pages kept", "pages lost"])
@pytest.mark.parametrize("step", STEPS)
def test_preempted_at_any_step_gives_the_same_tokens(
    runner: ModelRunner, text: list[int], expected: list[int], step: int, finds_its_pages: bool
) -> None:
    # The older one is through a block just when this step begins, and none is free.
    pair = Pair(runner, text, older_tokens=2 * BLOCK_SIZE - (step - 2))
    for _ in range(1, step):
        pair.step()
        assert pair.is_running
    pair.step_without_free_blocks()
    assert not pair.is_running
    if not finds_its_pages:
        assert pair.cache.purge(b"") > 0
    while not pair.has_ended:
        pair.step()
        assert pair.is_running
    assert pair.scheduler.num_preemptions == 1
    assert pair.sequence.tokens[PROMPT_TOKENS:].tolist() == expected
