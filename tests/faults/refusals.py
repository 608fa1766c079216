"""Upstreams that answer with an error, in the words of those who really do.

Where the text says "once", it is the first call, or as many as ``x_failures`` in the body says; calls after that are
healthy. ``x_retry_after`` in the body replaces the ``Retry-After`` of any refusal that has one.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate

import orjson
from faults.canonical import error_body
from faults.exchange import JSON, Exchange
from faults.table import Fault, enter_fault, fault

HTML = b"<html><head><title>%d</title></head><body><center><h1>%b</h1></center><hr>nginx</body></html>"
_HOUR_S = 3600.0
#: How Anthropic writes it, in bodies and in events.
ANTHROPIC_OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
_LIMIT = error_body("Rate limit reached for requests", "rate_limit_error", code="rate_limit_exceeded")
_CRASH = error_body("The server had an error while processing your request.", "server_error")
_BUSY = error_body("The engine is currently overloaded.", "service_unavailable_error", code="server_is_overloaded")
_CONTEXT = "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens."
#: Gemini's endpoint wraps its errors in a list.
_GEMINI_CONTEXT = {
    "error": {
        "code": 400,
        "message": "The input token count (1048577) exceeds the maximum number of tokens allowed (1048576).",
        "status": "INVALID_ARGUMENT",
    }
}
_GEMINI_KEY = {
    "error": {
        "code": 400,
        "message": "API key not valid. Please pass a valid API key.",
        "status": "INVALID_ARGUMENT",
        "details": [{"reason": "API_KEY_INVALID", "domain": "googleapis.com"}],
    }
}
_AZURE_FILTER = {
    "error": {
        "message": "The response was filtered due to the prompt triggering the content management policy.",
        "type": None,
        "param": "prompt",
        "code": "content_filter",
        "status": 400,
        "innererror": {"code": "ResponsibleAIPolicyViolation"},
    }
}

RetryAfter = Callable[[], Mapping[str, str]]


def _seconds(value: str) -> RetryAfter:
    return lambda: {"retry-after": value}


def _date(ahead_s: float, clock_off_s: float = 0) -> RetryAfter:
    """A date ``ahead_s`` from now on the upstream's own clock, which is off by so much."""

    def headers() -> Mapping[str, str]:
        now_s = time.time() + clock_off_s
        return {"date": formatdate(now_s, usegmt=True), "retry-after": formatdate(now_s + ahead_s, usegmt=True)}

    return headers


@dataclass(frozen=True, slots=True)
class Refusal:
    status: int
    body: bytes
    retry_after: RetryAfter | None = None
    once: bool = False
    content_type: str = JSON

    async def __call__(self, exchange: Exchange) -> None:
        if self.once and exchange.attempt.number > exchange.request.number("x_failures", 1):
            await exchange.healthy()
            return
        headers = dict(self.retry_after() if self.retry_after else {})
        if "retry-after" in headers:
            headers["retry-after"] = str(exchange.request.body.get("x_retry_after", headers["retry-after"]))
        await exchange.answer(self.body, self.status, content_type=self.content_type, headers=headers)


def _page(status: int, title: str) -> Refusal:
    return Refusal(status, HTML % (status, title.encode()), content_type="text/html")


