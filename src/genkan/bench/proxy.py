"""The least that a gateway on ASGI, uvicorn and aiohttp can do: the floor that genkan is measured against.

It reads the body, posts it, and passes the answer on: no routing, no parsing, no checks. A stream goes on read by read.
"""

import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import aiohttp

UPSTREAM_VARIABLE = "BENCH_UPSTREAM"  # the URL that every request is posted to

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_HEADERS = {"Content-Type": "application/json"}


class Proxy:
    """An ASGI application with one HTTP session, opened by its lifespan."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        assert self._session is not None
        async with self._session.post(self._upstream, data=await _body(receive), headers=_HEADERS) as response:
            if response.content_length is None:
                await _pass_stream(response, send)
            else:
                await _pass_whole(response, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._session.close()
        await send({"type": "lifespan.shutdown.complete"})


async def _body(receive: Receive) -> bytes:
    message = await receive()
    body: bytes = message["body"]
    while message["more_body"]:
        message = await receive()
        body += message["body"]
    return body


async def _pass_whole(response: aiohttp.ClientResponse, send: Send) -> None:
    body = await response.read()
    headers = [_content_type(response), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _pass_stream(response: aiohttp.ClientResponse, send: Send) -> None:
    await send({"type": "http.response.start", "status": response.status, "headers": [_content_type(response)]})
    async for data in response.content.iter_any():
        await send({"type": "http.response.body", "body": data, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def _content_type(response: aiohttp.ClientResponse) -> tuple[bytes, bytes]:
    return (b"content-type", response.headers["Content-Type"].encode())


def create() -> Proxy:
    """For ``uvicorn --factory``. Raises KeyError without ``BENCH_UPSTREAM`` in the environment."""
    return Proxy(os.environ[UPSTREAM_VARIABLE])
