"""The scheduler by example: four tokens a block, and a model that says the same token each time."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from genkan.engine.block_pool import BlockPool
from genkan.engine.pace import Pace
from genkan.engine.prefix_cache import PrefixCache
from genkan.engine.sampling_params import SamplingParams
from genkan.engine.scheduler import Limits, Scheduled, Scheduler
from genkan.engine.sequence import PrefixOptions, Sequence

BLOCK = 4

Plan = list[tuple[Sequence, int]]


@dataclass
class Rig:
    """A scheduler, what it plans with, and steps that compute nothing but say that they did."""

    pool: BlockPool
    cache: PrefixCache
    scheduler: Scheduler
    pace: Pace
    submitted: list[Sequence] = field(default_factory=list)

    def submit(self, prompt: list[int], max_tokens: int = 8, tenant: str = "a", **prefix: Any) -> Sequence:
        options = PrefixOptions(**{"namespace": tenant.encode()} | prefix)
        sequence = Sequence(prompt, SamplingParams(max_tokens=max_tokens), tenant=tenant, prefix=options)
        self.submitted.append(sequence)
        self.scheduler.submit(sequence)
        return sequence

    def plan(self, now_s: float = 0.0) -> Plan:
        return [(part.sequence, part.count) for part in self.scheduler.plan(now_s)]

    def step(self, now_s: float = 0.0) -> Plan:
        parts = self.scheduler.plan(now_s)
        for part in parts:
            self.compute(part, now_s)
        return [(part.sequence, part.count) for part in parts]

    def compute(self, part: Scheduled, now_s: float) -> None:
        wants_token = part.wants_token
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
    num_blocks: int = 64, *, budget: int = 16, max_sequences: int = 8, slowdown: float | None = None, **limits: Any
) -> Rig:
    pool, pace = BlockPool(num_blocks), Pace(slowdown)
    cache = PrefixCache(pool, block_size=BLOCK)
    chosen = Limits(max_batched_tokens=budget, max_sequences=max_sequences, **limits)
    return Rig(pool, cache, Scheduler(pool, cache, chosen, pace), pace)


def prompt(length: int, first: int = 0) -> list[int]:
    """Tokens that no prompt with another ``first`` of the same hundred begins with."""
    return list(range(first, first + length))


# A step's tokens


def test_decodes_come_first_then_begun_prompts_then_those_that_wait() -> None:
    r = rig(budget=8)
    short, long = r.submit(prompt(2)), r.submit(prompt(18, 100))
    assert r.step() == [(short, 2), (long, 6)]
    waiting = r.submit(prompt(20, 200))
    assert r.step() == [(short, 1), (long, 7)]
    assert r.step() == [(short, 1), (long, 5), (waiting, 2)]
    assert r.step() == [(short, 1), (long, 1), (waiting, 6)]


def test_a_token_is_wanted_once_all_have_kv() -> None:
    r = rig(budget=8)
    r.submit(prompt(12))
    wanted = []
    for _ in range(3):
        (part,) = r.scheduler.plan(0.0)
        wanted.append(part.wants_token)
        r.compute(part, 0.0)
    assert wanted == [False, True, True]


@pytest.mark.parametrize("lengths", [[3, 1, 1, 1], [2, 1, 1, 1], [1, 1, 1, 1, 1], [9, 1], [4, 1]])
def test_a_step_never_takes_more_than_its_budget(lengths: list[int]) -> None:
    r = rig(budget=4)
    for place, length in enumerate(lengths):
        r.submit(prompt(length, 100 * place))
    assert sum(count for _, count in r.step()) == 4


def test_a_prompt_that_waits_gets_nothing_of_a_spent_budget() -> None:
    r = rig(budget=3, max_sequences=3)
    decodes = [r.submit(prompt(1, 100)), r.submit(prompt(1, 200))]
    r.step()
    long = r.submit(prompt(9, 300))
    late = r.submit(prompt(9, 400))
    assert r.step() == [(decodes[0], 1), (decodes[1], 1), (long, 1)]
    assert late in r.scheduler.waiting


def test_no_more_sequences_run_than_are_allowed() -> None:
    r = rig(max_sequences=2)
    first, second, third = (r.submit(prompt(2, 100 * place), max_tokens=2) for place in range(3))
    assert r.step() == [(first, 2), (second, 2)]
    assert r.step() == [(first, 1), (second, 1)]
    assert r.step() == [(third, 2)]


def test_prompt_chunks_keep_the_pace() -> None:
    r = rig(budget=64, slowdown=2.0)
    for _ in range(100):
        r.pace.observe(1.0, num_decodes=1, prompt_tokens=0)
        r.pace.observe(3.5, num_decodes=1, prompt_tokens=90)  # 36 tokens in the time of a decode: 32, rounded
    decode = r.submit(prompt(1))
    r.step()
    long, late = r.submit(prompt(50, 100)), r.submit(prompt(9, 200))
    assert r.step() == [(decode, 1), (long, 32)]
    assert r.step() == [(decode, 1), (long, 18), (late, 9)]


def test_a_long_prompt_of_one_tenant_does_not_hold_up_another() -> None:
    r = rig(budget=8)
    long = r.submit(prompt(60), tenant="a")
    assert r.step() == [(long, 8)]
    short = r.submit(prompt(3, 100), tenant="b", max_tokens=1)
    assert r.step() == [(long, 4), (short, 3)]
    assert r.step() == [(long, 8)]


def test_two_tenants_share_the_prompt_budget() -> None:
    r = rig(budget=8)
    first, second = r.submit(prompt(40), tenant="a"), r.submit(prompt(40, 100), tenant="b")
    assert r.step() == [(first, 8)]
    assert r.step() == [(first, 4), (second, 4)]
    assert r.step() == [(first, 4), (second, 4)]


def test_a_long_prompt_goes_before_later_ones_of_its_own_tenant() -> None:
    r = rig(budget=8)
    long, short = r.submit(prompt(20)), r.submit(prompt(3, 100))
    assert [r.step() for _ in range(3)] == [[(long, 8)], [(long, 8)], [(long, 4), (short, 3)]]


def test_an_empty_plan_means_that_nothing_is_left() -> None:
    r = rig()
    assert r.plan() == []
    last = r.submit(prompt(3), max_tokens=2)
    assert r.step() == [(last, 3)]
    assert r.step() == [(last, 1)]
    assert r.plan() == []


# Without chunks


def test_whole_prompts_share_a_step_as_far_as_they_fit() -> None:
    r = rig(budget=8, chunked_prefill=False)
    first, second, third = (r.submit(prompt(4, 100 * place)) for place in range(3))
    assert r.step() == [(first, 4), (second, 4)]
    assert r.step() == [(first, 1), (second, 1), (third, 4)]


def test_a_prompt_longer_than_the_budget_gets_a_step_with_no_other_prompt() -> None:
    r = rig(budget=8, chunked_prefill=False)
    before, long, after = r.submit(prompt(3)), r.submit(prompt(20, 100)), r.submit(prompt(3, 200))
    assert r.step() == [(before, 3)]
    assert r.step() == [(before, 1), (long, 20)]
    assert r.step() == [(before, 1), (long, 1), (after, 3)]


# Admission


def test_the_longest_request_is_the_whole_pool_and_it_ends() -> None:
    r = rig(4)
    assert r.scheduler.max_request_tokens == 16
    r.submit(prompt(10), max_tokens=6)
    r.run()
    assert r.all_is_free()
    with pytest.raises(AssertionError):
        r.submit(prompt(10), max_tokens=7)


def test_a_block_for_each_that_runs_is_left_when_another_is_admitted() -> None:
    r = rig(5)
    r.submit(prompt(4), max_tokens=4)
    r.step()
    fills = r.submit(prompt(16, 100), max_tokens=4)
    assert fills not in dict(r.plan())
    r.scheduler.finish(fills, 0.0)
    fits = r.submit(prompt(8, 100), max_tokens=4)
    assert fits in dict(r.plan())


def test_a_hundredth_of_a_large_pool_is_left_too() -> None:
    r = rig(300, budget=2000)
    r.submit(prompt(3), max_tokens=1000)
    r.step()
    fills = r.submit(prompt(297 * BLOCK, 100), max_tokens=1)  # of 299 blocks
    assert fills not in dict(r.plan())
    r.scheduler.finish(fills, 0.0)
    fits = r.submit(prompt(296 * BLOCK, 100), max_tokens=1)
    assert fits in dict(r.plan())


def test_who_runs_alone_leaves_nothing() -> None:
    r = rig(100, budget=512)
    fills = r.submit(prompt(399), max_tokens=1)
    assert r.plan() == [(fills, 399)]


def test_unused_pages_are_room() -> None:
    r = rig(6)
    r.submit(prompt(20), max_tokens=1)
    r.step()
    r.step()
    assert r.cache.evictable == 5
    beside = r.submit(prompt(3, 100), max_tokens=4)
    new = r.submit(prompt(12, 200), max_tokens=1)
    assert r.step() == [(beside, 3), (new, 12)]
    assert r.cache.statistics().evictions == 3


def test_pages_are_locked_before_the_room_is_counted() -> None:
    r = rig(8)
    r.submit(prompt(8), max_tokens=1)
    r.step()
    running = r.submit(prompt(8, 100), max_tokens=10)
    r.step()
    r.step()
    assert (r.pool.num_free, r.cache.evictable) == (3, 2)
    # Beside its two cached pages it needs three blocks, and one stays spare: five seem free, but it would lock two.
    waits = r.submit(prompt(8) + prompt(12, 200), max_tokens=1)
    assert r.plan() == [(running, 1)]
    assert (r.pool.num_free, r.cache.evictable) == (3, 2)
    assert (list(waits.blocks), waits.page, waits.num_computed) == ([], None, 0)
    r.scheduler.finish(running, 0.0)
    assert r.plan() == [(waits, 12)]
    assert waits.cached_tokens == 8


@pytest.mark.parametrize("tenant", ["b", "c"])
def test_those_behind_the_first_that_does_not_fit_wait_too(tenant: str) -> None:
    r = rig(8)
    running = r.submit(prompt(12), max_tokens=4)
    r.step()
    large = r.submit(prompt(20, 100), max_tokens=4, tenant="b")
    small = r.submit(prompt(2, 200), max_tokens=4, tenant=tenant)
    assert r.step() == [(running, 1)]
    r.scheduler.finish(running, 0.0)
    assert r.step() == [(large, 16)]
    assert r.step() == [(large, 4), (small, 2)]


# Preemption


def two_that_outgrow_the_pool(**limits: Any) -> tuple[Rig, Sequence, Sequence]:
    """Six blocks, three for each; after five steps both are full and the older asks for one more."""
    r = rig(6, **limits)
    older, younger = r.submit(prompt(8), max_tokens=16), r.submit(prompt(8, 100), max_tokens=16)
    for _ in range(5):
        assert [sequence for sequence, _ in r.step()] == [older, younger]
    assert r.pool.num_free == r.cache.evictable == 0
    return r, older, younger


def test_the_youngest_is_preempted_and_its_pages_stay_while_there_is_room() -> None:
    r, older, younger = two_that_outgrow_the_pool()
    assert r.plan() == [(older, 1)]
    assert younger in r.scheduler.waiting
    assert (list(younger.blocks), younger.page, younger.num_computed) == ([], None, 0)
    assert (younger.num_preempted, older.num_preempted, r.scheduler.num_preemptions) == (1, 0, 1)
    assert r.cache.peek(b"a", younger.tokens) == 2  # three were published, one had to go at once
    r.cache.check()


def test_a_preempted_sequence_finds_its_pages_again_and_counts_its_query_once() -> None:
    r, older, younger = two_that_outgrow_the_pool()
    r.step()
    r.scheduler.finish(older, 0.0)
    queries = r.cache.statistics().queries
    assert r.step() == [(younger, 5)]  # of 13 tokens 8 are there
    assert younger.cached_tokens == 0
    assert r.cache.statistics().queries == queries == 2


def test_nobody_is_admitted_in_the_step_of_a_preemption() -> None:
    r, older, _ = two_that_outgrow_the_pool()
    r.submit([1], max_tokens=1, tenant="new")
    assert r.plan() == [(older, 1)]


def test_the_preempted_resumes_before_those_that_never_ran() -> None:
    r, older, younger = two_that_outgrow_the_pool()
    r.step()
    late = r.submit([*older.tokens[:12], 1])
    r.scheduler.finish(older, 0.0)
    assert r.cache.peek(b"a", late.tokens) > r.cache.peek(b"a", younger.tokens)
    assert r.step()[0] == (younger, 5)


def test_of_many_the_youngest_is_preempted() -> None:
    r = rig(10)
    first, second, third = (r.submit(prompt(8, 100 * place), max_tokens=16) for place in range(3))
    while not r.scheduler.num_preemptions:
        r.step()
    assert (first.num_preempted, second.num_preempted, third.num_preempted) == (0, 0, 1)


def test_what_was_planned_for_the_preempted_is_taken_back() -> None:
    r = rig(6, max_sequences=2)
    older, younger = r.submit(prompt(8), 16, tenant="a"), r.submit(prompt(8, 100), 16, tenant="b")
    other = r.submit(prompt(8, 200), tenant="c")
    for _ in range(4):
        r.step()
    older.tokens.extend([7] * 4)  # several tokens at once: it is no decode, so the younger was planned before
    assert r.plan() == [(older, 5)]
    assert younger in r.scheduler.waiting
    r.scheduler.waiting.served("c", 11)  # as many as were computed for b
    tenants = [next(line) for line in r.scheduler.waiting.candidates(lambda _: 0)]
    assert tenants == [younger, other]


def test_the_youngest_that_needs_room_itself_waits_for_it() -> None:
    r = rig(5)
    older, younger = r.submit(prompt(8), max_tokens=8), r.submit(prompt(7, 100), max_tokens=8)
    assert r.step() == [(older, 8), (younger, 7)]
    assert r.step() == [(older, 1), (younger, 1)]  # the older takes the last block
    assert r.step() == [(older, 1)]
    assert (younger.num_preempted, older.num_preempted) == (1, 0)


def test_the_oldest_is_never_preempted_and_everyone_ends() -> None:
    r = rig(6)
    sequences = [r.submit(prompt(4, 100 * place), max_tokens=18) for place in range(5)]
    oldest = sequences[0]
    assert r.run() == sequences
    assert r.scheduler.num_preemptions > 0
    assert oldest.num_preempted == 0
    assert [sequence.finish_reason() for sequence in sequences] == ["length"] * 5
    assert r.all_is_free()


def test_without_preemption_the_longest_answer_has_room_from_the_start() -> None:
    r = rig(6, preemption=False)
    running = r.submit(prompt(8), max_tokens=8)
    too_long = r.submit(prompt(4, 100), max_tokens=8)  # 4 blocks are promised, and this may come to 3
    assert r.step() == [(running, 8)]
    r.scheduler.finish(too_long, 0.0)
    fits = r.submit(prompt(4, 200), max_tokens=4)
    assert r.step() == [(running, 1), (fits, 4)]
    r.run()
    assert r.scheduler.num_preemptions == 0


# Prefixes


def test_a_computed_prompt_is_found_by_the_next() -> None:
    r = rig()
    r.submit(prompt(10), max_tokens=1)
    r.step()
    again = r.submit(prompt(10))
    assert r.step() == [(again, 2)]
    assert again.cached_tokens == 8
    assert again.page is not None
    assert again.page.hits == 1
    statistics = r.cache.statistics()
    assert (statistics.queries, statistics.hits, statistics.cached_tokens) == (2, 1, 8)


def test_an_answer_is_found_by_the_next_turn_of_the_chat() -> None:
    r = rig()
    first = r.submit(prompt(6), max_tokens=8)
    r.run()
    assert first.tokens[6:].tolist() == [7] * 8
    again = r.submit([*prompt(6), *[7] * 8, 1])
    r.step()
    assert again.cached_tokens == 12  # the last token of the answer was never computed


def test_a_prompt_waits_for_pages_that_are_being_computed() -> None:
    r = rig(budget=8)
    leader, follower = r.submit(prompt(20)), r.submit([*prompt(16), 50, 51])
    assert r.step() == [(leader, 8)]
    assert r.step() == [(leader, 8)]
    assert r.step() == [(leader, 4), (follower, 2)]
    assert follower.cached_tokens == 16


def test_those_behind_a_prompt_that_waits_for_pages_go_on() -> None:
    r = rig()
    leader, follower = r.submit(prompt(9)), r.submit(prompt(9))
    other, elsewhere = r.submit(prompt(2, 100)), r.submit(prompt(2), tenant="b")
    assert r.step() == [(leader, 9), (elsewhere, 2), (other, 2)]
    assert r.step()[-1] == (follower, 1)
    assert r.cache.statistics().pages == 2


@pytest.mark.parametrize(
    ("tokens", "prefix"),
    [
        pytest.param([*prompt(3), 99, *prompt(4)], {}, id="another page"),
        pytest.param(prompt(4), {}, id="the last token is never found"),
        pytest.param(prompt(8), {"use": False}, id="does not look"),
        pytest.param(prompt(8), {"namespace": b"elsewhere"}, id="may not look"),
    ],
)
def test_who_would_find_nothing_does_not_wait(tokens: list[int], prefix: dict[str, Any]) -> None:
    r = rig()
    leader = r.submit(prompt(8))
    other = r.submit(tokens, **prefix)
    assert r.step() == [(leader, 8), (other, len(tokens))]


def test_nobody_waits_for_pages_that_will_not_be_kept() -> None:
    r = rig(budget=32)
    hidden, other = r.submit(prompt(8), use=False), r.submit(prompt(9))
    assert r.step() == [(hidden, 8), (other, 9)]


def test_who_waited_for_an_aborted_prompt_computes_it() -> None:
    r = rig(budget=8)
    leader, follower = r.submit(prompt(20)), r.submit(prompt(20))
    r.step()
    r.plan()
    r.scheduler.finish(leader, 0.0)
    assert r.step() == [(follower, 8)]
    assert follower.cached_tokens == 8


def test_who_waited_for_a_preempted_prompt_computes_it() -> None:
    r = rig(8, budget=2)
    oldest = r.submit(prompt(4, 100), max_tokens=24, tenant="o")
    r.step()
    r.step()
    leader = r.submit(prompt(20), tenant="a", namespace=b"shared")
    r.step()
    follower = r.submit(prompt(20), tenant="b", namespace=b"shared")
    while not leader.num_preempted:
        assert follower in r.scheduler.waiting
        r.step()
    r.scheduler.finish(oldest, 0.0)
    cached = r.cache.peek(b"shared", follower.tokens) * BLOCK
    assert r.step() == [(follower, 2)]  # its tenant was served less, so now it leads
    assert follower.cached_tokens == cached > 0
    assert leader in r.scheduler.waiting


def test_what_two_computed_at_once_is_kept_once() -> None:
    r = rig()
    first, second = r.submit(prompt(4)), r.submit(prompt(4))  # a page each, of which no token could be taken over
    assert r.step() == [(first, 4), (second, 4)]
    assert first.blocks == second.blocks
    assert (r.cache.num_pages, r.private, r.pool.num_free) == (1, 0, 63)
    r.run()
    assert r.all_is_free()


def test_who_does_not_use_the_cache_neither_finds_nor_leaves_anything() -> None:
    r = rig()
    r.submit(prompt(9), max_tokens=1)
    r.step()
    hidden = r.submit(prompt(9, 100), use=False)
    assert r.step() == [(hidden, 9)]
    r.run()
    assert r.cache.peek(b"a", prompt(9, 100)) == 0
    blind = r.submit(prompt(9), use=False)
    assert r.step() == [(blind, 9)]
    assert blind.cached_tokens == 0
    assert r.cache.statistics().queries == 1


def test_pages_are_found_in_their_namespace_only() -> None:
    r = rig()
    r.submit(prompt(9), tenant="a", max_tokens=1)
    r.step()
    other = r.submit(prompt(9), tenant="b", max_tokens=1)
    assert r.step() == [(other, 9)]


def test_only_pages_of_the_prompt_are_pinned() -> None:
    r = rig()
    r.submit(prompt(6), max_tokens=12, pin=True)
    r.run()
    assert (r.cache.num_pages, r.cache.num_pinned) == (4, 1)


def test_pages_that_were_there_before_are_pinned_too() -> None:
    r = rig()
    r.submit(prompt(9), max_tokens=1)
    r.step()
    assert r.cache.num_pinned == 0
    r.submit(prompt(9), max_tokens=1, pin=True)  # it fills no page of its own
    r.step()
    assert r.cache.num_pinned == 2


@pytest.mark.parametrize("pin", [False, True])
def test_pages_live_as_long_as_their_request_asks(pin: bool) -> None:
    r = rig()
    r.submit(prompt(9), max_tokens=1, ttl_s=5.0, pin=pin)
    r.step(now_s=10.0)
    r.plan(now_s=14.9)
    assert r.cache.num_pages == 2
    r.plan(now_s=15.0)
    assert r.cache.num_pages == 0


def test_waiting_for_room_is_no_query() -> None:
    r = rig(4)
    r.submit(prompt(8), max_tokens=8)
    r.submit(prompt(12, 100), max_tokens=1)
    for _ in range(3):
        r.step()
    assert r.cache.statistics().queries == 1


# Tenants


def test_a_tenant_with_a_hundred_requests_does_not_starve_one_with_one() -> None:
    r = rig(max_sequences=1)
    many = [r.submit(prompt(8, 1000 + 10 * place), max_tokens=1, tenant="many") for place in range(100)]
    for _ in range(10):
        r.step()
    one = r.submit(prompt(8), max_tokens=1, tenant="one")
    order = r.run()
    assert order.index(one) <= 1
    assert set(order) >= set(many[10:])


def test_tenants_are_served_alike_in_tokens_not_in_requests() -> None:
    r = rig(max_sequences=1)
    for place in range(20):
        r.submit(prompt(2, 1000 + 10 * place), max_tokens=1, tenant="short")
        r.submit(prompt(16, 5000 + 20 * place), max_tokens=1, tenant="long")
    served = {"short": 0, "long": 0}
    for _ in range(18):
        ((sequence, count),) = r.step()
        served[sequence.tenant] += count
    assert served == {"short": 32, "long": 32}


def test_a_tenant_that_was_idle_does_not_hold_up_the_others() -> None:
    r = rig(max_sequences=1)
    early = r.submit(prompt(8), max_tokens=1, tenant="idle")
    busy = [r.submit(prompt(8, 1000 + 10 * place), max_tokens=1, tenant="busy") for place in range(12)]
    for _ in range(8):
        r.step()
    assert early.finish_reason() == "length"
    for place in range(4):
        r.submit(prompt(8, 2000 + 10 * place), max_tokens=1, tenant="idle")
    ran = [sequence.tenant for sequence in r.run()]
    assert ran[:4] in (["busy", "idle"] * 2, ["idle", "busy"] * 2)
    assert len(ran) == len(busy) - 7 + 4


def test_what_a_tenant_had_counts_as_long_as_it_runs() -> None:
    r = rig(max_sequences=2, budget=32)
    ends = r.submit(prompt(16), tenant="a")
    r.submit(prompt(2), tenant="b")
    r.step()
    r.scheduler.finish(r.submit([1], tenant="c"), 0.0)
    r.submit(prompt(2, 100), tenant="a")
    least_served = r.submit(prompt(2, 100), tenant="b")
    r.scheduler.finish(ends, 0.0)
    assert r.step()[-1] == (least_served, 2)


def test_inside_a_tenant_cached_prompts_go_first() -> None:
    r = rig(max_sequences=1)
    r.submit(prompt(8), max_tokens=1)
    r.step()
    cold, warm = r.submit(prompt(12, 100), max_tokens=1), r.submit(prompt(12), max_tokens=1)
    assert r.run() == [warm, cold]


@pytest.mark.parametrize("warm", ["nobody", "a", "b"])
def test_what_is_cached_for_a_tenant_does_not_change_the_order_of_tenants(warm: str) -> None:
    r = rig(budget=64, max_sequences=1)
    r.submit(prompt(12), max_tokens=1, tenant=warm)
    r.run()
    b, a = r.submit(prompt(12), tenant="b", max_tokens=1), r.submit(prompt(12), tenant="a", max_tokens=1)
    assert r.run() == [b, a]


# The end


@pytest.mark.parametrize("use", [True, False])
@pytest.mark.parametrize("steps", range(6))
@pytest.mark.parametrize("planned", [False, True])
def test_whenever_a_sequence_ends_all_it_held_is_free(steps: int, planned: bool, use: bool) -> None:
    r = rig(8, budget=4)
    ends = r.submit(prompt(9), max_tokens=8, use=use)  # waits, has a chunk, two, three, decodes, decodes
    for _ in range(steps):
        r.step()
    if planned:
        r.plan()
    r.scheduler.finish(ends, 0.0)
    assert r.all_is_free()
    assert not list(r.scheduler.waiting)
    assert not r.scheduler.running
    assert r.plan() == []
    r.scheduler.finish(ends, 0.0)  # once more: it is not here
    assert r.all_is_free()


def test_a_preempted_sequence_can_end() -> None:
    r, older, younger = two_that_outgrow_the_pool()
    r.plan()
    r.scheduler.finish(younger, 0.0)
    assert r.plan() == [(older, 1)]
    r.run()
    assert r.all_is_free()


def test_what_failed_leaves_nothing_of_its_step() -> None:
    r = rig(budget=8)
    fails = r.submit(prompt(20))
    r.step()
    r.plan()
    r.scheduler.finish(fails, 0.0)
    assert r.cache.peek(b"a", prompt(20)) == 2
    assert r.all_is_free()


def test_a_purged_namespace_is_not_found_though_a_sequence_runs_in_it() -> None:
    r = rig(budget=8)
    running = r.submit(prompt(20))
    r.step()
    assert r.cache.purge(b"a") == 2
    r.step()
    late = r.submit(prompt(20))
    assert r.step() == [(running, 4), (late, 4)]  # nor does it wait for what the other computes
    assert late.cached_tokens == 0
    assert not set(running.blocks) & set(late.blocks)
    r.run()
    assert r.all_is_free()