_REFUSALS: Mapping[str, tuple[str, Refusal]] = {
    "429-retry-after-seconds": (
        "429 once, which asks for 1 second.",
        Refusal(429, _LIMIT, _seconds("1"), once=True),
    ),
    "429-retry-after-date": (
        "429 once, which names the date 2 seconds from now.",
        Refusal(429, _LIMIT, _date(2), once=True),
    ),
    "429-retry-after-skewed-date": (
        "429 once, which names a date 2 seconds ahead of a Date header that is an hour fast.",
        Refusal(429, _LIMIT, _date(2, _HOUR_S), once=True),
    ),
    "429-retry-after-past-date": (
        "429 once, which names a date an hour ago.",
        Refusal(429, _LIMIT, _date(-_HOUR_S), once=True),
    ),
    "429-retry-after-garbage": (
        "429 once, whose Retry-After is neither seconds nor a date.",
        Refusal(429, _LIMIT, _seconds("soon, I hope"), once=True),
    ),
    "429-no-retry-after": ("429 once, without Retry-After.", Refusal(429, _LIMIT, once=True)),
    "429-for-ever": ("429 always, which asks for 30 seconds.", Refusal(429, _LIMIT, _seconds("30"))),
    "quota": (
        "429 always: the credit is spent.",
        Refusal(
            429,
            error_body("You exceeded your current quota.", "insufficient_quota", code="insufficient_quota"),
        ),
    ),
    "insufficient-balance": (
        "402 always, as DeepSeek says that the credit is spent.",
        Refusal(402, error_body("Insufficient Balance", "unknown_error", code="invalid_request_error")),
    ),
    "forbidden": (
        "403 always: this key may not.",
        Refusal(403, error_body("Country, region, or territory not supported", "request_forbidden")),
    ),
    "unauthorized-gemini": (
        "400 always, with which Gemini says that the key is wrong.",
        Refusal(400, orjson.dumps([_GEMINI_KEY])),
    ),
    "not-found": (
        "404 always: no such model.",
        Refusal(404, error_body("The model does not exist", "invalid_request_error", code="model_not_found")),
    ),
    "bad-request": (
        "400 always, which names the parameter that is wrong.",
        Refusal(400, error_body("temperature is too high", "invalid_request_error", param="temperature")),
    ),
    "unprocessable": (
        "422 always, in FastAPI's words.",
        Refusal(422, orjson.dumps({"detail": [{"loc": ["body", "seed"], "msg": "not an integer"}]})),
    ),
    "408-for-ever": ("408 always.", Refusal(408, error_body("Request timed out.", "timeout"))),
    "409-for-ever": ("409 always.", Refusal(409, error_body("Try again.", "conflict_error"))),
    "413-for-ever": (
        "413 always.",
        Refusal(413, error_body("Request exceeds the maximum size", "request_too_large")),
    ),
    "500-once": ("500 once.", Refusal(500, _CRASH, once=True)),
    "500-for-ever": ("500 always.", Refusal(500, _CRASH)),
    "500-as-string": (
        "500 always, whose error is a string, as Ollama's is.",
        Refusal(500, orjson.dumps({"error": "llama runner process has terminated"})),
    ),
    "502-html": ("502 always, with a proxy's page.", _page(502, "502 Bad Gateway")),
    "503-for-ever": ("503 always, without Retry-After.", Refusal(503, _BUSY)),
    "503-once-retry-after": (
        "503 once, which asks for 1 second.",
        Refusal(503, _BUSY, _seconds("1"), once=True),
    ),
    "503-retry-after-a-day": ("503 always, which asks for a day.", Refusal(503, _BUSY, _seconds("86400"))),
    "504-html": ("504 always, with a proxy's page.", _page(504, "504 Gateway Time-out")),
    "529-for-ever": (
        "529 always, as Anthropic says that it is overloaded.",
        Refusal(529, orjson.dumps(ANTHROPIC_OVERLOADED)),
    ),
    "context-too-long": (
        "400 always: the prompt is longer than the model's context, in OpenAI's words.",
        Refusal(
            400,
            error_body(_CONTEXT, "invalid_request_error", code="context_length_exceeded", param="messages"),
        ),
    ),
    "context-too-long-vllm": (
        "400 always: the same in vLLM's words, whose code is the status.",
        Refusal(400, error_body(_CONTEXT, "BadRequestError", code=400)),
    ),
    "context-too-long-gemini": (
        "400 always: the same in Gemini's words, a list.",
        Refusal(400, orjson.dumps([_GEMINI_CONTEXT])),
    ),
    "content-filter": ("400 always: the prompt was filtered.", Refusal(400, orjson.dumps(_AZURE_FILTER))),
}  # fmt: skip


for _name, (_what, _refusal) in _REFUSALS.items():
    enter_fault(Fault(_name, _what, _refusal))


@fault("500-every-other")
async def every_other(exchange: Exchange) -> None:
    """500 for the first, third, fifth call and so on."""
    if exchange.attempt.number % 2:
        await exchange.answer(_CRASH, 500)
    else:
        await exchange.healthy()


@fault("unauthorized")
async def unauthorized(exchange: Exchange) -> None:
    """401 always, whose message quotes the key."""
    message = f"Incorrect API key provided: {exchange.request.key}. You can find your API key in your account."
    await exchange.answer(error_body(message, "invalid_request_error", code="invalid_api_key"), 401)


@fault("echo-key")
async def echo_key(exchange: Exchange) -> None:
    """500 always, whose message holds the Authorization header."""
    message = f"upstream request failed, headers: authorization={exchange.request.authorization}"
    await exchange.answer(error_body(message, "server_error"), 500)


@fault("rejects-prefill")
async def rejects_prefill(exchange: Exchange) -> None:
    """400 when the last message is the assistant's; healthy otherwise."""
    messages = exchange.request.body.get("messages") or [{}]
    if messages[-1].get("role") == "assistant":
        message = "This model does not support assistant message prefill."
        await exchange.answer(error_body(message, "invalid_request_error", param="messages"), 400)
    else:
        await exchange.healthy()


@fault("redirect")
async def redirect(exchange: Exchange) -> None:
    """307 to ``/_/canary``, which writes down who comes."""
    await exchange.answer(b"", 307, headers={"location": "/_/canary"})
