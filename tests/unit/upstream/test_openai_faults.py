"""Every fault of the catalogue, asked of directly: one attempt, one error of the right class, in time, nothing lost."""

import asyncio
import time
import traceback
from typing import Any

import orjson
import pytest
from faults.canonical import TEXT, USAGE
from faults.catalogue import HARMLESS, STREAM_ONLY, TABLE, WHOLE_ONLY
from faults.upstream import FaultUpstream
from upstream_calls import KEY, Outcome, chat, open_connections, openai_upstream, outcome_of, until

from genkan.errors import (
    Phase,
    RequestError,
    StreamInterrupted,
    TimedOut,
    UpstreamBroken,
    UpstreamError,
    UpstreamFailed,
    UpstreamForbidden,
    UpstreamMisconfigured,
    UpstreamQuota,
    UpstreamRefused,
    UpstreamThrottled,
    UpstreamUnauthorized,
)
from genkan.upstream import answer_events, http_upstream
from genkan.upstream.openai_http import OpenAiUpstream
from genkan.upstream.refusals import CONTENT_FILTER, CONTEXT_TOO_LONG

pytestmark = pytest.mark.anyio

QUICK: dict[str, Any] = {"timeouts": {"connect_s": 1, "first_token_s": 0.15, "between_tokens_s": 0.15, "total_s": 0.3}}
LATE_S = 1.0

#: Refused with a status, however it is asked.
REFUSED: dict[str, tuple[type[UpstreamError], int]] = {
    "quota": (UpstreamQuota, 503),
    "insufficient-balance": (UpstreamQuota, 503),
    "forbidden": (UpstreamForbidden, 502),
    "unauthorized": (UpstreamUnauthorized, 502),
    "unauthorized-gemini": (UpstreamUnauthorized, 502),
    "not-found": (UpstreamMisconfigured, 502),
    "redirect": (UpstreamMisconfigured, 502),
    "bad-request": (UpstreamRefused, 400),
    "unprocessable": (UpstreamRefused, 422),
    "409-for-ever": (UpstreamRefused, 409),
    "413-for-ever": (UpstreamRefused, 413),
    "context-too-long": (UpstreamRefused, 400),
    "context-too-long-vllm": (UpstreamRefused, 400),
    "context-too-long-gemini": (UpstreamRefused, 400),
    "content-filter": (UpstreamRefused, 400),
    "408-for-ever": (UpstreamFailed, 504),
    "429-for-ever": (UpstreamThrottled, 429),
    "500-for-ever": (UpstreamFailed, 502),
    "500-as-string": (UpstreamFailed, 502),
    "502-html": (UpstreamFailed, 503),
    "503-for-ever": (UpstreamFailed, 503),
    "503-retry-after-a-day": (UpstreamFailed, 503),
    "504-html": (UpstreamFailed, 504),
    "529-for-ever": (UpstreamFailed, 503),
    "echo-key": (UpstreamFailed, 502),
    "error-200": (UpstreamFailed, 503),
}
#: Refused once, and healthy when asked again: what is asked for in ``Retry-After``, at least and at most.
ONCE: dict[str, tuple[type[UpstreamError], float | None, float | None]] = {
    "429-retry-after-seconds": (UpstreamThrottled, 1, 1),
    "429-retry-after-date": (UpstreamThrottled, 1, 2),
    "429-retry-after-skewed-date": (UpstreamThrottled, 1, 2),
    "429-retry-after-past-date": (UpstreamThrottled, 0, 0),
    "429-retry-after-garbage": (UpstreamThrottled, None, None),
    "429-no-retry-after": (UpstreamThrottled, None, None),
    "500-once": (UpstreamFailed, None, None),
    "500-every-other": (UpstreamFailed, None, None),
    "503-once-retry-after": (UpstreamFailed, 1, 1),
}
#: No answer at all, and nothing of it for the client.
BROKEN_BEFORE = {
    "html-200", "html-200-stream", "empty-body-200", "wrong-shape", "sse-for-whole", "gzip-bomb", "gzip-unasked",
    "invalid-json-first", "done-only", "endless-event",
    "reset-before-headers", "eof-before-headers", "reset-after-headers", "reset-inside-headers",
    "huge-header", "many-headers", "chunk-ext-garbage", "not-http",
}  # fmt: skip
#: Broken in the middle: a stream may have begun, a whole answer never does.
BROKEN_WITHIN: dict[str, type[UpstreamError]] = {
    "cut-after-40": StreamInterrupted,
    "eof-after-40": StreamInterrupted,
    "incomplete-chunked-after-40": StreamInterrupted,
    "no-done-no-finish": StreamInterrupted,
    "done-no-finish": StreamInterrupted,
    "cut-at-byte": StreamInterrupted,
    "eof-at-byte": StreamInterrupted,
    "truncated-content-length": StreamInterrupted,
    "no-length-cut": StreamInterrupted,
    "invalid-json-event": UpstreamBroken,
    "invalid-utf8-event": UpstreamBroken,
    "out-of-order": UpstreamBroken,
    "wrong-index": UpstreamBroken,
    "huge-event": UpstreamBroken,
    "error-event-first": UpstreamFailed,
    "error-event-after-40": UpstreamFailed,
    "error-event-done-after-40": UpstreamFailed,
    "named-error-event-after-40": UpstreamFailed,
    "echo-key-event": UpstreamFailed,
}
#: Silent: the phase in which a stream is cut off. A whole answer has one phase.
SILENT: dict[str, Phase] = {
    "never-answers": "first_token",
    "headers-then-silence": "first_token",
    "role-then-silence": "first_token",
    "pings-only": "first_token",
    "stalled-after-40": "between_tokens",
    "pings-only-after-40": "between_tokens",
    "endless-tokens": "total",
}
#: Healthy although their table does not call them harmless, or not when they are asked like this.
HEALTHY = (HARMLESS | {"informational-flood"}) - {"tool-calls"}
#: These have tests of their own here, in test_openai_http.py or in test_http_client.py.
ELSEWHERE = {
    "tool-calls", "content-filter-finish", "rejects-prefill", "down-for-60", "closes-on-reuse", "resets-on-reuse",
}  # fmt: skip
#: After these the connection is not fit to be used again.
CLOSED_AFTER = {"no-done", "no-length", "open-after-done"}
_USAGE = {"usage-missing": None, "usage-null": None}


