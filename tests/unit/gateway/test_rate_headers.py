"""OpenAI's headers of what is left, and the durations in them."""

import pytest

from genkan.gateway.rate_headers import duration, rate_headers
from genkan.store.accounts import Line, LineState, Unit

KEY = Line("k:1:requests:bucket", "bucket", Unit.REQUESTS, 60, 60.0, 100)
TENANT = Line("t:a:requests:window", "window", Unit.REQUESTS, 50, 60.0)
TOKENS = Line("k:1:tokens:bucket", "bucket", Unit.TOKENS, 1000, 60.0, 1000)
LEASE = Line("k:1:concurrent", "lease", Unit.REQUESTS, 5, 30.0)
BUDGET = Line("k:1:budget-tokens:day:2026-11-21", "budget", Unit.BUDGET_TOKENS, 10, 1.0)
SHARED = Line("m:m:requests:bucket", "bucket", Unit.REQUESTS, 10, 60.0, 10, is_own=False)


def test_all_six() -> None:
    assert rate_headers((KEY, TOKENS), (LineState(99, 0, 1_000_000), LineState(988, 0, 720_000))) == [
        (b"x-ratelimit-limit-requests", b"100"),
        (b"x-ratelimit-remaining-requests", b"99"),
        (b"x-ratelimit-reset-requests", b"1s"),
        (b"x-ratelimit-limit-tokens", b"1000"),
        (b"x-ratelimit-remaining-tokens", b"988"),
        (b"x-ratelimit-reset-tokens", b"720ms"),
    ]


@pytest.mark.parametrize(("of_key", "limit"), [(30, b"50"), (20, b"100")])
def test_of_two_limits_the_one_with_the_least_left_is_told(of_key: int, limit: bytes) -> None:
    headers = dict(rate_headers((KEY, TENANT), (LineState(of_key, 0, 1_000_000), LineState(25, 0, 2_000_000))))
    assert headers[b"x-ratelimit-limit-requests"] == limit
    assert headers[b"x-ratelimit-remaining-requests"] == b"%d" % min(of_key, 25)


def test_what_others_share_and_what_is_no_rate_is_not_told() -> None:
    plan = (SHARED, LEASE, BUDGET)
    assert rate_headers(plan, tuple(LineState(1, 0, 1_000_000) for _ in plan)) == []


def test_a_debt_shows_as_nothing_left() -> None:
    assert dict(rate_headers((KEY,), (LineState(-7, 3_000_000, 9_000_000),)))[b"x-ratelimit-remaining-requests"] == b"0"


def test_states_that_do_not_belong_to_the_plan_tell_nothing() -> None:
    assert rate_headers((KEY, TOKENS), (LineState(1, 0, 1_000_000),)) == []
    assert rate_headers((), ()) == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1.0, "0s"), (0.0, "0s"), (0.0004, "0s"), (0.012, "12ms"), (0.9996, "1s"), (1.5, "1.5s"), (59.9994, "59.999s"),
        (59.9996, "1m0s"), (60.0, "1m0s"), (360.0, "6m0s"), (3599.9999, "1h0m0s"), (3600.0, "1h0m0s"),
        (86_400.25, "24h0m0.25s"),
    ],
)  # fmt: skip
def test_durations_are_written_as_go_writes_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text
