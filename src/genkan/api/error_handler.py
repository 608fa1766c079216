"""Errors as clients see them: OpenAI's error body, as a response or as the last event of a stream."""

import math

from genkan.api.exchange import Exchange, Header
from genkan.errors import BodyTimeout, BodyTooLarge, RateLimited, RequestError, WrongMethod
from genkan.wire.error_body import error_body
from genkan.wire.sse import DONE, encode_event

#: OpenAI's clients honour no longer ``retry-after``, and come back sooner where one says more.
MAX_RETRY_AFTER_S = 60.0


async def send_error(exchange: Exchange, error: RequestError) -> None:
    """Answer with ``error``: as a response, or, once a stream has begun, as an event and the stream's end."""
    exchange.fields["error"] = error.outcome
    if error.attempts is not None:
        exchange.fields["attempts"] = error.attempts
    if exchange.status == 0:
        await exchange.reply(error_body(error), status=error.status, headers=_headers(error))
    else:
        await exchange.end_stream(encode_event(error_body(error)) + DONE)


def _headers(error: RequestError) -> list[Header]:
    headers: list[Header] = list(error.headers)
    should_retry = error.should_retry
    if error.retry_after_s is not None:
        if error.retry_after_s > MAX_RETRY_AFTER_S:
            should_retry = False  # clients that retry by themselves would wait a minute twice, in vain
        seconds = math.ceil(min(max(error.retry_after_s, 1.0), MAX_RETRY_AFTER_S))
        headers.append((b"retry-after", b"%d" % seconds))
    if isinstance(error, RateLimited):
        headers.append((b"retry-after-ms", b"%d" % math.ceil(1000 * min(error.retry_after_s or 0, MAX_RETRY_AFTER_S))))
    if should_retry is not None:
        headers.append((b"x-should-retry", b"true" if should_retry else b"false"))
    if error.attempts is not None:
        headers.append((b"x-genkan-attempts", b"%d" % error.attempts))
    if isinstance(error, WrongMethod):
        headers.append((b"allow", ", ".join(error.allowed).encode()))
    if isinstance(error, BodyTooLarge | BodyTimeout):
        headers.append((b"connection", b"close"))  # the rest of the body is still on its way
    return headers
