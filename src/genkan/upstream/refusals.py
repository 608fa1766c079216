"""An upstream's error, as what it means to us. The one place that reads other servers' error bodies.

Source: OpenAI's API reference, "Error codes"; Anthropic's "Errors"; vLLM's and SGLang's error bodies.
"""

import re
from collections.abc import Mapping
from typing import Any

import orjson

from genkan.errors import (
    UpstreamError,
    UpstreamFailed,
    UpstreamForbidden,
    UpstreamMisconfigured,
    UpstreamQuota,
    UpstreamRefused,
    UpstreamThrottled,
    UpstreamUnauthorized,
)
from genkan.wire.retry_after import LONGEST_S, retry_after_s

Secrets = tuple[str, ...]  # our key there, and the values of configured headers

CONTEXT_TOO_LONG = "context_length_exceeded"
CONTENT_FILTER = "content_filter"

#: Statuses with which a server finds fault with the request. Others below 500 are of the way there (407, 421, 431), of
#: the moment (408, 425), or what some servers say of themselves (TGI's 424, Google's 499).
_OUR_REQUEST = frozenset({400, 406, 409, 411, 412, 413, 414, 415, 416, 417, 418, 422})
_QUOTA_CODES = frozenset(
    {"insufficient_quota", "billing_hard_limit_reached", "credit_balance_exhausted", "quota_exceeded"}
)
_FILTER_CODES = frozenset({"content_filter", "content_policy_violation", "content_filter_error"})
_CONTEXT_CODES = frozenset({"context_length_exceeded", "context_window_exceeded", "string_above_max_length"})
#: How servers without a code say it: vLLM and SGLang, Gemini, Anthropic, llama-server, DeepSeek.
_CONTEXT_PHRASES = (
    "maximum context length",
    "context length exceeded",
    "exceeds the maximum number of tokens",
    "prompt is too long",
    "exceeds the available context size",
    "longer than the model's context length",
    "input length and `max_tokens` exceed context limit",
)
_NO_MODEL_CODES = frozenset({"model_not_found", "invalid_model", "unknown_model", "model_not_exist"})
#: DeepSeek's "Model Not Exist" and the like, with status 400. The model's name there is ours, not the client's.
_NO_MODEL = re.compile(
    r"(?:the )?model:? ?(?:name )?(?:['\"`]?[\w./:@-]{1,128}['\"`]?)? ?(?:does )?(?:not exist|not found)\b"
)
#: Gemini says "You exceeded your current quota" of a limit by the minute as well, and then how long to wait.
_RETRY_IN = re.compile(r"\b(?:retry|try again) in ([0-9]{1,6}(?:\.[0-9]{1,9})?) ?s")
_SPENT_PHRASES = ("insufficient balance", "credit balance is too low", "exceeded your current quota", "spend limit")
_SPENT_BEGINNINGS = ("your credit balance is too low", "insufficient balance")  # Anthropic's, with status 400
_GEMINI_KEY_REFUSED = "API_KEY_INVALID"
#: Servers repeat what clients sent in their messages, so what a message says counts where a status stands behind it, or
#: at its beginning.
_MONEY = (402, 429)
_BEGINNING_CHARS = 400
_MAX_TEXT_CHARS = 2000
_CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}")  # every server's own; what is none of these is no code


def refusal(
    status: int, headers: Mapping[str, str], body: bytes, *, upstream: str, secrets: Secrets, now_unix_s: float
) -> UpstreamError:
    """The error that an answer with another status than 200 is. None of ``secrets`` is ever passed on."""
    after_s = retry_after_s(headers.get("retry-after"), headers.get("retry-after-ms"), headers.get("date"), now_unix_s)
    error = _error_object(body)
    if status == 400 and _says_gemini_refuses_the_key(error):
        status = 401
    return _meaning(status, error, after_s, upstream, secrets)


def refusal_in_answer(error: Any, *, upstream: str, secrets: Secrets) -> UpstreamError:
    """The error that stands in an answer with status 200."""
    found = error if isinstance(error, dict) else {"message": error if isinstance(error, str) else ""}
    status = next((value for key in ("status", "code") if type(value := found.get(key)) is int and value >= 400), 500)
    if status == 500 and found.get("type") in ("rate_limit_error", "overloaded_error"):
        status = 429 if found["type"] == "rate_limit_error" else 529
    return _meaning(status, found, None, upstream, secrets)


