"""Streams that stop, stall or lie after a good beginning, and whole answers that do the like."""

import asyncio

import orjson
from faults.canonical import TEXT, TOKENS, error_body, event
from faults.exchange import EVENTS, Exchange
from faults.refusals import ANTHROPIC_OVERLOADED
from faults.table import fault

CUT_AT = 40
BAD_AT = 10
HUGE_EVENT_BYTES = 2 << 20
_PIECE = b"x" * (64 << 10)


@fault("role-then-silence", only="stream")
async def role_then_silence(exchange: Exchange) -> None:
    """The role chunk, and nothing after it."""
    await exchange.begin_chunks()
    await exchange.events(exchange.canonical.opening())
    await exchange.silence()


@fault("cut-after-40")
async def cut_after_40(exchange: Exchange) -> None:
    """Resets the connection after 40 of the 60 tokens."""
    await exchange.up_to_token(CUT_AT)
    await exchange.reset()


@fault("eof-after-40", only="stream")
async def eof_after_40(exchange: Exchange) -> None:
    """Ends the stream after 40 of the 60 tokens, properly as far as HTTP goes: no finish_reason, no [DONE]."""
    await exchange.up_to_token(CUT_AT)
    await exchange.end_chunks()


@fault("incomplete-chunked-after-40", only="stream")
async def incomplete_chunked_after_40(exchange: Exchange) -> None:
    """Closes the connection inside the chunk of the 41st token."""
    await exchange.up_to_token(CUT_AT)
    await exchange.send(b"400\r\ndata: {")
    exchange.close()


@fault("stalled-after-40")
async def stalled_after_40(exchange: Exchange) -> None:
    """Open and silent after 40 of the 60 tokens."""
    await exchange.up_to_token(CUT_AT)
    await exchange.silence()


@fault("pings-only-after-40", only="stream")
async def pings_only_after_40(exchange: Exchange) -> None:
    """Nothing but comments after 40 of the 60 tokens, for ever, one each ``x_ping_ms`` (100 when not told)."""
    await exchange.up_to_token(CUT_AT)
    await _ping_for_ever(exchange)


@fault("pings-only", only="stream")
async def pings_only(exchange: Exchange) -> None:
    """Nothing but comments from the beginning, for ever, one each ``x_ping_ms`` (100 when not told)."""
    await exchange.begin_chunks()
    await _ping_for_ever(exchange)


@fault("error-event-first", only="stream")
async def error_event_first(exchange: Exchange) -> None:
    """Status 200, and an error as the first event."""
    await exchange.begin_chunks()
    await exchange.payloads([_error()])
    await exchange.end_chunks()


@fault("error-event-after-40", only="stream")
async def error_event_after_40(exchange: Exchange) -> None:
    """An error as the event after 40 of the 60 tokens, and then the end."""
    await exchange.up_to_token(CUT_AT)
    await exchange.payloads([_error()])
    await exchange.end_chunks()


@fault("error-event-done-after-40", only="stream")
async def error_event_done_after_40(exchange: Exchange) -> None:
    """An error as the event after 40 of the 60 tokens, and then [DONE], as if all were well."""
    await exchange.up_to_token(CUT_AT)
    await exchange.payloads([_error()])
    await exchange.done()


@fault("named-error-event-after-40", only="stream")
async def named_error_event_after_40(exchange: Exchange) -> None:
    """The same in Anthropic's words: an event whose name is error."""
    await exchange.up_to_token(CUT_AT)
    await exchange.chunk(b"event: error\n" + event(orjson.dumps(ANTHROPIC_OVERLOADED)))
    await exchange.end_chunks()


@fault("echo-key-event", only="stream")
async def echo_key_event(exchange: Exchange) -> None:
    """An error event after 40 of the 60 tokens whose message holds the Authorization header."""
    await exchange.up_to_token(CUT_AT)
    await exchange.payloads([error_body(f"failed with {exchange.request.authorization}", "server_error")])
    await exchange.end_chunks()


@fault("invalid-json-first")
async def invalid_json_first(exchange: Exchange) -> None:
    """The first event, or the whole body, is broken JSON."""
    await _with_event(exchange, 0, b'{"id": "chatcmpl-fault", "choices": [{"index": 0, "delta": {')


@fault("invalid-json-event", only="stream")
async def invalid_json_event(exchange: Exchange) -> None:
    """Event 10 is broken JSON; what follows is healthy."""
    await _with_event(exchange, BAD_AT, b'{"id": "chatcmpl-fault", "choices": [{"index": 0, "delta": {')


