"""Priorities: they order a tenant's own sequences, and cost no other tenant anything."""

from schedules import Rig, prompt, rig

from genkan.engine.sequence import Sequence


def names(r: Rig, **named: Sequence) -> list[str]:
    """Those that run, in their places."""
    return [name for running in r.scheduler.running for name, each in named.items() if each is running]


def test_the_highest_priority_is_admitted_first() -> None:
    r = rig(max_sequences=1)
    low, high, middle = (r.submit(prompt(2, 100 * (place + 1)), 1, priority=place) for place in (-1, 9, 3))
    assert r.run() == [high, middle, low]


def test_a_priority_does_not_move_a_tenant() -> None:
    r = rig(max_sequences=1)
    first = r.submit(prompt(4), 1, tenant="a")
    other, urgent = r.submit(prompt(4), 1, tenant="b"), r.submit(prompt(4, 100), 1, tenant="a", priority=99)
    assert r.run() == [urgent, other, first]  # a's turn, then b's, then a's


def test_of_one_priority_the_preempted_goes_first() -> None:
    r = rig(6)
    older, younger = r.submit(prompt(8), 16), r.submit(prompt(8, 100), 16)
    while not younger.num_preempted:
        r.step()
    fresh, urgent = r.submit(prompt(2, 200), 1), r.submit(prompt(2, 300), 1, priority=1)
    r.scheduler.finish(older, 0.0)
    assert [sequence for sequence, _ in r.step()] == [urgent, younger]
    assert r.run().index(fresh) > 0


def test_the_lowest_priority_of_the_last_ones_tenant_is_preempted() -> None:
    r = rig(9, budget=64)
    low, high = r.submit(prompt(8), 24), r.submit(prompt(8, 100), 24, priority=1)
    while not r.scheduler.num_preemptions:
        r.step()
    assert (low.num_preempted, high.num_preempted) == (1, 0)


def test_one_of_a_higher_priority_takes_the_place_of_a_lower_one_of_its_tenant() -> None:
    r = rig(budget=64)
    low = r.submit(prompt(2), tenant="a")
    other = r.submit(prompt(2), tenant="b")
    lower = r.submit(prompt(2, 50), tenant="a", priority=-1)
    r.step()
    assert names(r, low=low, other=other, lower=lower) == ["low", "other", "lower"]
    high = r.submit(prompt(2, 100), tenant="a", priority=1)
    r.step()
    assert names(r, low=low, other=other, lower=lower, high=high) == ["high", "other", "low", "lower"]
    equal = r.submit(prompt(2, 200), tenant="a", priority=0)
    r.step()
    assert names(r, low=low, equal=equal, lower=lower, other=other) == ["other", "low", "equal", "lower"]


def test_a_priority_is_no_help_against_another_tenant() -> None:
    r = rig(6)
    older, younger = r.submit(prompt(8), 16, tenant="a"), r.submit(prompt(8, 100), 16, tenant="b", priority=99)
    r.run()
    assert older.num_preempted == 0
    assert younger.num_preempted > 0


def test_everyone_ends_whatever_the_priorities() -> None:
    r = rig(6)
    sequences = [r.submit(prompt(4, 100 * place), 18, tenant="ab"[place % 2], priority=place % 3) for place in range(6)]
    assert set(r.run()) == set(sequences)
    assert r.scheduler.num_preemptions > 0
    assert [sequence.finish_reason() for sequence in sequences] == ["length"] * 6
    assert r.all_is_free()
