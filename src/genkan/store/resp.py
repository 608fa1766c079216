"""The client of Redis: many calls at once over one connection, none of which ever waits for Redis to come back.

It is its own breaker. While the connection is not there, every call fails at once with StoreLost; the connection is
made again in the background. Nothing is ever sent twice, so of a call that raises StoreLost or StoreTimeout it is not
known whether Redis did it, unless there was no connection.

Cost: see `genkan.store.connection`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from genkan.errors import StoreLost, StoreRefused
from genkan.store.address import Address
from genkan.store.command import Argument, Script, packed
from genkan.store.connection import Connection, Reply
from genkan.store.link import Link

__all__ = ["RespClient", "Script", "packed"]


class RespClient:
    """One connection to Redis, for the event loop that started it."""

    def __init__(
        self,
        address: Address,
        *,
        connect_s: float,
        timeout_s: float,
        on_connected: Callable[[bool], None] | None = None,
    ) -> None:
        """``timeout_s`` limits each call that brings no limit of its own.

        ``on_connected`` is called after each connection that was made, with whether Redis is another process than the
        time before (or does not say): it may then have lost its last second.
        """
        self._timeout_s = timeout_s
        self._link = Link(address, connect_s=connect_s, timeout_s=timeout_s, on_connected=on_connected)

    @property
    def is_connected(self) -> bool:
        """Whether calls are sent at the moment."""
        return self._link.connection is not None

    async def start(self) -> None:
        """Begin to connect; returns when that is done, or cannot be within ``connect_s``. Raises nothing."""
        await self._link.start()

    async def aclose(self) -> None:
        """Close the connection; calls that wait fail with StoreLost, as all later ones do."""
        await self._link.aclose()

    async def call(self, *args: Argument, timeout_s: float | None = None) -> Reply:
        """The reply to one command: bytes, int, None, or a list of them.

        Raises StoreRefused when it is an error; StoreTimeout; StoreLost, at once if Redis is not there.
        """
        return await self.send(packed(*args), timeout_s=timeout_s)

    def send(self, command: bytes, *, timeout_s: float | None = None) -> Awaitable[Reply]:
        """As `call`, for a command that is packed already: it is sent now, and its reply to be awaited at once.

        Raises StoreLost already now if Redis is not there.
        """
        return self._connection().send(command, self._timeout_s if timeout_s is None else timeout_s)

    def pipeline(self, commands: Sequence[bytes], *, timeout_s: float | None = None) -> Awaitable[list[Reply]]:
        """The replies to packed commands that are sent together, now; a StoreRefused in the place of each error.

        They do not exclude commands of others from in between. Raises StoreTimeout when a reply is missing, StoreLost;
        that already now if Redis is not there.
        """
        return self._connection().pipeline(commands, self._timeout_s if timeout_s is None else timeout_s)

    async def run(
        self,
        script: Script,
        keys: Sequence[bytes | str],
        args: Sequence[Argument],
        *,
        timeout_s: float | None = None,
    ) -> Reply:
        """What ``script`` returns. If Redis does not know it yet, it is told and asked again, in one more round trip.

        Raises as `call` does.
        """
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        command = script.command(keys, args)
        try:
            return await self.send(command, timeout_s=limit_s)
        except StoreRefused as refused:
            if refused.code != "NOSCRIPT":
                raise
        left_s = max(began_s + limit_s - loop.time(), 0.0)
        loaded, reply = await self.pipeline([packed("SCRIPT", "LOAD", script.text), command], timeout_s=left_s)
        for answer in (loaded, reply):
            if isinstance(answer, StoreRefused):
                raise answer
        return reply

    def _connection(self) -> Connection:
        connection = self._link.connection
        if connection is None:
            raise StoreLost("Redis is not there")
        return connection
