"""When a circuit opens, who may ask meanwhile, and what closes it."""

import heapq
import random
from collections.abc import Callable

import pytest

from genkan.config import BreakerConfig
from genkan.gateway.breaker import Attempt, Breaker, MemoryCircuits, State

POLICY = BreakerConfig()
OPEN_S = POLICY.open_s

End = Callable[[Attempt, float], None]


class Told(list[tuple[str, State, State]]):
    """What ``on_change`` was told."""

    def __call__(self, deployment: str, before: State, after: State) -> None:
        self.append((deployment, before, after))


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def breaker(told: Told) -> Breaker:
    return Breaker("primary", POLICY, MemoryCircuits(), told)


def begun(breaker: Breaker, now_s: float, *, forced: bool = False) -> Attempt:
    attempt = breaker.begin(now_s, forced=forced)
    assert attempt is not None
    return attempt


def fail(breaker: Breaker, now_s: float, times: int = 1) -> None:
    """Attempts that fail at once, one after the other."""
    for _ in range(times):
        begun(breaker, now_s).failed(now_s)


def test_a_new_circuit_is_closed(breaker: Breaker, told: Told) -> None:
    assert breaker.state(0.0) == "closed"
    assert breaker.admits(0.0)
    assert breaker.reopens_in_s(0.0) == 0
    assert told == []


# What opens it


def test_two_failures_in_a_row_open_the_circuit_of_who_asks_alone(breaker: Breaker, told: Told) -> None:
    fail(breaker, 1.0)
    assert breaker.state(1.0) == "closed"
    fail(breaker, 2.0)
    assert breaker.state(2.0) == "open"
    assert not breaker.admits(2.0)
    assert breaker.begin(2.0) is None
    assert told == [("primary", "closed", "open")]


@pytest.mark.parametrize(("others", "needed"), [(0, 2), (1, 3), (2, 4), (3, 5), (4, 5), (63, 5)])
def test_every_other_attempt_in_flight_asks_for_one_more_failure_up_to_five(
    breaker: Breaker, others: int, needed: int
) -> None:
    for _ in range(others):
        begun(breaker, 0.0)
    fail(breaker, 0.0, times=needed - 1)
    assert breaker.state(0.0) == "closed"
    fail(breaker, 0.0)
    assert breaker.state(0.0) == "open"


def test_attempts_that_ended_are_in_flight_no_more(breaker: Breaker) -> None:
    for end in (Attempt.succeeded, Attempt.ignored):
        end(begun(breaker, 0.0), 0.0)
    fail(breaker, 0.0, times=2)
    assert breaker.state(0.0) == "open"


def test_a_success_between_failures_begins_the_row_anew(breaker: Breaker) -> None:
    for now_s in (0.0, 100.0, 200.0):
        fail(breaker, now_s)
        begun(breaker, now_s).succeeded(now_s)
    assert breaker.state(200.0) == "closed"


def test_an_end_that_is_ignored_neither_counts_nor_breaks_a_row(breaker: Breaker) -> None:
    fail(breaker, 0.0)
    for _ in range(10):
        begun(breaker, 0.0).ignored(0.0)
    assert breaker.state(0.0) == "closed"
    fail(breaker, 0.0)
    assert breaker.state(0.0) == "open"


def fail_every_second(breaker: Breaker, attempts: int, step_s: float = 0.0) -> int:
    """Attempts, of which every second one fails; how many there were until the circuit opened."""
    for number in range(attempts):
        now_s = number * step_s
        attempt = begun(breaker, now_s)
        attempt.failed(now_s) if number % 2 else attempt.succeeded(now_s)
        if breaker.state(now_s) != "closed":
            return number + 1
    return 0


def test_half_of_ten_recent_attempts_open_the_circuit(breaker: Breaker) -> None:
    assert fail_every_second(breaker, 100) == 10


def test_attempts_of_long_ago_are_too_few_for_a_share(breaker: Breaker) -> None:
    # 1 / (1 - exp(-step / window)) attempts are recent: 5 in the end, when one comes every 7 s.
    assert fail_every_second(breaker, 1000, step_s=7.0) == 0


def test_a_smaller_share_of_failures_opens_nothing(breaker: Breaker) -> None:
    for number in range(3000):
        attempt = begun(breaker, number * 0.01)
        attempt.succeeded(number * 0.01) if number % 3 else attempt.failed(number * 0.01)
    assert breaker.state(30.0) == "closed"


