"""The retry budget under any load, against all times of all calls."""

from hypothesis import given, settings
from hypothesis import strategies as st

from genkan.gateway.retry import RetryBudget

RATIO, AT_LEAST, WINDOW_S = 0.2, 3, 10.0
BUCKET_S = WINDOW_S / 100
ROUNDING_S = 1e-6

#: Seconds since the call before: mostly dense, sometimes about a window, sometimes far beyond.
PAUSES_S = st.one_of(st.just(0.0), st.floats(0, 0.2), st.floats(0, 12.0), st.floats(0, 1e4))
CALLS = st.lists(st.tuples(PAUSES_S, st.integers(0, 40), st.integers(0, 12)), max_size=40)
STARTS_S = st.floats(0, 1e6)


def bucket(time_s: float) -> int:
    return int(time_s * (100 / WINDOW_S))


@settings(deadline=None)
@given(STARTS_S, CALLS)
def test_a_retry_is_given_if_and_only_if_the_window_has_room(now_s: float, calls: list[tuple[float, int, int]]) -> None:
    budget = RetryBudget(RATIO, AT_LEAST, WINDOW_S)
    requests_s: list[float] = []
    retries_s: list[float] = []
    for pause_s, num_requests, num_tries in calls:
        now_s += pause_s
        for _ in range(num_requests):
            budget.requested(now_s)
            requests_s.append(now_s)
        for _ in range(num_tries):
            requests = sum(bucket(at_s) > bucket(now_s) - 100 for at_s in requests_s)
            retries = sum(bucket(at_s) > bucket(now_s) - 100 for at_s in retries_s)
            given = budget.take(now_s)
            assert given == (retries + 1 <= max(AT_LEAST, RATIO * requests))
            if given:
                retries_s.append(now_s)


@settings(deadline=None)
@given(STARTS_S, CALLS)
def test_over_any_time_retries_are_a_fifth_of_the_requests_or_three_a_window(
    now_s: float, calls: list[tuple[float, int, int]]
) -> None:
    """Windows are laid from the last retry back, each ending at a retry: none may hold more than its requests allow."""
    budget = RetryBudget(RATIO, AT_LEAST, WINDOW_S)
    requests_s: list[float] = []
    retries_s: list[float] = []
    for pause_s, num_requests, num_tries in calls:
        now_s += pause_s
        for _ in range(num_requests):
            budget.requested(now_s)
            requests_s.append(now_s)
        retries_s += [now_s for _ in range(num_tries) if budget.take(now_s)]
    while retries_s:
        end_s = retries_s[-1]
        counted = sum(end_s - WINDOW_S - ROUNDING_S < at_s <= end_s for at_s in requests_s)
        kept = [at_s for at_s in retries_s if at_s <= end_s - WINDOW_S + BUCKET_S + ROUNDING_S]
        assert len(retries_s) - len(kept) <= max(AT_LEAST, RATIO * counted)
        retries_s = kept