@fault("invalid-utf8-event")
async def invalid_utf8_event(exchange: Exchange) -> None:
    """Event 10, or the text of the whole body, is no UTF-8; what follows is healthy."""
    bad = orjson.dumps(exchange.canonical.chunk({"content": "BAD"})).replace(b"BAD", b"\xc3\x28\xff")
    if exchange.stream:
        await _with_event(exchange, BAD_AT, bad)
    else:
        await exchange.answer(orjson.dumps(exchange.canonical.whole()).replace(b"tok00", b"\xc3\x28\xff"))


@fault("no-done", only="stream", harmless=True)
async def no_done(exchange: Exchange) -> None:
    """All 60 tokens and the finish_reason, but no [DONE]; then the connection is closed."""
    exchange.keep_alive = False
    await exchange.begin_chunks()
    await exchange.events(exchange.canonical.chunks())
    await exchange.end_chunks()


@fault("no-done-no-finish", only="stream")
async def no_done_no_finish(exchange: Exchange) -> None:
    """All 60 tokens, but neither finish_reason nor [DONE]; then the connection is closed."""
    exchange.keep_alive = False
    await exchange.up_to_token(len(TOKENS))
    await exchange.end_chunks()


@fault("done-no-finish", only="stream")
async def done_no_finish(exchange: Exchange) -> None:
    """40 of the 60 tokens, and [DONE] without a finish_reason."""
    await exchange.up_to_token(CUT_AT)
    await exchange.done()


@fault("done-only", only="stream")
async def done_only(exchange: Exchange) -> None:
    """[DONE] and nothing else."""
    await exchange.streamed([])


@fault("out-of-order", only="stream")
async def out_of_order(exchange: Exchange) -> None:
    """The finish chunk comes before the last 10 tokens."""
    answer = exchange.canonical
    late = len(TOKENS) - 10
    events = [*answer.opening(), *answer.tokens(0, late), answer.finish(), *answer.tokens(late), *answer.usage()]
    await exchange.streamed(events)


@fault("wrong-index")
async def wrong_index(exchange: Exchange) -> None:
    """A chunk more, after token 10, is of choice 7, for which nobody asked; a whole answer has only that choice."""
    answer = exchange.canonical
    if exchange.stream:
        stray = answer.chunk({"content": "stray "}, index=7)
        tokens = [*answer.tokens(0, BAD_AT), stray, *answer.tokens(BAD_AT)]
        await exchange.streamed([*answer.opening(), *tokens, answer.finish(), *answer.usage()])
    else:
        body = answer.whole()
        body["choices"][0]["index"] = 7
        await exchange.answer(orjson.dumps(body))


@fault("huge-event", only="stream")
async def huge_event(exchange: Exchange) -> None:
    """Event 10 has 2 MiB; what follows is healthy."""
    huge = exchange.canonical.chunk({"content": ""}) | {"x_padding": "x" * HUGE_EVENT_BYTES}
    await _with_event(exchange, BAD_AT, orjson.dumps(huge))


@fault("endless-event")
async def endless_event(exchange: Exchange) -> None:
    """An event, or a whole body, that grows until the client goes."""
    chunk = orjson.dumps(exchange.canonical.chunk({"content": TEXT}))
    await exchange.begin_chunks(EVENTS if exchange.stream else "application/json")
    await exchange.chunk(b"data: " * exchange.stream + chunk[:-1] + b',"x_padding":"')
    while True:
        await exchange.chunk(_PIECE)
        await asyncio.sleep(0)


@fault("endless-tokens", only="stream")
async def endless_tokens(exchange: Exchange) -> None:
    """The 60 tokens over and over, until the client goes; ``x_delay_ms`` in the body slows the flood down."""
    delay_s = exchange.request.number("x_delay_ms", 0) / 1000
    await exchange.begin_chunks()
    await exchange.events(exchange.canonical.opening())
    while True:
        await exchange.events(exchange.canonical.tokens(), delay_s=delay_s)
        await asyncio.sleep(0)


def _error() -> bytes:
    return error_body("The server had an error while processing your request.", "server_error", code="server_error")


async def _with_event(exchange: Exchange, place: int, payload: bytes) -> None:
    """The healthy stream with one event more, or that event as the whole body."""
    if not exchange.stream:
        await exchange.answer(payload)
        return
    payloads = exchange.canonical.payloads()
    await exchange.begin_chunks()
    await exchange.payloads([*payloads[:place], payload, *payloads[place:]])
    await exchange.end_chunks()


async def _ping_for_ever(exchange: Exchange) -> None:
    while True:
        await exchange.chunk(b": ping\n\n")
        await asyncio.sleep(exchange.request.number("x_ping_ms", 100) / 1000)
