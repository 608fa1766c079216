"""Listens to a channel of Redis, on a connection of its own that is made again when it is lost.

What is published while it is not there is missed, so whoever needs all of it reads the state anew in ``on_connected``.
A connection on which nothing happens says nothing of its end, so it is asked from time to time whether it is there.
"""

import asyncio
import time
from collections.abc import Callable

from genkan.store.address import Address
from genkan.store.command import packed
from genkan.store.connection import Connection, Reply
from genkan.store.link import Link

PING_EVERY_S = 2.0
_PING = packed("PING")


class Subscription:
    """One channel, for the event loop that started it."""

    def __init__(
        self,
        address: Address,
        channel: str,
        *,
        connect_s: float,
        timeout_s: float,
        on_message: Callable[[bytes], None],
        on_connected: Callable[[bool], None] | None = None,
    ) -> None:
        """``on_message`` gets every message, in order, soon after it came.

        ``on_connected`` is as that of RespClient; messages published from then on are given to ``on_message``.
        """
        self._channel = channel.encode()
        self._connect_s = connect_s
        self._on_message = on_message
        self._link = Link(
            address,
            connect_s=connect_s,
            timeout_s=timeout_s,
            prepare=self._subscribe,
            on_connected=on_connected,
            is_second=True,
        )
        self._task: asyncio.Task[None] | None = None

    @property
    def is_connected(self) -> bool:
        """Whether messages come at the moment."""
        return self._link.connection is not None

    async def start(self) -> None:
        """Begin to listen; returns when that is done, or cannot be within ``connect_s``. Raises nothing."""
        await self._link.start()
        self._task = asyncio.get_running_loop().create_task(self._watch())

    async def aclose(self) -> None:
        """Stop listening."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        await self._link.aclose()

    async def _subscribe(self, connection: Connection) -> None:
        connection.on_push = self._heard
        await connection.send(packed("SUBSCRIBE", self._channel), self._connect_s)

    def _heard(self, push: Reply) -> None:
        if isinstance(push, list) and len(push) == 3 and push[0] == b"message" and isinstance(push[2], bytes):
            asyncio.get_running_loop().call_soon(self._on_message, push[2])

    async def _watch(self) -> None:
        """Ask what is silent whether it is there. Its answer may come between messages, so nobody waits for it."""
        asked: Connection | None = None
        asked_s = 0.0
        while True:
            await asyncio.sleep(PING_EVERY_S)
            connection = self._link.connection
            if connection is None:
                continue
            if connection is asked and connection.read_s < asked_s:
                connection.drop("it does not answer")
                continue
            asked, asked_s = connection, time.monotonic()
            connection.write(_PING)
