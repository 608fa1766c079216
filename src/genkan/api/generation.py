"""``POST /v1/chat/completions`` and ``POST /v1/completions``: whole answers and event streams."""

from collections.abc import Awaitable, Callable, Container
from typing import Any, Final

from genkan.api.content_log import ContentLog
from genkan.api.disconnect import cancelled_on_disconnect
from genkan.api.exchange import Exchange
from genkan.config import ServerConfig
from genkan.upstream.base import Answer, Responder
from genkan.wire.chat import ChatRequest, CompletionRequest, GenerationRequest
from genkan.wire.sse import DONE, encode_events
from genkan.wire.usage import MAX_TOKENS

#: As OpenTelemetry's conventions name them.
_OPERATIONS: Final = {ChatRequest.path: "chat", CompletionRequest.path: "text_completion"}
_NANO: Final = 10**9
_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")
_ALL_INT = [int] * len(_COUNTS)


class GenerationEndpoint:
    """Reads one kind of request, asks a responder, and sends what it answers."""

    def __init__(
        self,
        parse: Callable[[bytes], GenerationRequest],
        responder: Responder,
        server: ServerConfig,
        logged: Container[str] = (),
    ) -> None:
        """What is asked and answered by one of ``logged``, names of routes, is noted in the log."""
        self._parse = parse
        self._logged = logged
        self._responder = responder
        self._max_body_bytes, self._body_timeout_s = server.max_body_bytes, server.body_timeout_s
        self._send_timeout_s = server.send_timeout_s

    async def __call__(self, exchange: Exchange) -> None:
        exchange.send_timeout_s = self._send_timeout_s
        body = await exchange.json_body(limit_bytes=self._max_body_bytes, timeout_s=self._body_timeout_s)
        await answer(exchange, self._responder, self._parse(body), _send, self._logged)


async def answer(
    exchange: Exchange,
    responder: Responder,
    request: GenerationRequest,
    send: Callable[[Exchange, Answer], Awaitable[None]],
    logged: Container[str] = (),
) -> None:
    """Give the responder's answer to ``send``; it is closed at the end, whatever that is, and noted for the log.

    Raises ClientGone as soon as the client has gone, also while there is no answer yet.
    """
    fields = exchange.fields
    fields["route"] = fields["model"] = asked = request.model
    fields["stream"] = request.stream
    exchange.generation = (_OPERATIONS[request.path], asked)
    content = ContentLog(fields, request) if asked in logged else None
    with cancelled_on_disconnect(exchange):
        answer = await responder.respond(request, exchange.caller)
        try:
            fields.update(answer.fields)
            if content is not None:
                content.follow(answer)
            await send(exchange, answer)
        finally:
            fields.update(answer.fields)  # which tell how a stream went on
            fields["usage"] = token_counts(answer.usage)
            fields["finish_reason"] = answer.finish_reason
            await answer.aclose()
            cost = answer.cost_nano_usd  # known at the end, also of one that its client left
            fields["cost_usd"] = cost and cost / _NANO


async def _send(exchange: Exchange, answer: Answer) -> None:
    if answer.body is not None:
        await exchange.reply(answer.body, headers=answer.headers)
        return
    assert answer.batches is not None
    await exchange.start_stream(answer.headers)
    exchange.first_token_s = exchange.elapsed_s  # an answer begins with the first piece of it
    async for payloads in answer.batches:
        events = encode_events(payloads)
        exchange.bytes_out += len(events)
        await exchange.send(events)
    await exchange.end_stream(DONE)


def token_counts(usage: dict[str, Any] | None) -> dict[str, int] | None:
    """What the log shows of ``usage``: an upstream may put anything of any size in it, or beside it."""
    if usage is None:
        return None
    values: list[Any] = [*map(usage.get, _COUNTS)]
    counts = dict(zip(_COUNTS, values, strict=True))
    if [*map(type, values)] != _ALL_INT or min(values) < 0 or max(values) > MAX_TOKENS:  # seldom
        counts = {name: value for name, value in counts.items() if _is_count(value)}
    details = usage.get("prompt_tokens_details")
    if type(details) is dict and _is_count(cached := details.get("cached_tokens")):
        counts["cached_tokens"] = cached
    return counts


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_TOKENS
