"""The scheduler by example: what a step takes, who is admitted, who is preempted."""

import pytest
from schedules import BLOCK, prompt, rig, two_that_outgrow_the_pool

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
        (part,) = r.scheduler.plan(0.0).parts
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