@pytest.mark.parametrize(("pause_s", "state"), [(0.0, "closed"), (10 * POLICY.window_s, "open")])
def test_a_healthy_time_weighs_against_failures_until_it_is_long_ago(
    breaker: Breaker, pause_s: float, state: State
) -> None:
    for number in range(1000):
        begun(breaker, number * 0.01).succeeded(number * 0.01)
    now_s = 10.0 + pause_s
    for number in range(11):
        attempt = begun(breaker, now_s)
        attempt.succeeded(now_s) if number % 2 else attempt.failed(now_s)
    assert breaker.state(now_s) == state


def test_time_that_runs_back_changes_nothing(breaker: Breaker) -> None:
    begun(breaker, 1e6).succeeded(1e6)
    begun(breaker, 0.0).succeeded(0.0)
    fail(breaker, 1e6, times=2)
    assert breaker.state(1e6) == "open"


# What happens while it is open


def test_open_s_after_the_failure_one_attempt_may_probe(breaker: Breaker, told: Told) -> None:
    fail(breaker, 0.0, times=2)
    assert breaker.reopens_in_s(10.0) == OPEN_S - 10.0
    assert breaker.begin(OPEN_S - 0.001) is None
    assert breaker.state(OPEN_S) == "half_open"
    assert breaker.reopens_in_s(OPEN_S) == 0
    begun(breaker, OPEN_S)
    assert not breaker.admits(OPEN_S)
    assert breaker.begin(OPEN_S) is None
    assert told[1:] == [("primary", "open", "half_open")]


def test_asking_whether_it_admits_changes_nothing(breaker: Breaker, told: Told) -> None:
    fail(breaker, 0.0, times=2)
    assert [breaker.admits(OPEN_S) for _ in range(3)] == [True] * 3
    assert len(told) == 1


def test_a_probe_that_succeeds_closes_the_circuit_and_the_counts_are_forgotten(breaker: Breaker, told: Told) -> None:
    fail(breaker, 0.0, times=2)
    begun(breaker, OPEN_S).succeeded(OPEN_S + 1)
    assert breaker.state(OPEN_S + 1) == "closed"
    fail(breaker, OPEN_S + 1)
    assert breaker.state(OPEN_S + 1) == "closed"
    assert [after for _, _, after in told] == ["open", "half_open", "closed"]


def test_a_probe_that_fails_opens_the_circuit_for_as_long_again(breaker: Breaker, told: Told) -> None:
    fail(breaker, 0.0, times=2)
    for number in range(1, 5):
        begun(breaker, number * OPEN_S).failed(number * OPEN_S)
        assert breaker.reopens_in_s(number * OPEN_S) == OPEN_S
    assert [after for _, _, after in told] == ["open", *["half_open", "open"] * 4]


@pytest.mark.parametrize(
    ("took_s", "reopens_in_s"), [(0.0, OPEN_S), (7.0, OPEN_S - 7.0), (15.0, 15.0), (100.0, OPEN_S / 2)]
)
def test_it_is_open_from_the_failures_beginning_and_half_as_long_from_its_end(
    breaker: Breaker, took_s: float, reopens_in_s: float
) -> None:
    fail(breaker, 0.0)
    begun(breaker, 0.0).failed(took_s)
    assert breaker.reopens_in_s(took_s) == reopens_in_s


def test_a_probe_whose_end_says_nothing_makes_room_for_another(breaker: Breaker) -> None:
    fail(breaker, 0.0, times=2)
    begun(breaker, OPEN_S).ignored(OPEN_S)
    assert breaker.state(OPEN_S) == "half_open"
    begun(breaker, OPEN_S).succeeded(OPEN_S)
    assert breaker.state(OPEN_S) == "closed"


def test_a_lost_probe_makes_room_for_another_after_open_s(breaker: Breaker) -> None:
    fail(breaker, 0.0, times=2)
    begun(breaker, OPEN_S)
    assert breaker.reopens_in_s(OPEN_S + 10) == OPEN_S - 10
    assert breaker.begin(2 * OPEN_S - 0.001) is None
    begun(breaker, 2 * OPEN_S)
    assert breaker.begin(2 * OPEN_S) is None