def faces(names: Any) -> list[Any]:
    """Each name with each way of asking in which it is a fault."""
    asked = [(name, stream) for name in sorted(names) for stream in (True, False)]
    return [
        pytest.param(name, stream, id=f"{name}, {'stream' if stream else 'whole'}")
        for name, stream in asked
        if name not in (WHOLE_ONLY if stream else STREAM_ONLY)
    ]


def failed(outcome: Outcome) -> RequestError:
    assert outcome.error is not None
    return outcome.error


async def assert_well(upstream: OpenAiUpstream, *, stream: bool) -> None:
    """A healthy call works right after."""
    outcome = await outcome_of(upstream, "ok", chat(stream=stream), total_s=60)
    assert (outcome.text, outcome.error) == (TEXT, None)


def assert_no_key(error: BaseException) -> None:
    """Neither in what a client sees nor in what a log does."""
    shown = "".join(traceback.format_exception(error))
    if isinstance(error, RequestError):
        shown += f"{error.message} {error.code} {error.param} {error.type}"
    assert KEY not in shown


def test_every_fault_of_the_catalogue_is_asked_for() -> None:
    asked_for = [*REFUSED, *ONCE, *BROKEN_BEFORE, *BROKEN_WITHIN, *SILENT, *HEALTHY, *ELSEWHERE]
    assert sorted(asked_for) == sorted(TABLE)


@pytest.mark.parametrize(("model", "stream"), faces(REFUSED))
async def test_a_refusal_is_an_error_of_its_class_after_one_attempt(
    faults: FaultUpstream, model: str, stream: bool
) -> None:
    async with openai_upstream(faults.base_url) as upstream:
        error = failed(await outcome_of(upstream, model, chat(stream=stream)))
        assert (type(error), error.status) == REFUSED[model]
        assert_no_key(error)
        assert len(faults.ledger.attempts) == 1
        await assert_well(upstream, stream=stream)
    assert faults.ledger.canary_hits == []


