"""Locks in Redis, each held by the worker that asks an upstream for all workers.

Whoever holds one renews it; whoever dies, or is cut off, loses it after `HELD_S`. It keeps work from being done twice,
and nothing depends on it: with Redis gone, or for the moment in which two believe that they hold it, both ask.
"""

import asyncio
import secrets
from contextlib import suppress

from genkan.errors import StoreError
from genkan.gateway.flight_message import WORKER_CHARS
from genkan.store.command import Script
from genkan.store.resp import RespClient

HELD_S = 3.0
RENEW_EVERY_S = 1.0


class FlightLocks:
    """The locks of one worker. `start` first, `aclose` at the end: locks that are still held then run out."""

    def __init__(self, client: RespClient, *, prefix: str, worker: str) -> None:
        self._client = client
        self._prefix = f"{prefix}:flight:"
        self._worker = worker
        self._script = Script.load("flight")
        self._held: dict[bytes, str] = {}
        self._task: asyncio.Task[None] | None = None

    @property
    def count(self) -> int:
        """So many are held."""
        return len(self._held)

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._keep_renewing())

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    async def take(self, key: bytes, *, over: str, timeout_s: float) -> str | None:
        """Who else holds the lock; None if it is ours now. One round trip.

        ``over`` is a holder that is known to be gone, whose lock may be taken. Raises StoreError: the lock may then be
        ours without our knowing, until it runs out or we take it again. Who is cancelled gives it back.
        """
        name = self._worker + secrets.token_hex(4)
        try:
            reply = await self._client.run(
                self._script, [self._key(key)], ["take", name, round(HELD_S * 1000), over], timeout_s=timeout_s
            )
        except BaseException:
            self._send_leave(key, name)
            raise
        if reply is None:
            self._held[key] = name
            return None
        return reply.decode("ascii", "replace") if isinstance(reply, bytes) else ""

    def leave(self, key: bytes) -> None:
        """Give it back, behind: nobody waits, and if it cannot be done it runs out."""
        name = self._held.pop(key, None)
        if name is not None:
            self._send_leave(key, name)

    def _send_leave(self, key: bytes, name: str) -> None:
        command = self._script.command([self._key(key)], ["leave", name, 0])
        with suppress(StoreError):
            asyncio.ensure_future(self._client.send(command)).add_done_callback(_forgiven)

    async def _keep_renewing(self) -> None:
        while True:
            await asyncio.sleep(RENEW_EVERY_S)
            if not self._held:
                continue
            held_ms = round(HELD_S * 1000)
            commands = [
                self._script.command([self._key(key)], ["hold", name, held_ms]) for key, name in self._held.items()
            ]
            try:
                await self._client.pipeline(commands)
            except StoreError:
                continue

    def _key(self, key: bytes) -> str:
        return self._prefix + key.hex()


class Hold:
    """The right to ask for all workers."""

    __slots__ = ("_key", "_locks")

    def __init__(self, locks: FlightLocks, key: bytes) -> None:
        self._locks: FlightLocks | None = locks
        self._key = key

    def release(self) -> None:
        """Give it back, behind. A second call does nothing."""
        locks, self._locks = self._locks, None
        if locks is not None:
            locks.leave(self._key)


def worker_of(holder: str) -> str:
    """The worker that a holder belongs to."""
    return holder[:WORKER_CHARS]


def _forgiven(future: "asyncio.Future[object]") -> None:
    if not future.cancelled():
        future.exception()
