"""Talking to an HttpClient whose server does what a test wants."""

import gc
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from byte_servers import ByteServer, Handler, Peer, answer, asking, byte_server
from upstream_calls import until

from genkan.upstream.dialers import TcpDialer
from genkan.upstream.http_client import (
    HttpClient,
    Response,
)


@asynccontextmanager
async def talk(
    handler: Handler, *, keep_alive: int = 20, keep_alive_s: float = 15
) -> AsyncGenerator[tuple[HttpClient, ByteServer], None]:
    """A client and its server. At the end both must be without connections."""
    async with byte_server(handler) as server:
        client = HttpClient(TcpDialer(server.url), connect_s=5, keep_alive=keep_alive, keep_alive_s=keep_alive_s)
        try:
            yield client, server
        finally:
            client.close()
        await until(lambda: client.connections == client.idle == 0)
    gc.collect()  # an unclosed transport says so when it is collected


async def rest_of(response: Response) -> bytes:
    body = b""
    while piece := await response.read():
        body += piece
    return body


async def asked(client: HttpClient, request: bytes = b"") -> bytes:
    response = await client.request(asking(request))
    try:
        return await rest_of(response)
    finally:
        response.close()


async def numbered(peer: Peer) -> None:
    """Answers every request with the number of its connection."""
    while True:
        await peer.request()
        await peer.say(answer(b"%d" % peer.number))


def saying(*responses: bytes, reset: bool = False) -> Handler:
    """Answers the requests of each connection with these in turn, reads one more, and ends the connection."""

    async def handle(peer: Peer) -> None:
        for response in responses:
            await peer.request()
            await peer.say(response)
        await peer.request()
        if reset:
            peer.reset()

    return handle


def stalling(*pieces: bytes) -> Handler:
    """Reads a request, says this, and waits for the client to go."""

    async def handle(peer: Peer) -> None:
        await peer.request()
        await peer.say(*pieces)
        await peer.reader.read()

    return handle
