"""A scheduler for tests: four tokens a block, and a model that says the same token each time."""

from dataclasses import dataclass, field
from typing import Any

from genkan.engine.block_pool import BlockPool
from genkan.engine.pace import Pace
from genkan.engine.plan import Scheduled
from genkan.engine.prefix_cache import PrefixCache
from genkan.engine.sampling_params import SamplingParams
from genkan.engine.scheduler import Limits, Scheduler
from genkan.engine.sequence import PrefixOptions, Sequence

BLOCK = 4

Parts = list[tuple[Sequence, int]]


@dataclass
class Rig:
    """A scheduler, what it plans with, and steps that compute nothing but say that they did."""

    pool: BlockPool
    cache: PrefixCache
    scheduler: Scheduler
    pace: Pace
    host: BlockPool
    submitted: list[Sequence] = field(default_factory=list)

    def submit(
        self,
        prompt: list[int],
        max_tokens: int = 8,
        tenant: str = "a",
        priority: int = 0,
        prompt_logprobs: int | None = None,
        **prefix: Any,
    ) -> Sequence:
        options = PrefixOptions(**{"namespace": tenant.encode()} | prefix)
        params = SamplingParams(max_tokens=max_tokens, prompt_logprobs=prompt_logprobs)
        sequence = Sequence(prompt, params, tenant=tenant, prefix=options, priority=priority)
        self.submitted.append(sequence)
        self.scheduler.submit(sequence)
        return sequence

    def plan(self, now_s: float = 0.0) -> Parts:
        return [(part.sequence, part.count) for part in self.scheduler.plan(now_s).parts]

    def step(self, now_s: float = 0.0) -> Parts:
        parts = self.scheduler.plan(now_s).parts
        for part in parts:
            self.compute(part, now_s)
        return [(part.sequence, part.count) for part in parts]

    def compute(self, part: Scheduled, now_s: float) -> None:
        wants_token = part.wants_token
        part.sequence.num_unscored -= max(part.outputs - wants_token, 0)
        self.scheduler.computed(part, now_s)
        if wants_token:
            part.sequence.tokens.append(7)
            if part.sequence.finish_reason() is not None:
                self.scheduler.finish(part.sequence, now_s)

    def run(self) -> list[Sequence]:
        """Steps until nothing is left; returns the sequences in the order in which they first ran."""
        order: dict[Sequence, None] = {}
        while parts := self.step():
            order.update((sequence, None) for sequence, _ in parts)
        return list(order)

    @property
    def private(self) -> int:
        shared = sum(each.page.depth for each in self.submitted if each.page is not None)
        return sum(len(each.blocks) for each in self.submitted) - shared

    def all_is_free(self) -> bool:
        self.cache.check()
        return self.pool.num_free + self.cache.num_pages == self.pool.num_blocks and self.private == 0


def rig(
    num_blocks: int = 64,
    *,
    budget: int = 16,
    max_sequences: int = 8,
    slowdown: float | None = None,
    host_blocks: int = 0,
    **limits: Any,
) -> Rig:
    pool, pace, host = BlockPool(num_blocks), Pace(slowdown), BlockPool(host_blocks)
    cache = PrefixCache(pool, block_size=BLOCK)
    chosen = Limits(max_batched_tokens=budget, max_sequences=max_sequences, **limits)
    return Rig(pool, cache, Scheduler(pool, cache, chosen, pace, host), pace, host)


def prompt(length: int, first: int = 0) -> list[int]:
    """Tokens that no prompt with another ``first`` of the same hundred begins with."""
    return list(range(first, first + length))


def two_that_outgrow_the_pool(**limits: Any) -> tuple[Rig, Sequence, Sequence]:
    """Six blocks, three for each; after five steps both are full and the older asks for one more."""
    r = rig(6, **limits)
    older, younger = r.submit(prompt(8), max_tokens=16), r.submit(prompt(8, 100), max_tokens=16)
    for _ in range(5):
        assert [sequence for sequence, _ in r.step()] == [older, younger]
    assert r.pool.num_free == r.cache.evictable == 0
    return r, older, younger
