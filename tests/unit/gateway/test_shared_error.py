"""Errors that others get too."""

import asyncio

import pytest

from genkan.errors import (
    ConnectFailed,
    ContextTooLong,
    InternalError,
    InvalidRequest,
    RequestError,
    TimedOut,
    UpstreamRefused,
)
from genkan.gateway.shared_error import is_lasting, twin


def refused(status: int) -> UpstreamRefused:
    return UpstreamRefused("no", upstream="up", status=status, kind="k", code="c", param="p", retry_after_s=None)


@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_what_is_wrong_with_a_request_is_so_for_all(status: int) -> None:
    assert is_lasting(refused(status))
    assert is_lasting(InvalidRequest("no"))


@pytest.mark.parametrize(
    "error",
    [
        *map(refused, (401, 403, 408, 429, 500, 503)),
        ConnectFailed("no", upstream="up"),
        ValueError(),
        asyncio.CancelledError(),
    ],
)
def test_what_may_pass_is_not(error: BaseException) -> None:
    assert not is_lasting(error)


@pytest.mark.parametrize(
    "error",
    [
        refused(400),
        TimedOut(upstream="up", phase="total", limit_s=1.0),
        ContextTooLong(limit_tokens=1, prompt_tokens=2, max_tokens=3, param="messages"),
    ],
)
def test_a_twin_is_the_same_without_what_is_about_one_client(error: RequestError) -> None:
    error.headers = ((b"x", b"y"),)
    error.attempts = 3
    other = twin(error)
    assert type(other) is type(error)
    assert other is not error
    assert str(other) == str(error)
    left_out = {"headers", "attempts"}
    assert vars(other) == {name: value for name, value in vars(error).items() if name not in left_out}
    assert (other.headers, other.attempts) == ((), None)


def test_a_bug_is_not_shown_to_others() -> None:
    assert isinstance(twin(ValueError("secret")), InternalError)
