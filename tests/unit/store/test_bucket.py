"""What a token bucket gives, when, and how it is put right afterwards."""

import pytest

from genkan.store.bucket import FULL, Bucket

MINUTE_US = 60_000_000
NOW_US = 1_800_000_000_000_000


def taken(bucket: Bucket, state: int, now_us: int, cost: int = 1, *, times: int = 1) -> int:
    """The state after takes that all fit."""
    for _ in range(times):
        after = bucket.take(state, now_us, cost)
        assert after is not None
        state = after
    return state


@pytest.mark.parametrize("limit", [1, 3, 7, 50, 60, 999_983, 10**12])
@pytest.mark.parametrize("burst", [1, 7, 50])
def test_it_gives_exactly_its_burst_at_once_and_then_each_token_exactly_when_it_is_back(limit: int, burst: int) -> None:
    bucket = Bucket(limit, MINUTE_US, burst)
    empty = taken(bucket, FULL, NOW_US, times=burst)
    assert bucket.remaining(empty, NOW_US) == 0
    assert bucket.take(empty, NOW_US, 1) is None
    for n in range(1, burst + 1):
        back_us = NOW_US + -(-n * MINUTE_US // limit)  # the first whole microsecond at which n tokens are back
        assert bucket.remaining(empty, back_us) == min(burst, (back_us - NOW_US) * limit // MINUTE_US)
        assert bucket.remaining(empty, back_us - 1) < n


def test_a_token_that_was_not_used_yet_is_not_lost_to_rounding() -> None:
    bucket = Bucket(7, MINUTE_US, 7)
    state, given = FULL, 0
    for now_us in range(NOW_US, NOW_US + 100 * MINUTE_US, 333_333):
        after = bucket.take(state, now_us, 1)
        if after is not None:
            state, given = after, given + 1
    assert given == 7 + 7 * 100 - 1  # the last is back when the hundredth minute is over


def test_what_it_says_of_retry_is_true_to_the_microsecond() -> None:
    bucket = Bucket(7, MINUTE_US, 7)
    empty = taken(bucket, FULL, NOW_US, 7)
    for cost in range(1, 8):
        retry_us = bucket.retry_us(empty, NOW_US, cost)
        assert retry_us is not None
        assert bucket.take(empty, NOW_US + retry_us, cost) is not None
        assert bucket.take(empty, NOW_US + retry_us - 1, cost) is None


def test_what_fits_need_not_wait_and_what_is_more_than_the_burst_never_fits() -> None:
    bucket = Bucket(100, MINUTE_US, 10)
    assert bucket.retry_us(FULL, NOW_US, 10) == 0
    assert bucket.retry_us(FULL, NOW_US, 11) is None
    assert bucket.take(FULL, NOW_US, 11) is None


def test_it_is_as_if_never_used_once_its_reset_is_over() -> None:
    bucket = Bucket(7, MINUTE_US, 7)
    state = taken(bucket, FULL, NOW_US, 3)
    reset_us = bucket.reset_us(state, NOW_US)
    assert reset_us == 25_714_286  # 3/7 of a minute, rounded up
    assert not bucket.is_full(state, NOW_US + reset_us - 1)
    assert bucket.is_full(state, NOW_US + reset_us)
    assert bucket.reset_us(state, NOW_US + MINUTE_US) == 0
    assert bucket.remaining(state, NOW_US + reset_us) == 7


def test_a_refund_fills_it_and_no_more_than_that() -> None:
    bucket = Bucket(60, MINUTE_US, 10)
    state = taken(bucket, FULL, NOW_US, 6)
    assert bucket.remaining(bucket.adjust(state, NOW_US, -4), NOW_US) == 8
    overfilled = bucket.adjust(state, NOW_US, -1000)
    assert bucket.is_full(overfilled, NOW_US)
    assert bucket.take(overfilled, NOW_US, 11) is None
    assert bucket.remaining(taken(bucket, overfilled, NOW_US, 10), NOW_US) == 0


def test_a_charge_may_leave_a_debt_that_has_to_be_paid_first() -> None:
    bucket = Bucket(60, MINUTE_US, 10)
    state = bucket.adjust(taken(bucket, FULL, NOW_US, 10), NOW_US, 5)
    assert bucket.remaining(state, NOW_US) == 0
    assert bucket.retry_us(state, NOW_US, 1) == 6_000_000
    assert bucket.retry_us(state, NOW_US, 0) == 5_000_000
    assert bucket.reset_us(state, NOW_US) == 15_000_000


def test_another_rule_leaves_as_many_tokens_taken() -> None:
    slow, fast = Bucket(7, MINUTE_US, 7), Bucket(6000, 1_000_000, 20)
    state = taken(slow, FULL, NOW_US, 5)
    assert slow.remaining(state, NOW_US) == 2
    as_fast = slow.as_of(fast, state, NOW_US)
    assert fast.remaining(as_fast, NOW_US) == 15
    assert fast.as_of(slow, as_fast, NOW_US) == state
