"""The scheduler by example: shared prefixes, tenants beside each other, and how a sequence ends."""

from typing import Any

import pytest
from schedules import BLOCK, prompt, rig, two_that_outgrow_the_pool

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
