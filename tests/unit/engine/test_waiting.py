"""Who is admitted next: fair between tenants, prefix-aware inside one."""

from collections.abc import Callable

from genkan.engine.sampling_params import SamplingParams
from genkan.engine.sequence import Sequence
from genkan.engine.waiting import LOOKAHEAD, MAX_OVERTAKEN, WaitingLine

CachedPages = Callable[[Sequence], int]


def waiter(tenant: str = "a", cached_pages: int = 0, priority: int = 0) -> Sequence:
    """A sequence whose first token says how many of its pages ``found`` shall find."""
    return Sequence([cached_pages], SamplingParams(max_tokens=1), tenant=tenant, priority=priority)


def found(sequence: Sequence) -> int:
    return sequence.tokens[0]


def line_of(*waiting: Sequence) -> WaitingLine:
    line = WaitingLine()
    for sequence in waiting:
        line.add(sequence)
    return line


def order(line: WaitingLine, cached_pages: CachedPages = found) -> list[Sequence]:
    return [sequence for tenant in line.candidates(cached_pages) for sequence in tenant]


# Who waits


def test_those_that_wait_are_counted_and_found() -> None:
    a, b, absent = waiter("a"), waiter("b"), waiter("a")
    line = line_of(a, b)
    assert len(line) == 2
    assert list(line) == [a, b]
    assert a in line
    assert absent not in line


def test_who_is_removed_waits_no_longer() -> None:
    kept, fresh, preempted = waiter(), waiter(), waiter()
    line = line_of(kept, fresh)
    line.put_back(preempted)
    line.remove(fresh)
    line.remove(preempted)
    assert list(line) == order(line) == [kept]


def test_who_is_admitted_waits_no_longer() -> None:
    kept, fresh, preempted = waiter(), waiter(), waiter()
    line = line_of(kept, fresh)
    line.put_back(preempted)
    line.admitted(fresh)
    line.admitted(preempted)
    assert list(line) == order(line) == [kept]


# Between tenants


def test_the_tenant_that_was_served_least_goes_first() -> None:
    a, b, c = waiter("a"), waiter("b"), waiter("c")
    line = line_of(a, b, c)
    line.served("a", 30)
    line.served("b", 10)
    line.served("c", 20)
    assert order(line) == [b, c, a]
    line.served("b", 15)
    assert order(line) == [c, b, a]


def test_what_was_not_computed_after_all_is_taken_back() -> None:
    a, b = waiter("a"), waiter("b")
    line = line_of(a, b)
    line.served("a", 9)
    line.served("b", 5)
    line.served("a", -8)
    assert order(line) == [a, b]


def test_tenants_served_alike_go_in_the_order_they_came() -> None:
    b, a = waiter("b"), waiter("a")
    assert order(line_of(b, a)) == [b, a]


def test_a_tenant_without_waiting_sequences_is_no_candidate() -> None:
    a, b = waiter("a"), waiter("b")
    line = line_of(a, b)
    line.admitted(a)
    assert [list(tenant) for tenant in line.candidates(found)] == [[b]]


def test_a_newcomer_starts_level_with_the_least_served() -> None:
    a, b, newcomer = waiter("a"), waiter("b"), waiter("c")
    line = line_of(a, b)
    line.served("a", 1000)
    line.served("b", 500)
    line.add(newcomer)
    line.served("c", 1)
    assert order(line) == [b, newcomer, a]


def test_idleness_saves_nothing_up() -> None:
    a, b, again = waiter("a"), waiter("b"), waiter("a")
    line = line_of(a, b)
    line.served("a", 10)
    line.remove(a)
    line.forget_idle(running={"b"})
    line.served("b", 1000)
    line.add(again)  # its 10 tokens would let it have 990 before the other's next
    line.served("a", 1)
    assert order(line) == [b, again]


def test_a_tenant_that_runs_is_not_idle() -> None:
    a, b, again = waiter("a"), waiter("b"), waiter("a")
    line = line_of(a, b)
    line.served("a", 10)
    line.admitted(a)
    line.forget_idle(running={"a"})
    line.add(again)  # level with b, were its counter new
    assert order(line) == [b, again]


