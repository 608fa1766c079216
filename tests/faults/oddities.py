"""Upstreams that are healthy, or nearly, and unusual."""

import asyncio
from itertools import chain

import orjson
from faults.canonical import TOKENS, event
from faults.exchange import Exchange
from faults.table import fault

_ARGUMENTS = ('{"city"', ': "Paris"', "}")
_CALL = {"id": "call_fault", "type": "function", "function": {"name": "weather", "arguments": "".join(_ARGUMENTS)}}


@fault("ok", harmless=True)
async def healthy(exchange: Exchange) -> None:
    """Healthy."""
    await exchange.healthy()


@fault("slow-ok", harmless=True)
async def slow_ok(exchange: Exchange) -> None:
    """Healthy, 20 ms for each token, or what ``x_delay_ms`` in the body says."""
    await _slowly(exchange, exchange.request.number("x_delay_ms", 20))


@fault("slow-drip", harmless=True)
async def slow_drip(exchange: Exchange) -> None:
    """Healthy, a second for each token, or what ``x_delay_ms`` in the body says: always just alive."""
    await _slowly(exchange, exchange.request.number("x_delay_ms", 1000))


@fault("tool-calls", harmless=True)
async def tool_calls(exchange: Exchange) -> None:
    """Healthy, but calls a tool in place of text, its arguments in three deltas."""
    answer = exchange.canonical
    if not exchange.stream:
        body = answer.whole(finish_reason="tool_calls", tool_calls=[_CALL])
        body["choices"][0]["message"]["content"] = None
        await exchange.answer(orjson.dumps(body))
        return
    begun = {"index": 0, **_CALL, "function": {"name": "weather", "arguments": ""}}
    pieces = [{"index": 0, "function": {"arguments": piece}} for piece in _ARGUMENTS]
    deltas = [answer.chunk({"tool_calls": [piece]}) for piece in (begun, *pieces)]
    await exchange.streamed([*answer.opening(), *deltas, answer.finish("tool_calls"), *answer.usage()])


@fault("reasoning", harmless=True)
async def reasoning(exchange: Exchange) -> None:
    """Healthy, but thinks first, as DeepSeek does, in a field that OpenAI has not."""
    answer = exchange.canonical
    if exchange.stream:
        thought = [answer.chunk({"content": None, "reasoning_content": word}) for word in ("hm, ", "yes")]
        await exchange.streamed([*answer.opening(), *thought, *answer.chunks()[1:]])
    else:
        await exchange.answer(orjson.dumps(answer.whole(reasoning_content="hm, yes")))


@fault("comments-first", only="stream", harmless=True)
async def comments_first(exchange: Exchange) -> None:
    """Healthy after comments such as OpenRouter sends while it waits."""
    await exchange.begin_chunks()
    await exchange.chunk(b": OPENROUTER PROCESSING\n\n" * 3)
    await exchange.events(exchange.canonical.chunks())
    await exchange.done()


@fault("choiceless-first", only="stream", harmless=True)
async def choiceless_first(exchange: Exchange) -> None:
    """Healthy after a chunk without choices, in which Azure says what its filter thought of the prompt."""
    first = exchange.canonical.opening()[0] | {"choices": [], "prompt_filter_results": [{"prompt_index": 0}]}
    await exchange.streamed([first, *exchange.canonical.chunks()])


@fault("usage-missing", harmless=True)
async def usage_missing(exchange: Exchange) -> None:
    """Healthy, but does not say what it used."""
    answer = exchange.canonical
    if exchange.stream:
        await exchange.streamed([*answer.opening(), *answer.tokens(), answer.finish()])
    else:
        await exchange.answer(orjson.dumps({k: v for k, v in answer.whole().items() if k != "usage"}))


@fault("usage-null", harmless=True)
async def usage_null(exchange: Exchange) -> None:
    """Healthy, but its usage is null, also in the chunk that is there for it."""
    answer = exchange.canonical
    if exchange.stream:
        await exchange.streamed([*answer.opening(), *answer.tokens(), answer.finish(), *answer.usage_chunk(None)])
    else:
        await exchange.answer(orjson.dumps(answer.whole() | {"usage": None}))


@fault("usage-absurd", harmless=True)
async def usage_absurd(exchange: Exchange) -> None:
    """Healthy, but claims to have used fewer than no tokens, and a quadrillion."""
    answer = exchange.canonical
    absurd = {"prompt_tokens": -5, "completion_tokens": 10**15, "total_tokens": 10**15 - 5}
    if exchange.stream:
        await exchange.streamed([*answer.opening(), *answer.tokens(), answer.finish(), *answer.usage_chunk(absurd)])
    else:
        await exchange.answer(orjson.dumps(answer.whole() | {"usage": absurd}))


