"""Upstreams that answer with an error really do, and tell in the right words when to come back."""

import time
from email.utils import parsedate_to_datetime

import orjson
import pytest
from faults.raw_client import KEY, Reply, ask, raw_client
from faults.upstream import FaultUpstream

pytestmark = pytest.mark.anyio

ALWAYS = {
    "429-for-ever": 429, "quota": 429, "insufficient-balance": 402, "unauthorized": 401, "unauthorized-gemini": 400,
    "forbidden": 403, "not-found": 404, "bad-request": 400, "unprocessable": 422, "408-for-ever": 408,
    "409-for-ever": 409, "413-for-ever": 413, "500-for-ever": 500, "500-as-string": 500, "502-html": 502,
    "503-for-ever": 503, "503-retry-after-a-day": 503, "504-html": 504, "529-for-ever": 529, "context-too-long": 400,
    "context-too-long-vllm": 400, "context-too-long-gemini": 400, "content-filter": 400, "echo-key": 500,
    "redirect": 307, "no-such-model": 404,
}  # fmt: skip
ONCE = {
    "429-retry-after-seconds": 429, "429-retry-after-date": 429, "429-retry-after-skewed-date": 429,
    "429-retry-after-past-date": 429, "429-retry-after-garbage": 429, "429-no-retry-after": 429, "500-once": 500,
    "503-once-retry-after": 503,
}  # fmt: skip
CODES = {
    "quota": "insufficient_quota", "unauthorized": "invalid_api_key", "not-found": "model_not_found",
    "context-too-long": "context_length_exceeded", "content-filter": "content_filter",
}  # fmt: skip


@pytest.mark.parametrize(("model", "status"), ALWAYS.items())
@pytest.mark.parametrize("stream", [False, True])
async def test_always(upstream: FaultUpstream, model: str, status: int, stream: bool) -> None:
    replies = [await ask(upstream.port, model, stream=stream) for _ in range(2)]
    assert [(reply.status, reply.end) for reply in replies] == [(status, "complete")] * 2
    assert [attempt.outcome for attempt in upstream.ledger.attempts] == ["answered"] * 2


@pytest.mark.parametrize(("model", "status"), ONCE.items())
async def test_once(upstream: FaultUpstream, model: str, status: int) -> None:
    first = await ask(upstream.port, model, stream=False)
    assert first.status == status
    assert (await ask(upstream.port, model, stream=False)).healthy


async def test_once_can_be_more_often_and_for_each_test_its_own(upstream: FaultUpstream) -> None:
    async def status(model: str) -> int:
        return (await ask(upstream.port, model, stream=False, x_failures=2)).status

    assert [await status("500-once@a") for _ in range(3)] == [500, 500, 200]
    assert await status("500-once@b") == 500


async def test_every_other(upstream: FaultUpstream) -> None:
    statuses = [(await ask(upstream.port, "500-every-other", stream=True)).status for _ in range(4)]
    assert statuses == [500, 200, 500, 200]


@pytest.mark.parametrize(("model", "code"), CODES.items())
async def test_codes(upstream: FaultUpstream, model: str, code: str) -> None:
    reply = await ask(upstream.port, model, stream=False)
    assert orjson.loads(reply.body)["error"]["code"] == code


@pytest.mark.parametrize(
    ("model", "value"),
    [
        ("429-retry-after-seconds", "1"),
        ("429-retry-after-garbage", "soon, I hope"),
        ("429-no-retry-after", None),
        ("429-for-ever", "30"),
        ("503-for-ever", None),
        ("503-once-retry-after", "1"),
        ("503-retry-after-a-day", "86400"),
    ],
)
async def test_retry_after(upstream: FaultUpstream, model: str, value: str | None) -> None:
    reply = await ask(upstream.port, model, stream=False)
    assert reply.headers.get("retry-after") == value


async def test_the_body_can_say_what_retry_after_is(upstream: FaultUpstream) -> None:
    reply = await ask(upstream.port, "429-for-ever", stream=False, x_retry_after="1e999")
    assert reply.headers["retry-after"] == "1e999"


@pytest.mark.parametrize(
    ("model", "wait_s", "clock_off_s"),
    [
        ("429-retry-after-date", 2, 0),
        ("429-retry-after-skewed-date", 2, 3600),
        ("429-retry-after-past-date", -3600, 0),
    ],
)
async def test_retry_after_dates(upstream: FaultUpstream, model: str, wait_s: int, clock_off_s: int) -> None:
    reply = await ask(upstream.port, model, stream=False)
    assert _seconds(reply, "retry-after") - _seconds(reply, "date") == wait_s
    assert _seconds(reply, "date") - time.time() == pytest.approx(clock_off_s, abs=10)


@pytest.mark.parametrize("model", ["unauthorized", "echo-key"])
async def test_the_key_is_in_the_message(upstream: FaultUpstream, model: str) -> None:
    reply = await ask(upstream.port, model, stream=False)
    assert KEY in orjson.loads(reply.body)["error"]["message"]


async def test_prefill(upstream: FaultUpstream) -> None:
    prefilled = [{"role": "user", "content": "Count."}, {"role": "assistant", "content": "tok"}]
    assert (await _ask_with(upstream, prefilled)).status == 400
    assert (await _ask_with(upstream, prefilled[:1])).healthy


async def test_redirect_leads_to_the_canary(upstream: FaultUpstream) -> None:
    reply = await ask(upstream.port, "redirect", stream=False)
    assert reply.headers["location"] == "/_/canary"
    assert upstream.ledger.canary_hits == []


async def _ask_with(upstream: FaultUpstream, messages: list[dict[str, str]]) -> Reply:
    async with raw_client(upstream.port) as client:
        body = {"model": "rejects-prefill", "messages": messages}
        return await client.request("POST", "/v1/chat/completions", body)


def _seconds(reply: Reply, name: str) -> float:
    return parsedate_to_datetime(reply.headers[name]).timestamp()