def test_a_tenant_that_waits_is_not_idle() -> None:
    a, b = waiter("a"), waiter("b")
    line = line_of(a, b)
    line.served("a", 10)
    line.forget_idle(running=set())
    assert order(line) == [b, a]


def test_what_is_cached_does_not_move_a_tenant() -> None:
    cold, warm = waiter("a", cached_pages=0), waiter("b", cached_pages=100)
    assert order(line_of(cold, warm)) == [cold, warm]


def test_the_cache_is_not_asked_for_tenants_whose_turn_does_not_come() -> None:
    asked: list[Sequence] = []

    def ask(sequence: Sequence) -> int:
        asked.append(sequence)
        return 0

    first, second, other = waiter("a"), waiter("a"), waiter("b")
    assert next(next(line_of(first, second, other).candidates(ask))) is first
    assert asked == [first, second]


# Inside a tenant


def test_the_longest_cached_prefix_goes_first_and_of_equals_who_came_first() -> None:
    none, two, one, two_later = (waiter(cached_pages=pages) for pages in (0, 2, 1, 2))
    assert order(line_of(none, two, one, two_later)) == [two, two_later, one, none]


def test_the_preempted_go_before_all_others_the_last_put_back_first() -> None:
    warm, younger, older = waiter(cached_pages=9), waiter(), waiter()
    line = line_of(warm)
    line.put_back(younger)  # the youngest is preempted first, so the oldest is put back last
    line.put_back(older)
    assert order(line) == [older, younger, warm]


def test_only_the_first_few_are_compared() -> None:
    asked: list[Sequence] = []

    def ask(sequence: Sequence) -> int:
        asked.append(sequence)
        return found(sequence)

    compared = [waiter() for _ in range(LOOKAHEAD)]
    beyond = waiter(cached_pages=9)
    assert order(line_of(*compared, beyond), ask) == compared
    assert asked == compared


def test_overtaken_are_those_that_came_before_the_admitted_one() -> None:
    first, second, third = waiter(), waiter(), waiter()
    elsewhere = waiter("b")
    line = line_of(first, second, third, elsewhere)
    line.admitted(second)
    assert [each.overtaken for each in (first, second, third, elsewhere)] == [1, 0, 0, 0]


def test_a_preempted_one_overtakes_nobody() -> None:
    fresh, preempted = waiter(), waiter()
    line = line_of(fresh)
    line.put_back(preempted)
    line.admitted(preempted)
    assert fresh.overtaken == 0


def test_who_was_overtaken_too_often_goes_before_longer_prefixes() -> None:
    cold = waiter()
    line = line_of(cold)
    for times in range(MAX_OVERTAKEN):
        assert cold.overtaken == times
        warm = waiter(cached_pages=1)
        line.add(warm)
        assert order(line)[0] is warm
        line.admitted(warm)
    warm, preempted = waiter(cached_pages=1), waiter()
    line.add(warm)
    line.put_back(preempted)
    assert order(line) == [preempted, cold, warm]


# Priorities inside a tenant


def test_the_highest_priority_goes_first_before_prefixes_and_the_preempted() -> None:
    low, preempted, warm, high = (waiter(cached_pages=9), waiter(), waiter(cached_pages=5), waiter(priority=1))
    line = line_of(low, warm, high)
    line.put_back(preempted)
    lowest = waiter(cached_pages=99, priority=-1)
    line.put_back(lowest)
    assert order(line) == [high, preempted, low, warm, lowest]
    assert len(line) == len(list(line)) == 5


def test_priorities_of_one_tenant_are_nothing_to_another() -> None:
    a, b = waiter("a"), waiter("b", priority=99)
    assert order(line_of(a, b)) == [a, b]


def test_who_is_passed_by_a_higher_priority_was_not_overtaken() -> None:
    low, high = waiter(), waiter(priority=1)
    line = line_of(low, high)
    line.admitted(high)
    assert low.overtaken == 0
    line.remove(low)
    assert not line.tenants()