@fault("usage-in-finish", only="stream", harmless=True)
async def usage_in_finish(exchange: Exchange) -> None:
    """Healthy; the usage, asked for or not, is in the chunk with the finish_reason, as DeepSeek sends it."""
    answer = exchange.canonical
    usage = {"usage": answer.whole()["usage"]}
    await exchange.streamed([*answer.opening(), *answer.tokens(), answer.finish() | usage])


@fault("wrong-content-type", harmless=True)
async def wrong_content_type(exchange: Exchange) -> None:
    """Healthy, labelled text/plain."""
    if exchange.stream:
        await exchange.begin_chunks("text/plain")
        await exchange.events(exchange.canonical.chunks())
        await exchange.done()
    else:
        await exchange.answer(orjson.dumps(exchange.canonical.whole()), content_type="text/plain")


@fault("duplicate-chunks", only="stream", harmless=True)
async def duplicate_chunks(exchange: Exchange) -> None:
    """The finish chunk comes twice, and so does the usage."""
    answer = exchange.canonical
    last = [answer.finish(), *answer.usage()]
    await exchange.streamed([*answer.opening(), *answer.tokens(), *chain.from_iterable(zip(last, last, strict=True))])


@fault("data-after-done", only="stream", harmless=True)
async def data_after_done(exchange: Exchange) -> None:
    """Healthy, and more tokens after [DONE]."""
    await exchange.begin_chunks()
    await exchange.payloads(exchange.canonical.payloads())
    await exchange.events(exchange.canonical.tokens(0, 3))
    await exchange.end_chunks()


@fault("open-after-done", only="stream", harmless=True)
async def open_after_done(exchange: Exchange) -> None:
    """Healthy, but after [DONE] the response never ends."""
    await exchange.begin_chunks()
    await exchange.payloads(exchange.canonical.payloads())
    await exchange.silence()


@fault("crlf-events", only="stream", harmless=True)
async def crlf_events(exchange: Exchange) -> None:
    """Healthy; lines end in CR LF, and chunks end between the two."""
    await exchange.begin_chunks()
    for payload in exchange.canonical.payloads():
        await exchange.chunk(b"data: %b\r" % payload)
        await exchange.chunk(b"\n\r\n")
    await exchange.end_chunks()


@fault("bom-first", only="stream", harmless=True)
async def bom_first(exchange: Exchange) -> None:
    """Healthy after a byte order mark."""
    await exchange.begin_chunks()
    await exchange.chunk(b"\xef\xbb\xbf")
    await exchange.events(exchange.canonical.chunks())
    await exchange.done()


@fault("multi-line-data", only="stream", harmless=True)
async def multi_line_data(exchange: Exchange) -> None:
    """Healthy; each event is indented JSON over several data lines."""
    await exchange.begin_chunks()
    for chunk in exchange.canonical.chunks():
        lines = orjson.dumps(chunk, option=orjson.OPT_INDENT_2).split(b"\n")
        await exchange.chunk(b"".join(b"data: %b\n" % line for line in lines) + b"\n")
    await exchange.done()


@fault("event-and-id-lines", only="stream", harmless=True)
async def event_and_id_lines(exchange: Exchange) -> None:
    """Healthy; with event, id and retry lines and empty events, which OpenAI's clients crash on."""
    await exchange.begin_chunks()
    await exchange.chunk(b"retry: 3000\n\nevent: ping\n\n")
    for number, payload in enumerate(exchange.canonical.payloads()):
        await exchange.chunk(b"event: message\nid: %d\n%b: ping\n\n" % (number, event(payload)))
    await exchange.end_chunks()


@fault("split-events", only="stream", harmless=True)
async def split_events(exchange: Exchange) -> None:
    """Healthy; chunks of 7 bytes, which split events anywhere."""
    stream, _ = exchange.healthy_body()
    await exchange.begin_chunks()
    for start in range(0, len(stream), 7):
        await exchange.chunk(stream[start : start + 7])
    await exchange.end_chunks()


@fault("echo-key-header", harmless=True)
async def echo_key_header(exchange: Exchange) -> None:
    """Healthy, with the Authorization header among those of the answer."""
    body, content_type = exchange.healthy_body()
    headers = {"x-debug-authorization": exchange.request.authorization}
    await exchange.answer(body, content_type=content_type, headers=headers)


async def _slowly(exchange: Exchange, delay_ms: float) -> None:
    """A whole answer takes as long as its tokens would."""
    delay_s = delay_ms / 1000
    answer = exchange.canonical
    if not exchange.stream:
        await asyncio.sleep(delay_s * len(TOKENS))
        await exchange.healthy()
        return
    await exchange.begin_chunks()
    await exchange.events(answer.opening())
    await exchange.events(answer.tokens(), delay_s=delay_s)
    await exchange.events([answer.finish(), *answer.usage()])
    await exchange.done()
