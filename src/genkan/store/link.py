"""Keeps one connection to Redis: makes it, enters, and makes it again when it is lost.

That is done in the background: whoever needs the connection finds it there or not, and waits for nothing. It counts
as there once Redis has answered PING; while Redis loads its data, it does not.
"""

import asyncio
import logging
import random
import re
from collections.abc import Awaitable, Callable

from genkan.errors import StoreError, StoreLost, StoreRefused
from genkan.store.address import Address
from genkan.store.command import packed
from genkan.store.connection import MAX_TIMEOUTS, Connection
from genkan.store.dialer import Dialer

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
_STEADY_S = 1.0  # a connection that lasted shorter is followed by a longer pause, as one that was not made
_SILENCE_S = 0.5
_COMPLAIN_EVERY_S = 60.0

_log = logging.getLogger("genkan.store")

Prepare = Callable[[Connection], Awaitable[None]]


class EntryRefused(StoreRefused):
    """Redis does not let us in: user or password are wrong, or missing. Its own words are not repeated."""


class Link:
    """One connection that is kept. ``connection`` is None while there is none."""

    def __init__(
        self,
        address: Address,
        *,
        connect_s: float,
        timeout_s: float,
        prepare: Prepare | None = None,
        on_connected: Callable[[bool], None] | None = None,
        is_second: bool = False,
    ) -> None:
        """``prepare`` is run on each new connection before it counts as there, within ``connect_s``.

        ``on_connected`` is called soon after each time it is; with whether what Redis knew may have changed, as it is
        not the process that it was the time before, or does not say which it is.

        The log hears of ``is_second``, beside which another link leads to the same Redis, only what may be its own
        trouble: that Redis does not permit what it prepares.
        """
        self.connection: Connection | None = None
        self._address = address
        self._connect_s = connect_s
        self._silence_s = max(MAX_TIMEOUTS * timeout_s, _SILENCE_S)
        self._prepare = prepare
        self._is_second = is_second
        self._on_connected = on_connected
        self._dialer = Dialer(address, connect_s=connect_s)
        self._run_id: bytes | None = None  # None before the first connection, empty if Redis does not tell
        self._was_told: bool | None = None  # whether the log was last told that it is there
        self._complained_s = -_COMPLAIN_EVERY_S
        self._task: asyncio.Task[None] | None = None
        self._tried: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Begin to connect; returns when the first try has ended, or after ``connect_s``. Raises nothing."""
        loop = asyncio.get_running_loop()
        self._tried = loop.create_future()
        self._task = loop.create_task(self._keep())
        await asyncio.wait([self._tried], timeout=self._connect_s)

    async def aclose(self) -> None:
        """Close the connection, and make no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        pause_s = 0.0
        while True:
            try:
                connection = await self._connect()
                self._is_there(connection)
                began_s = loop.time()
                try:
                    await connection.closed
                    pause_s = next_pause_s(pause_s, loop.time() - began_s)
                finally:
                    self.connection = None  # so that nothing is logged if it is we who close it
                    connection.drop("it was closed by us")
            except (StoreError, OSError, TimeoutError) as error:
                self._is_not_there(error)
                self._has_tried()
                pause_s = next_pause_s(pause_s, 0.0)
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 (spreads load, keeps no secret)

    async def _connect(self) -> Connection:
        place = await self._dialer.find()
        connection = Connection(silence_s=self._silence_s, on_lost=self._lost)
        try:
            async with asyncio.timeout(self._connect_s):
                await self._dialer.dial(place, lambda: connection)
                run_id = await self._enter(connection)
                if self._prepare is not None:
                    await self._prepare(connection)
            if not connection.is_open:
                raise StoreLost("it was closed by the other end")
        except BaseException:
            connection.drop("it could not be entered")
            raise
        is_another = self._run_id is not None and (run_id != self._run_id or not run_id)
        self._run_id = run_id
        if self._on_connected is not None:
            asyncio.get_running_loop().call_soon(self._on_connected, is_another)
        return connection

    async def _enter(self, connection: Connection) -> bytes:
        """Say who we are and which database we want; the server's run_id. Raises StoreRefused if it cannot be used."""
        address = self._address
        login = packed("AUTH", *filter(None, (address.username, address.password))) if address.has_login else None
        database = packed("SELECT", address.database) if address.database else None
        entering = [command for command in (login, database) if command is not None]
        commands = [*entering, packed("PING"), packed("INFO", "server")]
        *entered, pong, info = await connection.pipeline(commands, self._connect_s)
        if login is not None and isinstance(entered[0], StoreRefused):
            raise EntryRefused(entered[0].code)
        for reply in (*entered, pong):
            if isinstance(reply, StoreRefused):
                if reply.code == "NOAUTH":
                    raise EntryRefused(reply.code)
                if reply is not pong or reply.code != "NOPERM":  # it may forbid PING, but has answered
                    raise reply
        found = re.search(rb"\brun_id:(\w+)", info) if isinstance(info, bytes) else None
        return found[1] if found else b""

    # what is told

    def _is_there(self, connection: Connection) -> None:
        self.connection = connection
        self._has_tried()
        if self._was_told is False:
            _log.info("Redis is back at %s", self._address)
        self._was_told = True

    def _lost(self, reason: str) -> None:
        if self.connection is not None:
            self.connection = None
            self._is_not_there(StoreLost(reason))

    def _is_not_there(self, error: Exception) -> None:
        if isinstance(error, EntryRefused) and not self._is_second:
            self._complain(error)
        is_own = not self._is_second or (isinstance(error, StoreRefused) and error.code == "NOPERM")
        if is_own and self._was_told is not False:
            self._was_told = False
            _log.warning("Redis is not there, at %s: %s", self._address, str(error) or "it does not answer")

    def _complain(self, error: EntryRefused) -> None:
        now_s = asyncio.get_running_loop().time()
        if now_s - self._complained_s >= _COMPLAIN_EVERY_S:
            self._complained_s = now_s
            _log.error("Redis does not accept our user or password, at %s: %s", self._address, error.code)

    def _has_tried(self) -> None:
        if self._tried is not None and not self._tried.done():
            self._tried.set_result(None)


def next_pause_s(pause_s: float, lasted_s: float) -> float:
    """The pause before the next try, at most, after the one before and a connection that lasted so long."""
    if lasted_s >= _STEADY_S:
        return _FIRST_PAUSE_S
    return min(max(2 * pause_s, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)
