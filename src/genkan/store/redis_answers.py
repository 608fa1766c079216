"""Stored answers in Redis, for all workers: ``{prefix}:answer:{hex}`` and ``{prefix}:answer-epoch:{name}``."""

import asyncio
from collections.abc import Awaitable, Generator, Sequence
from typing import Any

from genkan.errors import StoreRefused
from genkan.store.answers import AnswerStatistics, Looked, new_epoch
from genkan.store.command import packed
from genkan.store.connection import Reply
from genkan.store.resp import RespClient

_EPOCH_TTL_S = 400 * 86_400  # an answer that would outlive it is gone earlier, and no harm done
_PUT_S = 0.2
_SCAN_S = 2.0
_SCANNED = 1000  # keys a call, of whatever is kept in Redis


class RedisAnswers:
    """See Answers. Cost of a look: about 3 µs besides the client's own."""

    def __init__(self, client: RespClient, *, prefix: str) -> None:
        self._client = client
        self._keys = f"{prefix}:answer:"
        self._epochs = f"{prefix}:answer-epoch:"

    def look(self, key: bytes, epochs: Sequence[str], *, timeout_s: float) -> Awaitable[Looked]:
        names = [self._epochs + name for name in epochs]
        deadline_s = asyncio.get_running_loop().time() + timeout_s
        command = packed("MGET", self._keys + key.hex(), *names)
        reply = asyncio.ensure_future(self._client.send(command, timeout_s=timeout_s))
        reply.add_done_callback(_noticed)
        return _Looking(self._client, reply, names, deadline_s)

    def put(self, key: bytes, value: bytes, *, ttl_s: float) -> "asyncio.Future[Reply]":
        command = packed("SET", self._keys + key.hex(), value, "PX", max(1, int(ttl_s * 1000)))
        return asyncio.ensure_future(self._client.send(command, timeout_s=_PUT_S))

    async def purge(self, epoch: str) -> None:
        await self._client.call("SET", self._epochs + epoch, new_epoch(), "EX", _EPOCH_TTL_S)

    async def statistics(self, *, at_most: int = 100_000) -> AnswerStatistics:
        """See Answers. Redis is asked for some keys at a time, so that others do not wait."""
        cursor, entries, n_bytes = b"0", 0, 0
        while True:
            cursor, keys = await self._client.call(
                "SCAN", cursor, "MATCH", f"{self._keys}*", "COUNT", _SCANNED, timeout_s=_SCAN_S
            )
            lengths = await self._client.pipeline([packed("STRLEN", key) for key in keys], timeout_s=_SCAN_S)
            found = [length for length in lengths if type(length) is int and length > 0]
            entries, n_bytes = entries + len(found), n_bytes + sum(found)
            if cursor == b"0" or entries >= at_most:
                return AnswerStatistics(entries, n_bytes, cursor == b"0")


class _Looking:
    """A look that was sent, for whoever awaits it; not a coroutine, as it may be that nobody does."""

    __slots__ = ("_client", "_deadline_s", "_names", "_reply")

    def __init__(self, client: RespClient, reply: "asyncio.Future[Reply]", names: list[str], deadline_s: float) -> None:
        self._client = client
        self._reply = reply
        self._names = names
        self._deadline_s = deadline_s

    def __await__(self) -> Generator[Any, None, Looked]:
        return self._looked().__await__()

    async def _looked(self) -> Looked:
        value, *epochs = await self._reply
        if None in epochs:
            value, epochs = None, await self._begun()
        return Looked(value, b"".join(epochs))

    async def _begun(self) -> list[bytes]:
        """The epochs, of which those that were not there are new: whatever was stored before is of another one."""
        begin = [packed("SET", name, new_epoch(), "EX", _EPOCH_TTL_S, "NX") for name in self._names]
        left_s = max(self._deadline_s - asyncio.get_running_loop().time(), 0.0)
        *_, epochs = await self._client.pipeline([*begin, packed("MGET", *self._names)], timeout_s=left_s)
        if isinstance(epochs, StoreRefused):
            raise epochs
        if None in epochs:
            raise StoreRefused("WRONGTYPE an epoch cannot be kept")
        return list(epochs)


def _noticed(reply: "asyncio.Future[Reply]") -> None:
    """An error that nobody awaits is no news."""
    if not reply.cancelled():
        reply.exception()
