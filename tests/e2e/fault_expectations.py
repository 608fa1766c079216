"""What the client is to get for each fault: the error catalogue as one sees it from outside.

``ONE_ERROR`` are errors of a chain that has nobody else to ask, as (status, code). ``CUT_OFF`` are the codes of the
events that end a stream of which the client has had a part. Faults in neither are answered whole.
"""

from typing import Final

from faults.canonical import TOKENS
from faults.catalogue import HARMLESS

_INVALID: Final = (502, "upstream_invalid_response")
_TIMEOUT: Final = (504, "upstream_timeout")
_UNAVAILABLE: Final = (503, "upstream_unavailable")
_ERROR: Final = (502, "upstream_error")
_AUTH: Final = (502, "upstream_auth_error")
_QUOTA: Final = (503, "upstream_quota")
_MISCONFIGURED: Final = (502, "upstream_misconfigured")
_CONTEXT: Final = (400, "context_length_exceeded")

#: Errors of the request itself, which another target would find as well: they end a chain.
ABOUT_THE_REQUEST: Final[dict[str, tuple[int, str | None]]] = {
    "bad-request": (400, None),
    "unprocessable": (422, None),
    "409-for-ever": (409, None),
    "413-for-ever": (413, None),
    "content-filter": (400, "content_filter"),
}
ONE_ERROR: Final[dict[str, tuple[int, str | None]]] = {
    **ABOUT_THE_REQUEST,
    "429-for-ever": (429, "upstream_rate_limited"),
    "quota": _QUOTA,
    "insufficient-balance": _QUOTA,
    "unauthorized": _AUTH,
    "unauthorized-gemini": _AUTH,
    "forbidden": _AUTH,
    "not-found": _MISCONFIGURED,
    "redirect": _MISCONFIGURED,
    "408-for-ever": _TIMEOUT,
    "500-for-ever": _ERROR,
    "500-as-string": _ERROR,
    "echo-key": _ERROR,
    "502-html": _UNAVAILABLE,
    "503-for-ever": _UNAVAILABLE,
    "503-retry-after-a-day": _UNAVAILABLE,
    "504-html": _TIMEOUT,
    "529-for-ever": (503, "server_is_overloaded"),
    "context-too-long": _CONTEXT,
    "context-too-long-vllm": _CONTEXT,
    "context-too-long-gemini": _CONTEXT,
    "html-200": _INVALID,
    "html-200-stream": _INVALID,
    "empty-body-200": _INVALID,
    "wrong-shape": _INVALID,
    "error-200": _UNAVAILABLE,
    "sse-for-whole": _INVALID,
    "gzip-bomb": _INVALID,
    "gzip-unasked": _INVALID,
    "down-for-60": _INVALID,
    "role-then-silence": _TIMEOUT,
    "pings-only": _TIMEOUT,
    "error-event-first": _ERROR,
    "invalid-json-first": _INVALID,
    "done-only": _INVALID,
    "endless-event": _INVALID,
    "reset-before-headers": _INVALID,
    "eof-before-headers": _INVALID,
    "reset-after-headers": _INVALID,
    "reset-inside-headers": _INVALID,
    "never-answers": _TIMEOUT,
    "headers-then-silence": _TIMEOUT,
    "huge-header": _INVALID,
    "many-headers": _INVALID,
    "chunk-ext-garbage": _INVALID,
    "not-http": _INVALID,
    # These are cut off in a stream; not streamed, or when not one token came through before the end:
    "cut-after-40": _INVALID,
    "incomplete-chunked-after-40": _INVALID,
    "stalled-after-40": _TIMEOUT,
    "invalid-json-event": _INVALID,
    "invalid-utf8-event": _INVALID,
    "wrong-index": _INVALID,
    "huge-event": _INVALID,
    "cut-at-byte": _INVALID,
    "eof-at-byte": _INVALID,
    "truncated-content-length": _INVALID,
    "error-event-after-40": _ERROR,
    "error-event-done-after-40": _ERROR,
    "echo-key-event": _ERROR,
    "named-error-event-after-40": (503, "server_is_overloaded"),
    "out-of-order": _INVALID,
}
CUT_OFF: Final[dict[str, str]] = {
    "cut-after-40": "upstream_stream_interrupted",
    "eof-after-40": "upstream_stream_interrupted",
    "incomplete-chunked-after-40": "upstream_stream_interrupted",
    "stalled-after-40": "upstream_timeout",
    "pings-only-after-40": "upstream_timeout",
    "error-event-after-40": "upstream_error",
    "error-event-done-after-40": "upstream_error",
    "named-error-event-after-40": "server_is_overloaded",
    "echo-key-event": "upstream_error",
    "invalid-json-event": "upstream_invalid_response",
    "invalid-utf8-event": "upstream_invalid_response",
    "no-done-no-finish": "upstream_stream_interrupted",
    "done-no-finish": "upstream_stream_interrupted",
    "out-of-order": "upstream_invalid_response",
    "wrong-index": "upstream_invalid_response",
    "huge-event": "upstream_invalid_response",
    "endless-tokens": "upstream_timeout",
    "cut-at-byte": "upstream_stream_interrupted",
    "eof-at-byte": "upstream_stream_interrupted",
    "truncated-content-length": "upstream_stream_interrupted",
    "no-length-cut": "upstream_stream_interrupted",
}
#: Which give way at the second try, so that the same target answers after all.
GIVES_WAY: Final = frozenset(
    {
        "429-retry-after-seconds",
        "429-retry-after-date",
        "429-retry-after-skewed-date",
        "429-retry-after-past-date",
        "429-retry-after-garbage",
        "429-no-retry-after",
        "500-once",
        "500-every-other",
        "503-once-retry-after",
    }
)
#: Answered at the first attempt: an idle connection that was dead is forgiven, and so is what HTTP allows.
UNNOTICED: Final = HARMLESS | {"closes-on-reuse", "resets-on-reuse", "rejects-prefill", "informational-flood"}
#: Answered, but not with the canonical text.
OTHER_ANSWERS: Final = {"tool-calls": "tool_calls", "content-filter-finish": "content_filter"}
#: These may cost one request more than the gateway counts, sent again after an idle connection that seemed dead.
SENT_AGAIN: Final = frozenset(
    {
        "reset-before-headers",
        "eof-before-headers",
        "reset-inside-headers",
        "closes-on-reuse",
        "resets-on-reuse",
        "down-for-60",
    }
)


def is_beginning(text: str) -> bool:
    """Whether ``text`` is the canonical answer up to some token: none lost, doubled or swapped."""
    tokens = [f"{token} " for token in text.split()]
    return "".join(tokens) == text and all(token == TOKENS[place % 60] for place, token in enumerate(tokens))