def test_probes_slower_than_open_s_still_close_the_circuit(breaker: Breaker) -> None:
    fail(breaker, 0.0, times=2)
    slow = begun(breaker, OPEN_S)
    later = begun(breaker, 2 * OPEN_S)
    slow.succeeded(2 * OPEN_S + 1)
    assert breaker.state(2 * OPEN_S + 1) == "closed"
    later.failed(2 * OPEN_S + 2)
    assert breaker.state(2 * OPEN_S + 2) == "closed"


@pytest.mark.parametrize("end", [Attempt.failed, Attempt.ignored])
def test_a_probe_that_was_overtaken_leaves_the_decision_to_the_next(breaker: Breaker, end: End) -> None:
    fail(breaker, 0.0, times=2)
    slow = begun(breaker, OPEN_S)
    later = begun(breaker, 2 * OPEN_S)
    end(slow, 2 * OPEN_S + 1)
    assert breaker.begin(2 * OPEN_S + 1) is None
    later.succeeded(2 * OPEN_S + 2)
    assert breaker.state(2 * OPEN_S + 2) == "closed"


@pytest.mark.parametrize("end", [Attempt.succeeded, Attempt.failed, Attempt.ignored])
def test_what_began_before_the_circuit_opened_neither_closes_it_nor_keeps_it_open(breaker: Breaker, end: End) -> None:
    early = [begun(breaker, 0.0) for _ in range(10)]
    fail(breaker, 0.0, times=5)
    for attempt in early[:5]:
        end(attempt, 20.0)
    assert breaker.state(20.0) == "open"
    assert breaker.reopens_in_s(20.0) == OPEN_S - 20.0
    probe = begun(breaker, OPEN_S)
    end(early[5], OPEN_S)
    assert breaker.begin(OPEN_S) is None
    probe.succeeded(OPEN_S)
    for attempt in early[6:]:
        end(attempt, OPEN_S)
    assert breaker.state(OPEN_S) == "closed"
    fail(breaker, OPEN_S)  # the first that counts
    assert breaker.state(OPEN_S) == "closed"


def test_a_success_of_before_breaks_no_row_of_now(breaker: Breaker) -> None:
    early = begun(breaker, 0.0)
    fail(breaker, 0.0, times=3)
    begun(breaker, OPEN_S).succeeded(OPEN_S)
    fail(breaker, OPEN_S)
    early.succeeded(OPEN_S)
    fail(breaker, OPEN_S)
    assert breaker.state(OPEN_S) == "open"


def test_a_lost_probe_of_before_a_failed_one_closes_nothing(breaker: Breaker) -> None:
    fail(breaker, 0.0, times=2)
    lost = begun(breaker, OPEN_S)
    begun(breaker, 2 * OPEN_S).failed(2 * OPEN_S)
    lost.succeeded(2 * OPEN_S)
    assert breaker.state(2 * OPEN_S) == "open"


def test_only_the_first_end_of_an_attempt_counts(breaker: Breaker) -> None:
    attempt = begun(breaker, 0.0)
    for _ in range(5):
        attempt.failed(0.0)
    attempt.succeeded(0.0)
    attempt.ignored(0.0)
    assert breaker.state(0.0) == "closed"
    fail(breaker, 0.0)
    assert breaker.state(0.0) == "open"


# The last target of a chain


def test_an_open_circuit_admits_one_forced_attempt_at_a_time(breaker: Breaker) -> None:
    fail(breaker, 0.0, times=2)
    first = begun(breaker, 1.0, forced=True)
    assert breaker.state(1.0) == "half_open"
    assert breaker.begin(1.0, forced=True) is None
    assert breaker.begin(OPEN_S) is None  # it is the probe
    first.failed(2.0)
    assert breaker.reopens_in_s(2.0) == OPEN_S - 1.0
    begun(breaker, 2.0, forced=True).succeeded(2.0)
    assert breaker.state(2.0) == "closed"


def test_a_forced_attempt_that_takes_long_keeps_nobody_from_the_next_a_second_later(breaker: Breaker) -> None:
    fail(breaker, 0.0, times=2)
    first = begun(breaker, 1.0, forced=True)
    assert breaker.begin(1.5, forced=True) is None
    second = begun(breaker, 2.0, forced=True)
    assert breaker.begin(2.5, forced=True) is None  # one a second, not one more at any time
    assert breaker.begin(OPEN_S) is None  # of those that are not forced it is still the one probe
    first.failed(3.0)
    assert breaker.state(3.0) == "half_open"  # it was overtaken
    second.succeeded(4.0)
    assert breaker.state(4.0) == "closed"


