"""Faults of the connection: cut, silent, reused too late, framed wrongly."""

import asyncio

from faults.exchange import JSON, Exchange
from faults.request import EARLY_MODEL
from faults.table import fault


@fault("reset-before-headers")
async def reset_before_headers(exchange: Exchange) -> None:
    """Reads the request and resets the connection."""
    await exchange.reset()


@fault("eof-before-headers")
async def eof_before_headers(exchange: Exchange) -> None:
    """Reads the request and closes the connection."""
    exchange.close()


@fault("reset-after-headers")
async def reset_after_headers(exchange: Exchange) -> None:
    """Resets the connection after the headers, before any of the body."""
    await _head(exchange)
    await exchange.reset()


@fault("reset-inside-headers")
async def reset_inside_headers(exchange: Exchange) -> None:
    """Resets the connection in the middle of the headers."""
    await exchange.send(exchange.head()[:40])
    await exchange.reset()


@fault("never-answers")
async def never_answers(exchange: Exchange) -> None:
    """Accepts the request and says nothing."""
    await exchange.silence()


@fault("headers-then-silence")
async def headers_then_silence(exchange: Exchange) -> None:
    """Headers, then nothing for 20 seconds or what ``x_silence_s`` in the body says, then the healthy body."""
    body, content_type = exchange.healthy_body()
    await exchange.send(exchange.head(200, {"content-type": content_type, "content-length": str(len(body))}))
    await asyncio.sleep(exchange.request.number("x_silence_s", 20))
    await exchange.send(body)


@fault("cut-at-byte")
async def cut_at_byte(exchange: Exchange) -> None:
    """Resets the connection after byte ``x_cut_at_byte`` of the response, headers included; 1000 when not told."""
    await _up_to_byte(exchange)
    await exchange.reset()


@fault("eof-at-byte")
async def eof_at_byte(exchange: Exchange) -> None:
    """Closes the connection after byte ``x_cut_at_byte`` of the response, headers included; 1000 when not told."""
    await _up_to_byte(exchange)
    exchange.close()


@fault("truncated-content-length")
async def truncated_content_length(exchange: Exchange) -> None:
    """Promises a length and closes the connection after two thirds of it."""
    body, content_type = exchange.healthy_body()
    head = exchange.head(200, {"content-type": content_type, "content-length": str(len(body))})
    await exchange.send(head + body[: len(body) * 2 // 3])
    exchange.close()


@fault("closes-on-reuse")
async def closes_on_reuse(exchange: Exchange) -> None:
    """Healthy for the first request of a connection, with a promise to keep it; closes it when the second arrives."""
    if exchange.nth_on_connection == 1:
        await exchange.healthy()
    else:
        exchange.close()


@fault("resets-on-reuse")
async def resets_on_reuse(exchange: Exchange) -> None:
    """The same with RST."""
    if exchange.nth_on_connection == 1:
        await exchange.healthy()
    else:
        await exchange.reset()


@fault(EARLY_MODEL, harmless=True)
async def early_response(exchange: Exchange) -> None:
    """Answers, all of it, as soon as it has read the model's name, and reads the rest of the request afterwards."""
    await exchange.healthy()


@fault("one-byte-reads", harmless=True)
async def one_byte_reads(exchange: Exchange) -> None:
    """Healthy, each byte in a segment of its own."""
    body, content_type = exchange.healthy_body()
    head = exchange.head(200, {"content-type": content_type, "content-length": str(len(body))})
    for byte in head + body:
        await exchange.send(bytes((byte,)))
        await asyncio.sleep(0)


@fault("no-length", harmless=True)
async def no_length(exchange: Exchange) -> None:
    """Healthy, neither in chunks nor with a length: the connection's end is the body's, as with HTTP/1.0."""
    body, content_type = exchange.healthy_body()
    exchange.keep_alive = False
    await exchange.send(exchange.head(200, {"content-type": content_type}) + body)


@fault("no-length-cut", only="stream")
async def no_length_cut(exchange: Exchange) -> None:
    """The same, closed after 40 tokens: nothing in HTTP tells this end from a good one."""
    body, content_type = exchange.healthy_body()
    exchange.keep_alive = False
    await exchange.send(
        exchange.head(200, {"content-type": content_type}) + body[: body.index(b"data: ", body.index(b"tok39"))]
    )
    exchange.close()


@fault("huge-header")
async def huge_header(exchange: Exchange) -> None:
    """A header of 256 KiB before a healthy body."""
    await _with_headers(exchange, {"x-huge": "h" * (256 << 10)})


@fault("many-headers")
async def many_headers(exchange: Exchange) -> None:
    """Ten thousand headers before a healthy body."""
    await _with_headers(exchange, {f"x-many-{number}": "h" for number in range(10_000)})


@fault("informational-flood")
async def informational_flood(exchange: Exchange) -> None:
    """A thousand answers 103 before the healthy one."""
    await exchange.send(b"HTTP/1.1 103 Early Hints\r\nlink: </x>; rel=preload\r\n\r\n" * 1000)
    await exchange.healthy()


@fault("chunk-ext-garbage")
async def chunk_ext_garbage(exchange: Exchange) -> None:
    """Healthy, but for chunk extensions that are none."""
    body, content_type = exchange.healthy_body()
    await exchange.send(exchange.head(200, {"content-type": content_type, "transfer-encoding": "chunked"}))
    await exchange.send(b'%x;;=;"\\\x01;\x7f= \r\n%b\r\n' % (len(body), body))
    await exchange.end_chunks()


@fault("trailers", harmless=True)
async def trailers(exchange: Exchange) -> None:
    """Healthy, in chunks with extensions and with trailers after the last one."""
    body, content_type = exchange.healthy_body()
    await exchange.send(exchange.head(200, {"content-type": content_type, "transfer-encoding": "chunked"}))
    await exchange.send(b"%x;part=1\r\n%b\r\n0\r\nx-checksum: 1\r\n\r\n" % (len(body), body))


@fault("not-http")
async def not_http(exchange: Exchange) -> None:
    """Speaks another protocol."""
    await exchange.send(b"-ERR unknown command 'POST'\r\n")
    exchange.close()


async def _head(exchange: Exchange) -> None:
    if exchange.stream:
        await exchange.begin_chunks()
    else:
        await exchange.send(exchange.head(200, {"content-type": JSON, "content-length": "2000"}))


async def _with_headers(exchange: Exchange, headers: dict[str, str]) -> None:
    body, content_type = exchange.healthy_body()
    await exchange.answer(body, content_type=content_type, headers=headers)


async def _up_to_byte(exchange: Exchange) -> None:
    body, content_type = exchange.healthy_body()
    framing = {"content-type": content_type, "transfer-encoding": "chunked"}
    response = exchange.head(200, framing) + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    await exchange.send(response[: int(exchange.request.number("x_cut_at_byte", 1000))])