@pytest.mark.parametrize(
    ("model", "code"),
    [
        ("context-too-long", CONTEXT_TOO_LONG),
        ("context-too-long-vllm", CONTEXT_TOO_LONG),
        ("context-too-long-gemini", CONTEXT_TOO_LONG),
        ("content-filter", CONTENT_FILTER),
        ("bad-request", None),
    ],
)
async def test_what_a_chain_goes_by_has_one_code_whoever_says_it(
    faults: FaultUpstream, model: str, code: str | None
) -> None:
    async with openai_upstream(faults.base_url) as upstream:
        assert failed(await outcome_of(upstream, model, chat())).code == code


@pytest.mark.parametrize(("model", "after_s"), [("429-for-ever", 30), ("503-retry-after-a-day", 300)])
async def test_retry_after_is_kept_and_clamped(faults: FaultUpstream, model: str, after_s: float) -> None:
    async with openai_upstream(faults.base_url) as upstream:
        assert failed(await outcome_of(upstream, model, chat())).retry_after_s == after_s


@pytest.mark.parametrize(("model", "stream"), faces(ONCE))
async def test_what_is_refused_once_is_not_asked_again_by_the_upstream_itself(
    faults: FaultUpstream, model: str, stream: bool
) -> None:
    kind, least_s, most_s = ONCE[model]
    async with openai_upstream(faults.base_url) as upstream:
        error = failed(await outcome_of(upstream, model, chat(stream=stream)))
        assert type(error) is kind
        assert len(faults.ledger.attempts) == 1
        if least_s is None or most_s is None:
            assert error.retry_after_s is None
        else:
            assert error.retry_after_s is not None
            assert least_s <= error.retry_after_s <= most_s
        assert (await outcome_of(upstream, model, chat(stream=stream))).text == TEXT


@pytest.mark.parametrize(("model", "stream"), faces(BROKEN_BEFORE))
async def test_what_is_no_answer_is_broken_before_anything_of_it_is_passed_on(
    faults: FaultUpstream, monkeypatch: pytest.MonkeyPatch, model: str, stream: bool
) -> None:
    for module in (http_upstream, answer_events):
        monkeypatch.setattr(module, "MAX_BODY_BYTES", 2 << 20)
    async with openai_upstream(faults.base_url) as upstream:
        outcome = await outcome_of(upstream, model, chat(stream=stream))
        assert type(failed(outcome)) is UpstreamBroken
        assert_no_key(failed(outcome))
        assert (outcome.payloads, outcome.body) == ([], None)
        assert len(faults.ledger.attempts) == 1
        await assert_well(upstream, stream=stream)


@pytest.mark.parametrize(("model", "stream"), faces(BROKEN_WITHIN))
async def test_what_breaks_in_the_middle_is_never_taken_for_an_answer(
    faults: FaultUpstream, model: str, stream: bool
) -> None:
    async with openai_upstream(faults.base_url) as upstream:
        outcome = await outcome_of(upstream, model, chat(stream=stream))
        assert type(failed(outcome)) is (BROKEN_WITHIN[model] if stream else UpstreamBroken)
        assert_no_key(failed(outcome))
        assert outcome.body is None
        assert TEXT.startswith(outcome.text)
        assert not any(b'"finish_reason":"stop"' in data for data in outcome.payloads) or model == "out-of-order"
        if stream and (model.endswith("after-40") or model in ("done-no-finish", "no-length-cut")):
            assert outcome.text == TEXT[: 40 * 6]
        assert len(faults.ledger.attempts) == 1
        await assert_well(upstream, stream=stream)


@pytest.mark.parametrize(("model", "stream"), faces(SILENT))
async def test_silence_is_cut_off_in_time_and_closes_the_connection(
    faults: FaultUpstream, model: str, stream: bool
) -> None:
    phase = SILENT[model] if stream else "total"
    limit_s = QUICK["timeouts"]["total_s" if phase == "total" else f"{phase}_s"]
    async with openai_upstream(faults.base_url, **QUICK) as upstream:
        began_s = time.monotonic()
        error = failed(await outcome_of(upstream, model, chat(stream=stream)))
        assert limit_s <= time.monotonic() - began_s < limit_s + LATE_S
        assert isinstance(error, TimedOut)
        assert (error.phase, error.limit_s) == (phase, limit_s)
        await until(lambda: open_connections(faults) == 0)
        assert len(faults.ledger.attempts) == 1
        await assert_well(upstream, stream=stream)


