"""Which headers an error has."""

from typing import Any

import pytest
from asgi import AsgiClient

from genkan.api.exchange import Exchange
from genkan.api.routes import Api
from genkan.errors import (
    AccountsUnavailable,
    BudgetSpent,
    RateLimited,
    RequestError,
    UpstreamRefused,
    UpstreamThrottled,
)

pytestmark = pytest.mark.anyio


async def answer_to(error: RequestError) -> AsgiClient:
    async def fail(exchange: Exchange) -> None:
        raise error

    return await AsgiClient(Api({"/x": {"GET": fail}}, lambda _: None, [])).request("GET", "/x")


def limited(retry_after_s: float, unit: Any = "requests") -> RateLimited:
    return RateLimited("Too many.", unit=unit, retry_after_s=retry_after_s)


@pytest.mark.parametrize(
    ("retry_after_s", "seconds", "ms"),
    [(0.0004, "1", "1"), (0.25, "1", "250"), (1.0001, "2", "1001"), (59.5, "60", "59500"), (60.0, "60", "60000")],
)
async def test_a_limit_says_when_to_come_back_to_the_millisecond(retry_after_s: float, seconds: str, ms: str) -> None:
    answer = await answer_to(limited(retry_after_s))
    assert answer.status == 429
    assert (answer.headers["retry-after"], answer.headers["retry-after-ms"]) == (seconds, ms)
    assert "x-should-retry" not in answer.headers


@pytest.mark.parametrize(
    "error",
    [
        RateLimited("Try again in 7200 s.", unit="requests", retry_after_s=7200.0),
        UpstreamThrottled(upstream="u", retry_after_s=60.5),
    ],
    ids=["ours", "an upstream's"],
)
async def test_who_would_wait_a_minute_in_vain_is_told_not_to(error: RequestError) -> None:
    answer = await answer_to(error)
    assert (answer.headers["retry-after"], answer.headers["x-should-retry"]) == ("60", "false")
    assert answer.error["message"] == error.message


async def test_the_code_of_an_upstream_is_for_the_client_and_not_for_the_log() -> None:
    lines: list[dict[str, object]] = []

    async def fail(exchange: Exchange) -> None:
        try:
            raise UpstreamRefused(
                "no", upstream="u", status=400, kind="k", code="client_gone", param=None, retry_after_s=None
            )
        finally:
            lines.append(exchange.fields)

    answer = await AsgiClient(Api({"/x": {"GET": fail}}, lambda _: None, [])).request("GET", "/x")
    assert answer.error["code"] == "client_gone"
    assert lines == [{"error": "refused"}]


@pytest.mark.parametrize("unit", ["requests", "tokens"])
async def test_a_limit_names_its_unit_as_openai_does(unit: Any) -> None:
    answer = await answer_to(limited(1.0, unit))
    assert (answer.error["type"], answer.error["code"], answer.error["param"]) == (unit, "rate_limit_exceeded", None)


async def test_an_error_shows_the_headers_it_brings() -> None:
    error = limited(1.0)
    error.headers = ((b"x-ratelimit-remaining-requests", b"0"),)
    assert (await answer_to(error)).headers["x-ratelimit-remaining-requests"] == "0"


async def test_money_that_is_spent_does_not_come_back_by_waiting() -> None:
    answer = await answer_to(BudgetSpent("Spent."))
    assert (answer.status, answer.headers["x-should-retry"]) == (429, "false")
    assert not {"retry-after", "retry-after-ms"} & answer.headers.keys()


@pytest.mark.parametrize(
    ("error", "status", "seconds"),
    [(AccountsUnavailable("Not now."), 503, "2"), (UpstreamThrottled(upstream="u", retry_after_s=9.0), 429, "9")],
)
async def test_only_our_own_limits_count_in_milliseconds(error: RequestError, status: int, seconds: str) -> None:
    answer = await answer_to(error)
    assert (answer.status, answer.headers["retry-after"]) == (status, seconds)
    assert "retry-after-ms" not in answer.headers
