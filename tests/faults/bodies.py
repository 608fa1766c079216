"""Status 200 with the wrong thing in it, whatever was asked for."""

import functools
import zlib

import orjson
from faults.exchange import EVENTS, JSON, Exchange
from faults.refusals import HTML
from faults.table import fault

BOMB_BYTES = 64 << 20
_GZIP = 16 + zlib.MAX_WBITS


@fault("html-200")
async def html_200(exchange: Exchange) -> None:
    """A proxy's page with status 200."""
    await exchange.answer(HTML % (200, b"Sign in"), content_type="text/html; charset=utf-8")


@fault("html-200-stream")
async def html_200_stream(exchange: Exchange) -> None:
    """A proxy's page with status 200, in chunks and with the content type that was asked for."""
    await exchange.begin_chunks(EVENTS if exchange.stream else JSON)
    await exchange.chunk(HTML % (200, b"Sign in"))
    await exchange.end_chunks()


@fault("empty-body-200")
async def empty_body_200(exchange: Exchange) -> None:
    """Status 200 and an empty body."""
    await exchange.answer(b"", content_type=EVENTS if exchange.stream else JSON)


@fault("wrong-shape")
async def wrong_shape(exchange: Exchange) -> None:
    """Good JSON that is no completion."""
    body = b'{"status": "ok", "version": "1.2.3"}'
    if exchange.stream:
        await exchange.streamed([orjson.loads(body)])
    else:
        await exchange.answer(body)


@fault("error-200")
async def error_200(exchange: Exchange) -> None:
    """An error body with status 200, as proxies before an upstream do."""
    await exchange.answer(orjson.dumps({"error": {"message": "no provider is available", "code": 502}}))


@fault("json-for-stream", only="stream", harmless=True)
async def json_for_stream(exchange: Exchange) -> None:
    """A whole answer although a stream was asked for."""
    await exchange.answer(orjson.dumps(exchange.canonical.whole()))


@fault("sse-for-whole", only="whole")
async def sse_for_whole(exchange: Exchange) -> None:
    """A stream although none was asked for."""
    await exchange.streamed(exchange.canonical.chunks())


@fault("content-filter-finish")
async def content_filter_finish(exchange: Exchange) -> None:
    """No text, and content_filter as its finish_reason."""
    answer = exchange.canonical
    if exchange.stream:
        await exchange.streamed([*answer.opening(), answer.finish("content_filter"), *answer.usage()])
    else:
        await exchange.answer(orjson.dumps(answer.whole(finish_reason="content_filter", text="")))


@fault("gzip-bomb")
async def gzip_bomb(exchange: Exchange) -> None:
    """Compressed though nobody asked: 64 KiB on the wire, 64 MiB of spaces or of a comment when it is opened."""
    await _compressed(exchange, _bomb(exchange.stream))


@fault("gzip-unasked")
async def gzip_unasked(exchange: Exchange) -> None:
    """The healthy answer, compressed though nobody asked."""
    body, _ = exchange.healthy_body()
    await _compressed(exchange, zlib.compress(body, wbits=_GZIP))


async def _compressed(exchange: Exchange, body: bytes) -> None:
    content_type = EVENTS if exchange.stream else JSON
    await exchange.answer(body, content_type=content_type, headers={"content-encoding": "gzip"})


@functools.cache
def _bomb(stream: bool) -> bytes:
    packer = zlib.compressobj(9, wbits=_GZIP)
    before, filling, after = (b": ", b"x", b"\n\ndata: [DONE]\n\n") if stream else (b"{", b" ", b"}")
    packed = [packer.compress(before), *(packer.compress(filling * (1 << 20)) for _ in range(BOMB_BYTES >> 20))]
    return b"".join([*packed, packer.compress(after), packer.flush()])
