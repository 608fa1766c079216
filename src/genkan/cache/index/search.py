"""The index in RediSearch: a hash for each entry, and one index over all, filtered by partition.

A hash has the vector in the clear, the partition, digests of tenant and route, and the entry itself, sealed, without
the vector. It expires with the entry, and Redis takes it out of the index then. The index is made with the first
entry, as only then is it known how long vectors are.

Source: https://redis.io/docs/latest/develop/ai/search-and-query/vectors/.
"""

import hashlib

from genkan.cache.index.base import Entry, Near
from genkan.cache.index.redis_index import SPARE, RedisIndex, checked
from genkan.errors import StoreRefused
from genkan.store.command import Argument, packed
from genkan.store.connection import Reply

_PURGED_AT_ONCE = 500


class SearchIndex(RedisIndex):
    """See `VectorIndex`."""

    kind = "search"
    _is_made = False

    async def _add(self, entry: Entry, vector: bytes) -> None:
        if not self._is_made:
            await self._make(len(vector) // 4)
        name = self._name(entry.key)
        fields: list[Argument] = ["v", vector, "p", entry.partition.hex(), "e", self._sealed(entry)]
        fields += ["t", _digest(entry.tenant), "r", _digest(entry.route)]
        commands = [packed("HSET", name, *fields), packed("PEXPIREAT", name, int(entry.expires_s * 1e3))]
        checked(await self._client.pipeline(commands))

    async def _make(self, dim: int) -> None:
        head = ("FT.CREATE", self._index, "ON", "HASH", "PREFIX", 1, f"{self._prefix}:question:", "SCHEMA")
        tags = ("p", "TAG", "t", "TAG", "r", "TAG")
        vectors = ("v", "VECTOR", "FLAT", 6, "TYPE", "FLOAT32", "DIM", dim, "DISTANCE_METRIC", "COSINE")
        try:
            await self._client.call(*head, *tags, *vectors)
        except StoreRefused as refused:
            if "already exists" not in str(refused):
                raise
        self._is_made = True

    async def _search(self, partition: bytes, query: bytes, k: int, timeout_s: float) -> list[Near]:
        asked: tuple[Argument, ...] = (
            *("FT.SEARCH", self._index, f"(@p:{{{partition.hex()}}})=>[KNN {k + SPARE} @v $q AS d]"),
            *("PARAMS", 2, "q", query, "SORTBY", "d", "RETURN", 2, "d", "e", "LIMIT", 0, k + SPARE, "DIALECT", 2),
        )
        _, *rows = await self._client.call(*asked, timeout_s=timeout_s)
        found = (self._near(partition, name, row) for name, row in zip(rows[::2], rows[1::2], strict=True))
        near = [one for one in found if one is not None][:k]
        seen = await self._client.pipeline([self._seen.reading(one.key) for one in near], timeout_s=timeout_s)
        for one, observed in zip(near, seen, strict=True):
            self._seen.found(one.key, observed)
        return near

    async def _remove(self, key: bytes, partition: bytes) -> None:
        entry = self._opened(key, await self._client.call("HGET", self._name(key), "e"))
        if entry is None or entry.partition == partition:
            await self._client.call("UNLINK", self._name(key), self._seen.name(key))

    async def _purge(self, tenant: str | None, route: str | None) -> None:
        queries = [f"@{tag}:{{{_digest(name)}}}" for tag, name in (("t", tenant), ("r", route)) if name is not None]
        for query in queries or ["*"]:
            await self._purge_found(query)

    async def _purge_found(self, query: str) -> None:
        asked = ("FT.SEARCH", self._index, query, "NOCONTENT", "LIMIT", 0, _PURGED_AT_ONCE, "DIALECT", 2)
        went = 1
        while went:  # none: what it still lists is gone
            _, *names = await self._client.call(*asked)
            went = await self._client.call("UNLINK", *names) if names else 0

    def _near(self, partition: bytes, name: bytes, row: Reply) -> Near | None:
        """What a hash says, if it is ours, of this partition, and has not expired."""
        fields = dict(zip(row[::2], row[1::2], strict=True)) if row else {}
        try:
            key = bytes.fromhex(name.rpartition(b":")[2].decode())
            distance = float(fields[b"d"])
        except (ValueError, KeyError):
            return None
        entry = self._living(partition, key, fields.get(b"e"))
        return None if entry is None else Near(key, entry.text, min(1 - distance, 1.0))

    def _failed(self, error: Exception) -> None:
        self._is_made = False  # Redis may have lost it
        text = str(error).lower()
        if not (isinstance(error, StoreRefused) and ("no such index" in text or "unknown index" in text)):
            super()._failed(error)  # else nothing was put in yet

    @property
    def _index(self) -> str:
        return f"{self._prefix}:index"

    def _name(self, key: bytes) -> str:
        return f"{self._prefix}:question:{key.hex()}"


def _digest(name: str) -> str:
    """A tag that needs no escapes."""
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