def test_a_forced_attempt_that_says_nothing_leaves_the_circuit_open(breaker: Breaker, told: Told) -> None:
    fail(breaker, 0.0, times=2)
    begun(breaker, 1.0, forced=True).ignored(2.0)
    assert breaker.state(2.0) == "open"
    assert breaker.reopens_in_s(2.0) == OPEN_S - 2.0
    assert [after for _, _, after in told] == ["open", "half_open", "open"]


def test_a_forced_attempt_on_a_closed_circuit_is_one_like_any(breaker: Breaker) -> None:
    for _ in range(3):
        begun(breaker, 0.0, forced=True)
    fail(breaker, 0.0, times=4)
    assert breaker.state(0.0) == "closed"


# Several of them


def test_each_deployment_has_its_own_circuit() -> None:
    store = MemoryCircuits()
    one, other = Breaker("one", POLICY, store), Breaker("other", POLICY, store)
    fail(one, 0.0, times=2)
    assert (one.state(0.0), other.state(0.0)) == ("open", "closed")


def test_breakers_that_share_a_store_share_circuits_and_each_tells_the_changes() -> None:
    store, here, there = MemoryCircuits(), Told(), Told()
    one, other = Breaker("primary", POLICY, store, here), Breaker("primary", POLICY, store, there)
    fail(one, 0.0, times=2)
    assert other.begin(0.0) is None
    begun(other, OPEN_S).succeeded(OPEN_S)
    begun(one, OPEN_S)
    assert [after for _, _, after in there] == ["open", "half_open", "closed"]
    assert [after for _, _, after in here] == ["open", "closed"]


# The bar


@pytest.mark.parametrize("took_s", [0.01, 0.1, 1.0, 7.0, 14.0])
@pytest.mark.parametrize("phase", [0.0, 0.13, 0.5, 0.97])
def test_an_outage_of_60_s_costs_who_asks_alone_three_attempts_at_most(took_s: float, phase: float) -> None:
    """Two targets, one request at a time, each attempt as long as the other; the outage begins anywhere in one."""
    breaker = Breaker("primary", POLICY, MemoryCircuits())
    down_s, up_s = 5 * took_s + phase * took_s, 5 * took_s + phase * took_s + 60.0
    now_s, doomed, back_s = 0.0, 0, float("inf")
    while now_s < up_s + 3 * OPEN_S:
        attempt = breaker.begin(now_s)
        if attempt is not None:
            is_down = now_s < up_s and now_s + took_s > down_s
            doomed += is_down
            if not is_down and now_s >= up_s:
                back_s = min(back_s, now_s)
            now_s += took_s
            attempt.failed(now_s) if is_down else attempt.succeeded(now_s)
            if not is_down:
                continue
        now_s += took_s  # the other target answers
    assert doomed <= 3
    # The first request that comes at all once the probe interval is over goes to the primary; the one before it may
    # have taken a failure's and an answer's time.
    assert back_s <= up_s + OPEN_S + 2 * took_s
    assert breaker.state(now_s) == "closed"


@pytest.mark.parametrize("took_s", [0.01, 1.0, 7.0, 14.0, 29.0])
def test_a_deployment_that_recovered_is_asked_within_open_s_of_it(took_s: float) -> None:
    """A probe that began just before the recovery is the worst case; somebody asks all the time."""
    breaker = Breaker("primary", POLICY, MemoryCircuits())
    fail(breaker, 0.0, times=2)
    probe = begun(breaker, OPEN_S)
    recovered_s = OPEN_S + 0.001
    probe.failed(OPEN_S + took_s)
    assert breaker.admits(max(recovered_s + OPEN_S, OPEN_S + took_s + OPEN_S / 2))


@pytest.mark.parametrize("seed", range(3))
def test_five_failures_in_a_hundred_never_open_a_busy_circuit(seed: int, breaker: Breaker, told: Told) -> None:
    """100,000 attempts, 64 of them in flight at any time, ending in any order."""
    random_, now_s = random.Random(seed), 0.0
    in_flight: list[tuple[float, int, Attempt]] = []
    for number in range(100_000):
        if len(in_flight) == 64:
            now_s, _, attempt = heapq.heappop(in_flight)
            attempt.failed(now_s) if random_.random() < 0.05 else attempt.succeeded(now_s)
        heapq.heappush(in_flight, (now_s + random_.uniform(0.1, 2.0), number, begun(breaker, now_s)))
    assert told == []