@pytest.mark.parametrize(("model", "stream"), faces(HEALTHY))
async def test_what_is_only_odd_is_passed_on_whole_and_its_connection_kept(
    faults: FaultUpstream, monkeypatch: pytest.MonkeyPatch, model: str, stream: bool
) -> None:
    monkeypatch.setattr(http_upstream, "_DRAIN_S", 0.05)
    request = chat(stream=stream, stream_options={"include_usage": True} if stream else None, x_delay_ms=1)
    async with openai_upstream(faults.base_url) as upstream:
        outcome = await outcome_of(upstream, model, request)
        assert (outcome.text, outcome.error) == (TEXT, None)
        if model != "usage-absurd":
            assert outcome.usage == _USAGE.get(model, USAGE)
        assert KEY.encode() not in b"".join(outcome.payloads) + (outcome.body or b"")
        await assert_well(upstream, stream=stream)
    first, second = faults.ledger.attempts
    assert (first.connection == second.connection) == (model not in CLOSED_AFTER)


async def test_a_call_of_tools_is_passed_on(faults: FaultUpstream) -> None:
    async with openai_upstream(faults.base_url) as upstream:
        streamed = await outcome_of(upstream, "tool-calls", chat(stream=True))
        whole = await outcome_of(upstream, "tool-calls", chat())
    assert whole.body is not None
    (called,) = orjson.loads(whole.body)["choices"][0]["message"]["tool_calls"]
    deltas = [choice["delta"] for data in streamed.payloads for choice in orjson.loads(data)["choices"]]
    pieces = [call["function"].get("arguments", "") for delta in deltas for call in delta.get("tool_calls") or []]
    assert "".join(pieces) == called["function"]["arguments"]
    assert streamed.error is None


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_that_is_but_a_filters_word_says_so(faults: FaultUpstream, stream: bool) -> None:
    async with openai_upstream(faults.base_url) as upstream:
        assert (await outcome_of(upstream, "content-filter-finish", chat(stream=stream))).filtered
        assert not (await outcome_of(upstream, "ok", chat(stream=stream))).filtered


async def test_a_prefill_that_is_refused_keeps_its_words(faults: FaultUpstream) -> None:
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hel"}]
    async with openai_upstream(faults.base_url) as upstream:
        error = failed(await outcome_of(upstream, "rejects-prefill", chat(messages=messages, stream=True)))
        assert isinstance(error, UpstreamRefused)
        assert (error.status, error.param, "prefill" in error.message) == (400, "messages", True)
        await assert_well(upstream, stream=True)


@pytest.mark.parametrize(("mode", "kind"), [("reset", UpstreamBroken), ("503", UpstreamFailed)])
async def test_an_outage_ends_when_it_ends(faults: FaultUpstream, mode: str, kind: type[UpstreamError]) -> None:
    request = chat(stream=True, x_down_mode=mode)
    async with openai_upstream(faults.base_url) as upstream:
        for _ in range(3):
            assert type(failed(await outcome_of(upstream, "down-for-60", request))) is kind
        faults.outages.end()
        assert (await outcome_of(upstream, "down-for-60", request)).text == TEXT
    assert len(faults.ledger.attempts) == 4


async def test_many_faults_at_once_lose_nothing(faults: FaultUpstream) -> None:
    models = [*BROKEN_BEFORE - {"endless-event", "sse-for-whole"}, *BROKEN_WITHIN, *REFUSED, *["ok"] * 20]
    async with openai_upstream(faults.base_url, connections={"limit": 8, "queue": 1000}) as upstream:
        calls = [outcome_of(upstream, model, chat(stream=True)) for model in models]
        outcomes = dict(zip(models, await asyncio.gather(*calls), strict=True))
        assert {model for model, outcome in outcomes.items() if outcome.error is None} == {"ok"}
        assert outcomes["ok"].text == TEXT
