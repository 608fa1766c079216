"""The table of `rules.py`, row by row, and that nothing is missing from it."""

from collections.abc import Iterator
from typing import get_args

import pytest

from genkan.config import FallbackReason
from genkan.errors import (
    ConnectFailed,
    Phase,
    StreamInterrupted,
    TimedOut,
    UpstreamBroken,
    UpstreamError,
    UpstreamFailed,
    UpstreamForbidden,
    UpstreamFull,
    UpstreamMisconfigured,
    UpstreamQuota,
    UpstreamRefused,
    UpstreamThrottled,
    UpstreamUnauthorized,
)
from genkan.gateway.diverged import AnswerDiverged
from genkan.gateway.rules import Reason, Verdict, verdict


def timed_out(phase: Phase) -> TimedOut:
    return TimedOut(upstream="u", phase=phase, limit_s=1.0)


def failed(status: int) -> UpstreamFailed:
    return UpstreamFailed(upstream="u", status_there=status)


def refused(status: int, code: str | None = None) -> UpstreamRefused:
    return UpstreamRefused(
        "no", upstream="u", status=status, kind="some_error", code=code, param=None, retry_after_s=None
    )


MAY_BE_OVER_SOON = Verdict("error", failure=True, again=True)
LASTS = Verdict("error", failure=True)
ROWS: list[tuple[UpstreamError, Verdict]] = [
    (ConnectFailed("x", upstream="u"), MAY_BE_OVER_SOON),
    (timed_out("connect"), MAY_BE_OVER_SOON),
    (UpstreamFull(upstream="u", limit=1, queue=1), Verdict("error")),
    (timed_out("first_token"), LASTS),
    (timed_out("between_tokens"), LASTS),
    (timed_out("total"), LASTS),
    (UpstreamBroken("x", upstream="u"), MAY_BE_OVER_SOON),
    (StreamInterrupted("x", upstream="u"), MAY_BE_OVER_SOON),
    *[(failed(status), MAY_BE_OVER_SOON) for status in (500, 501, 502, 503, 529)],
    *[(failed(status), LASTS) for status in (408, 504)],
    (UpstreamThrottled(upstream="u", retry_after_s=None), Verdict("error", again=True, cools=True)),
    (UpstreamQuota("x", upstream="u"), Verdict("error", parks=True)),
    (UpstreamUnauthorized("x", upstream="u"), Verdict("error", parks=True)),
    (UpstreamForbidden("x", upstream="u"), Verdict("error")),
    (UpstreamMisconfigured("x", upstream="u"), LASTS),
    (AnswerDiverged("x", upstream="u"), Verdict("error")),
    (refused(400, "context_length_exceeded"), Verdict("context_too_long")),
    (refused(400, "content_filter"), Verdict("content_filter")),
    *[(refused(status), Verdict("request")) for status in (400, 409, 413, 415, 418, 422)],
    (refused(400, "a code that nobody knows"), Verdict("request")),
    # the engine's own errors
    (refused(503, "server_is_overloaded"), Verdict("error")),
    (refused(503, "engine_unavailable"), LASTS),
    (refused(500, "engine_error"), LASTS),
    (refused(408, "reader_too_slow"), Verdict("request")),
]


@pytest.mark.parametrize(("error", "means"), ROWS, ids=[f"{type(e).__name__}-{e.status}-{e.code}" for e, _ in ROWS])
def test_an_error_means_what_its_row_says(error: UpstreamError, means: Verdict) -> None:
    assert verdict(error) == means


def upstream_errors(base: type[UpstreamError] = UpstreamError) -> Iterator[type[UpstreamError]]:
    for error in base.__subclasses__():
        yield error
        yield from upstream_errors(error)


def test_no_error_of_an_upstream_is_without_a_row() -> None:
    assert set(upstream_errors()) == {type(error) for error, _ in ROWS}


@pytest.mark.parametrize(("error", "means"), ROWS)
def test_what_is_the_requests_fault_neither_counts_nor_is_tried_again(error: UpstreamError, means: Verdict) -> None:
    if means.reason != "error":
        assert means == Verdict(means.reason)
    assert not (means.parks and (means.again or means.failure or means.cools))


def test_a_route_can_name_every_reason_but_the_requests_own_fault() -> None:
    assert set(get_args(Reason)) == {*get_args(FallbackReason), "request"}
