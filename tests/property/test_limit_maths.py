"""Buckets and windows against slow models of themselves: exact fractions, and lists that forget nothing."""

from dataclasses import dataclass, field
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from genkan.store.bucket import FULL, Bucket
from genkan.store.window import Window

quick = settings(max_examples=300, deadline=None)

START_US = 1_800_000_000_000_000
PAUSES_US = st.one_of(st.just(0), st.integers(0, 50), st.integers(0, 3_000_000), st.integers(0, 200_000_000))
COSTS = st.one_of(st.just(1), st.integers(0, 12))
BUCKETS = st.builds(Bucket, st.integers(1, 10**6), st.integers(1, 100_000_000), st.integers(1, 20))
TAKES = st.lists(st.tuples(PAUSES_US, COSTS), max_size=60)
#: A pause, then a take, or an adjustment if the second is true.
STEPS = st.lists(st.tuples(PAUSES_US, st.booleans(), st.integers(-12, 12)), max_size=60)


@dataclass
class Level:
    """A bucket as one would explain it: a level that rises with time."""

    rule: Bucket
    tokens: Fraction
    at_us: int = START_US

    def wait(self, pause_us: int) -> int:
        self.at_us += pause_us
        self.adjust(-Fraction(pause_us * self.rule.limit, self.rule.window_us))
        return self.at_us

    def take(self, cost: int) -> bool:
        fits = self.tokens >= cost
        self.tokens -= cost * fits
        return fits

    def adjust(self, tokens: int | Fraction) -> None:
        self.tokens = min(Fraction(self.rule.burst), self.tokens - tokens)


@quick
@given(BUCKETS, STEPS)
def test_a_bucket_is_a_level_that_rises_with_time(bucket: Bucket, steps: list[tuple[int, bool, int]]) -> None:
    level, state = Level(bucket, Fraction(bucket.burst)), FULL
    for pause_us, adjusts, tokens in steps:
        now_us = level.wait(pause_us)
        if adjusts:
            level.adjust(tokens)
            state = bucket.adjust(state, now_us, tokens)
        else:
            taken = bucket.take(state, now_us, abs(tokens))
            assert (taken is not None) == level.take(abs(tokens))
            state = state if taken is None else taken
        assert bucket.remaining(state, now_us) == max(0, level.tokens // 1)
        assert bucket.is_full(state, now_us) == (level.tokens == bucket.burst)


@quick
@given(BUCKETS, TAKES)
def test_in_no_stretch_of_time_does_a_bucket_give_more_than_its_burst_and_what_came_back(
    bucket: Bucket, takes: list[tuple[int, int]]
) -> None:
    state, now_us, given_at = FULL, START_US, list[tuple[int, int]]()
    for pause_us, cost in takes:
        now_us += pause_us
        taken = bucket.take(state, now_us, cost)
        if taken is not None:
            state = taken
            given_at.append((now_us, cost))
    for first, (from_us, _) in enumerate(given_at):
        total = 0
        for at_us, cost in given_at[first:]:
            total += cost
            assert total <= bucket.burst + Fraction((at_us - from_us) * bucket.limit, bucket.window_us)


@quick
@given(BUCKETS, STEPS, st.integers(0, 20))
def test_a_bucket_says_to_the_microsecond_when_something_fits_and_when_it_is_full(
    bucket: Bucket, steps: list[tuple[int, bool, int]], cost: int
) -> None:
    state, now_us = FULL, START_US
    for pause_us, _, tokens in steps:
        now_us += pause_us
        state = bucket.adjust(state, now_us, tokens)
    retry_us, reset_us = bucket.retry_us(state, now_us, cost), bucket.reset_us(state, now_us)
    assert (retry_us is None) == (cost > bucket.burst)
    if retry_us is not None:
        assert bucket.take(state, now_us + retry_us, cost) is not None
        assert retry_us == 0 or bucket.take(state, now_us + retry_us - 1, cost) is None
    assert bucket.is_full(state, now_us + reset_us)
    assert reset_us == 0 or not bucket.is_full(state, now_us + reset_us - 1)


@quick
@given(BUCKETS, st.data())
def test_in_whatever_order_requests_are_settled_a_bucket_ends_up_the_same(bucket: Bucket, data: st.DataObject) -> None:
    each = data.draw(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=8))  # reserved, actual
    changes = data.draw(st.permutations([actual - reserved for reserved, actual in each]))
    state = bucket.adjust(FULL, START_US, sum(reserved for reserved, _ in each))
    for change in changes:
        state = bucket.adjust(state, START_US, change)
    assert state == bucket.adjust(FULL, START_US, sum(actual for _, actual in each))


@dataclass
class EveryTake:
    """A window as one would explain it: a list of all that was ever taken."""

    limit: int
    window_us: int
    takes: dict[int, list[int]] = field(default_factory=dict)  # id -> time, cost

    def used(self, now_us: int) -> int:
        return sum(cost for at_us, cost in self.takes.values() if now_us < at_us + self.window_us)


@quick
@given(
    st.integers(1, 20),
    st.integers(1, 5_000_000),
    st.lists(
        st.tuples(PAUSES_US, st.booleans(), st.integers(0, 12), st.integers(0, 60)),
        max_size=60,
    ),
)
def test_a_window_is_a_list_of_takes(limit: int, window_us: int, steps: list[tuple[int, bool, int, int]]) -> None:
    window, model, now_us = Window(limit, window_us), EveryTake(limit, window_us), START_US
    for number, (pause_us, puts_right, cost, which) in enumerate(steps):
        now_us += pause_us
        if puts_right:
            window.replace(which, now_us, cost)
            if which in model.takes and now_us < model.takes[which][0] + window_us:
                model.takes[which][1] = cost
                if cost == 0:
                    del model.takes[which]
        else:
            fits = model.used(now_us) + cost <= limit
            assert window.take(number, now_us, cost) == fits
            if fits:
                model.takes[number] = [now_us, cost]
        assert window.total == model.used(now_us)
        assert window.remaining(now_us) == max(0, limit - model.used(now_us))
        retry_us, reset_us = window.retry_us(now_us, cost), window.reset_us(now_us)
        assert (retry_us is None) == (cost > limit)
        if retry_us is not None:
            assert model.used(now_us + retry_us) + cost <= limit
            assert retry_us == 0 or model.used(now_us + retry_us - 1) + cost > limit
        assert reset_us == max([0, *(at_us + window_us - now_us for at_us, _ in model.takes.values())])


@quick
@given(st.integers(1, 20), st.integers(1, 5_000_000), TAKES)
def test_in_no_stretch_of_its_length_does_a_window_let_more_than_its_limit_through(
    limit: int, window_us: int, takes: list[tuple[int, int]]
) -> None:
    window, now_us, taken = Window(limit, window_us), START_US, list[tuple[int, int]]()
    for number, (pause_us, cost) in enumerate(takes):
        now_us += pause_us
        if window.take(number, now_us, cost):
            taken.append((now_us, cost))
    for until_us, _ in taken:
        assert sum(cost for at_us, cost in taken if until_us - window_us < at_us <= until_us) <= limit
