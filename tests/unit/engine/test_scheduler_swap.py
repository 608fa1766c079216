"""What is preempted is copied to the host's memory, and copied back when it goes on."""

import pytest
from schedules import Rig, prompt, rig

from genkan.engine.plan import Plan
from genkan.engine.sequence import Sequence


def outgrown(host_blocks: int, *, use: bool = False) -> tuple[Rig, Sequence, Sequence]:
    """Six blocks, three for each of two sequences; the next step preempts the younger."""
    r = rig(6, host_blocks=host_blocks)
    older, younger = r.submit(prompt(8), 16, use=use), r.submit(prompt(8, 100), 16, use=use)
    for _ in range(5):
        r.step()
    return r, older, younger


def plan(r: Rig) -> Plan:
    made = r.scheduler.plan(0.0)
    for part in made.parts:
        r.compute(part, 0.0)
    return made


def test_what_was_computed_is_copied_out_before_the_step() -> None:
    r, older, younger = outgrown(host_blocks=3)
    blocks = younger.blocks
    (copy,) = plan(r).copies_out
    assert (copy.sequence, copy.blocks, len(set(copy.host_blocks))) == (younger, blocks, 3)
    assert (list(younger.blocks), younger.num_computed, r.host.num_free) == ([], 0, 0)
    r.scheduler.check()
    assert older.num_preempted == 0


def test_it_is_copied_back_and_goes_on_where_it_was() -> None:
    r, older, younger = outgrown(host_blocks=3)
    (out,) = plan(r).copies_out
    r.scheduler.finish(older, 0.0)
    made = plan(r)
    (back,) = made.copies_in
    assert back.host_blocks == out.host_blocks
    assert back.blocks == younger.blocks[:3]
    assert [(part.sequence, part.count) for part in made.parts] == [(younger, 1)]
    assert r.host.num_free == 3
    r.run()
    assert r.all_is_free()


def test_pages_that_are_still_cached_are_not_copied_back() -> None:
    r, older, younger = outgrown(host_blocks=3, use=True)
    (out,) = plan(r).copies_out
    r.scheduler.finish(older, 0.0)
    assert r.cache.peek(b"a", younger.tokens) == 2
    (back,) = plan(r).copies_in
    assert back.host_blocks == out.host_blocks[2:]
    assert back.blocks == younger.blocks[2:3]
    assert r.cache.peek(b"a", [*younger.tokens[:12], 0]) == 3  # what came back is a page again
    r.run()
    assert r.all_is_free()


def test_pages_that_others_hold_are_not_copied_out() -> None:
    r = rig(9, host_blocks=9)
    older, younger = r.submit(prompt(9), 16), r.submit([*prompt(8), 50], 16)
    while not r.scheduler.num_preemptions:
        copies = plan(r).copies_out
    (copy,) = copies
    assert (copy.sequence, younger.num_preempted) == (younger, 1)
    assert set(copy.blocks).isdisjoint(older.blocks)
    assert younger.host_copy is not None
    assert younger.host_copy.first == 2
    r.run()
    assert r.host.num_free == 9
    assert r.all_is_free()


def test_a_copy_that_goes_on_from_pages_that_are_gone_is_of_no_use() -> None:
    r = rig(9, host_blocks=9)
    older, younger = r.submit(prompt(9), 16), r.submit([*prompt(8), 50], 16)
    while not younger.num_preempted:
        plan(r)
    r.scheduler.finish(older, 0.0)
    r.cache.purge(b"a")
    made = plan(r)
    assert made.copies_in == []
    assert [(part.sequence, part.count) for part in made.parts] == [(younger, min(len(younger.tokens) - 1, 16))]
    assert r.host.num_free == 9


@pytest.mark.parametrize("host_blocks", [0, 2])
def test_without_room_on_the_host_it_is_computed_again(host_blocks: int) -> None:
    r, older, younger = outgrown(host_blocks=host_blocks)
    assert plan(r).copies_out == []
    r.scheduler.finish(older, 0.0)
    made = plan(r)
    assert made.copies_in == []
    assert [(part.sequence, part.count) for part in made.parts] == [(younger, 13)]
    assert (r.scheduler.num_preemptions, r.scheduler.num_swaps) == (1, 0)


def test_whoever_ends_while_it_waits_frees_the_hosts_blocks() -> None:
    r, _, younger = outgrown(host_blocks=3)
    plan(r)
    r.scheduler.finish(younger, 0.0)
    assert r.host.num_free == 3
    r.run()
    assert r.all_is_free()


def test_what_could_not_be_copied_out_is_computed_again() -> None:
    r, older, younger = outgrown(host_blocks=3)
    made = r.scheduler.plan(0.0)
    r.scheduler.copy_failed(made.copies_out[0], 0.0)
    r.compute(made.parts[0], 0.0)
    assert r.host.num_free == 3
    r.scheduler.finish(older, 0.0)
    assert plan(r).copies_in == []
    assert younger.num_computed == 13


def test_what_could_not_be_copied_back_waits_again() -> None:
    r, older, younger = outgrown(host_blocks=3)
    plan(r)
    r.scheduler.finish(older, 0.0)
    (back,) = r.scheduler.plan(0.0).copies_in
    r.scheduler.copy_failed(back, 0.0)
    assert younger in r.scheduler.waiting
    r.scheduler.check()
    assert [(part.sequence, part.count) for part in plan(r).parts] == [(younger, 13)]
    r.run()
    assert r.all_is_free()
