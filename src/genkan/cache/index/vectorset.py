"""The index in Redis' own vector sets, one for each partition: Redis 8 or later.

An element's name is the entry's key, its attribute the entry itself, sealed, without the vector. Vectors lie there in
the clear. Elements do not expire by themselves: those whose time is over go when a search meets them, or when an
addition, which looks at some others at random, does; and a set goes as a whole once nothing was added for the longest
life of an entry.

Redis scores with (1 + cosine) / 2. Vectors are kept as they are (NOQUANT): cosines are compared with thresholds that
were calibrated on exact ones. Memory: some 2.5 KB for an entry of 384 numbers, in Redis.

Source: https://redis.io/docs/latest/develop/data-types/vector-sets/.
"""

import asyncio

from genkan.cache.index.base import Entry, Near
from genkan.cache.index.redis_index import SPARE, RedisIndex, checked
from genkan.store.command import packed
from genkan.store.connection import Reply

_LOOKED_AT = 4  # others, with each addition
_SCANNED = 500


class VectorSetIndex(RedisIndex):
    """See `VectorIndex`."""

    kind = "vectorset"

    async def _add(self, entry: Entry, vector: bytes) -> None:
        name = self._name(entry.partition)
        commands = [
            packed("VADD", name, "FP32", vector, entry.key, "NOQUANT", "SETATTR", self._sealed(entry)),
            packed("PEXPIRE", name, int(self._longest_s * 1e3)),
            packed("VRANDMEMBER", name, _LOOKED_AT),
        ]
        *_, others = checked(await self._client.pipeline(commands))
        attributes = await self._client.pipeline([packed("VGETATTR", name, key) for key in others])
        for key, sealed in zip(others, attributes, strict=True):
            if self._living(entry.partition, key, sealed) is None:
                self._strike_out(name, key)

    async def _search(self, partition: bytes, query: bytes, k: int, timeout_s: float) -> list[Near]:
        name = self._name(partition)
        asked = packed("VSIM", name, "FP32", query, "WITHSCORES", "COUNT", k + SPARE)
        reply = await self._client.send(asked, timeout_s=timeout_s)
        keys, scores = reply[::2], reply[1::2]
        details = [packed("VGETATTR", name, key) for key in keys] + [self._seen.reading(key) for key in keys]
        replies = checked(await self._client.pipeline(details, timeout_s=timeout_s))
        attributes, seen = replies[: len(keys)], replies[len(keys) :]
        near: list[Near] = []
        for key, score, sealed, observed in zip(keys, scores, attributes, seen, strict=True):
            entry = self._living(partition, key, sealed)
            if entry is None:
                self._strike_out(name, key)
            elif len(near) < k:
                near.append(Near(key, entry.text, min(2 * float(score) - 1, 1.0)))
                self._seen.found(key, observed)
        return near

    async def _remove(self, key: bytes, partition: bytes) -> None:
        commands = [packed("VREM", self._name(partition), key), packed("UNLINK", self._seen.name(key))]
        checked(await self._client.pipeline(commands))

    async def _purge(self, tenant: str | None, route: str | None) -> None:
        cursor: Reply = b"0"
        while True:
            scan = ("SCAN", cursor, "MATCH", f"{self._prefix}:set:*", "COUNT", _SCANNED)
            cursor, names = await self._client.call(*scan)
            for name in names:
                if await self._is_of(name, tenant, route):
                    await self._client.call("UNLINK", name)
            if cursor == b"0":
                return

    async def _is_of(self, name: bytes, tenant: str | None, route: str | None) -> bool:
        """Whether a set is to be purged; any of its entries says whose it is. One that says nothing goes too."""
        if tenant is None and route is None:
            return True
        key = await self._client.call("VRANDMEMBER", name)
        sealed = await self._client.call("VGETATTR", name, key) if key else None
        entry = self._opened(key, sealed) if key else None
        return entry is None or entry.tenant == tenant or entry.route == route

    def _strike_out(self, name: str, key: bytes) -> None:
        """Have an element removed; nobody waits for it, and nothing is lost if it stays."""
        removing = asyncio.ensure_future(self._client.send(packed("VREM", name, key)))
        removing.add_done_callback(lambda done: done.cancelled() or done.exception())

    def _name(self, partition: bytes) -> str:
        return f"{self._prefix}:set:{partition.hex()}"