def _meaning(
    status: int, error: dict[str, Any], after_s: float | None, upstream: str, secrets: Secrets
) -> UpstreamError:
    code, message = _text(error.get("code")) or _text(error.get("type")), _text(error.get("message")) or ""
    lowered = message[:_BEGINNING_CHARS].lower()
    if after_s is None and status == 429 and (said := _RETRY_IN.search(lowered)) is not None:
        after_s = min(float(said[1]), LONGEST_S)
    is_spent = after_s is None and (
        any(phrase in lowered for phrase in _SPENT_PHRASES)
        if status in _MONEY
        else lowered.startswith(_SPENT_BEGINNINGS)
    )
    if is_spent or code in _QUOTA_CODES or status == 402:
        return UpstreamQuota("What may be spent at the model's server is spent.", upstream=upstream)
    if status in (404, 405, 410) or 300 <= status < 400 or _is_no_model(status, code, lowered):
        return UpstreamMisconfigured(
            f"The model's server has no such model or path (status {status}).", upstream=upstream
        )
    if status == 401:
        return UpstreamUnauthorized("The model's server does not accept this gateway's key.", upstream=upstream)
    if status in (403, 451):
        return UpstreamForbidden("The model's server does not let this gateway's key do that.", upstream=upstream)
    if status == 429:
        return UpstreamThrottled(upstream=upstream, retry_after_s=after_s)
    if status not in _OUR_REQUEST:
        return UpstreamFailed(upstream=upstream, status_there=status, retry_after_s=after_s)
    if code in _CONTEXT_CODES or any(phrase in lowered for phrase in _CONTEXT_PHRASES):
        code = CONTEXT_TOO_LONG
    elif code in _FILTER_CODES:
        code = CONTENT_FILTER
    else:
        code = _shown_code(error.get("code"), secrets)
    return UpstreamRefused(
        _shown(message, secrets) or "The model's server refused the request.",
        upstream=upstream,
        status=status,
        kind="invalid_request_error",
        code=code,
        param=_shown(error.get("param"), secrets),
        retry_after_s=None,
    )


def relayed(status: int, body: bytes, retry_after_s: float | None, *, upstream: str) -> UpstreamError | None:
    """An error of genkan's own making, from the engine: passed on as it is. None when it is not one."""
    try:
        error = orjson.loads(body)["error"]
        return UpstreamRefused(
            error["message"],
            upstream=upstream,
            status=status,
            kind=error["type"],
            code=_shown_code(error["code"], ()),
            param=error["param"],
            retry_after_s=retry_after_s,
        )
    except (ValueError, KeyError, TypeError):
        return None


def _is_no_model(status: int, code: str | None, lowered: str) -> bool:
    return status < 500 and (code in _NO_MODEL_CODES or _NO_MODEL.match(lowered) is not None)


def _says_gemini_refuses_the_key(error: dict[str, Any]) -> bool:
    details = error.get("details")
    return isinstance(details, list) and any(
        isinstance(detail, dict) and detail.get("reason") == _GEMINI_KEY_REFUSED for detail in details
    )


def _error_object(body: bytes) -> dict[str, Any]:
    """What stands under ``error``; some put it there as a text, in a list, or at the top."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    if isinstance(value, list) and value:  # Gemini wraps it so
        value = value[0]
    if not isinstance(value, dict):
        return {}
    error = value.get("error", value)
    if isinstance(error, dict):
        return error
    return {"message": error} if isinstance(error, str) else {}


def _shown(value: Any, secrets: Secrets) -> str | None:
    """A text for the client's eyes. The key goes before the text is cut, or half of it could be left at the end."""
    text = _text(value)
    if text is None:
        return None
    for secret in secrets:
        text = text.replace(secret, "[key]")
    return text[:_MAX_TEXT_CHARS]


def _shown_code(value: Any, secrets: Secrets) -> str | None:
    """A code for the client's eyes; None for what no server would mean as one, such as our key."""
    text = _shown(value, secrets)
    return text if text is not None and _CODE.fullmatch(text) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
