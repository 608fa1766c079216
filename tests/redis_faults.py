"""Servers that let a client enter as Redis does, and then do what a test says."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from byte_servers import Handler, Peer

from genkan.store.address import Address, parse_address
from genkan.store.resp import RespClient

#: What is done with each command that is not part of entering.
Then = Callable[[Peer, list[bytes]], Awaitable[None]]
WAIT_S = 10.0


async def command(peer: Peer) -> list[bytes]:
    """The next command. Raises IncompleteReadError when the client is gone."""
    count = int((await peer.reader.readuntil(b"\r\n"))[1:])
    return [await _argument(peer) for _ in range(count)]


async def _argument(peer: Peer) -> bytes:
    length = int((await peer.reader.readuntil(b"\r\n"))[1:])
    return (await peer.reader.readexactly(length + 2))[:-2]


def redis_like(then: Then, *, pong: bytes = b"+PONG\r\n", run_id: bytes = b"f00d") -> Handler:
    """Lets everyone in, and does ``then`` with what is asked after that."""
    info = b"# Server\r\nredis_version:7.0.0\r\nrun_id:%b\r\n" % run_id
    entering = {
        b"AUTH": b"+OK\r\n",
        b"SELECT": b"+OK\r\n",
        b"PING": pong,
        b"INFO": b"$%d\r\n%b\r\n" % (len(info), info),
    }

    async def handle(peer: Peer) -> None:
        while True:
            asked = await command(peer)
            if asked[0] in entering:
                await peer.say(entering[asked[0]])
            else:
                await then(peer, asked)

    return handle


@asynccontextmanager
async def connected_client(
    where: str | Address, *, connect_s: float = 2.0, timeout_s: float = 2.0, **options: Any
) -> AsyncGenerator[RespClient, None]:
    """A client that was started, connected or not. Patient, unless told otherwise: machines of tests may be slow."""
    address = parse_address(where) if isinstance(where, str) else where
    client = RespClient(address, connect_s=connect_s, timeout_s=timeout_s, **options)
    await client.start()
    try:
        yield client
    finally:
        await client.aclose()


async def until(condition: Callable[[], object], within_s: float = WAIT_S) -> None:
    """Return as soon as it holds."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 (other processes tell nobody what became of them)
            await asyncio.sleep(0.001)
