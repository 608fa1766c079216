"""What the indexes have in common whose entries are in Redis: nothing is in this process, and all may fail."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Sequence
from dataclasses import replace

import numpy as np

from genkan.cache.index.base import Entry, IndexStatistics, Near, Seen, Vector
from genkan.cache.index.record import Added, Observed, as_kept, read, written
from genkan.cache.index.redis_seen import RedisSeen
from genkan.cache.observer import CacheObserver
from genkan.cache.sealer import Sealer, Unreadable
from genkan.clock import Clock
from genkan.errors import StoreError, StoreRefused
from genkan.store.connection import Reply
from genkan.store.resp import RespClient

_NO_VECTOR = np.empty(0, np.float32)
SPARE = 4  # found besides those asked for, in place of such as are not ours, or over


class RedisIndex(ABC):
    """See `VectorIndex`. Calls take a round trip, a search two. What is abstract may raise StoreError."""

    kind: str
    is_ready = True
    size = 0

    def __init__(
        self,
        client: RespClient,
        prefix: str,
        *,
        sealer: Sealer,
        clock: Clock,
        observer: CacheObserver,
        longest_s: float,
    ) -> None:
        """``client`` is connected by somebody else; ``longest_s`` is the longest life of an entry."""
        self._client = client
        self._prefix = prefix
        self._sealer = sealer
        self._clock = clock
        self._observer = observer
        self._longest_s = longest_s
        self._seen = RedisSeen(client, prefix, sealer, longest_s)

    async def start(self) -> None:
        return

    async def aclose(self) -> None:
        return

    async def add(self, entry: Entry) -> None:
        vector = as_kept(entry.vector)
        if vector is None:
            self._observer.failed("index")
            return
        await self._counted(self._add(entry, vector.astype("<f4").tobytes()))

    async def search(self, partition: bytes, vector: Vector, *, k: int, timeout_s: float) -> list[Near]:
        if k < 1:
            return []
        query = np.asarray(vector, "<f4").tobytes()
        try:
            async with asyncio.timeout(timeout_s):
                return await self._search(partition, query, k, timeout_s)
        except (StoreError, TimeoutError) as error:
            self._failed(error)
            return []

    async def remove(self, key: bytes, partition: bytes) -> None:
        self._seen.forget(key)
        await self._counted(self._remove(key, partition))

    async def purge(self, *, tenant: str | None = None, route: str | None = None) -> None:
        await self._counted(self._purge(tenant, route))

    def seen(self, key: bytes) -> Sequence[Seen]:
        return self._seen.of(key)

    async def saw(self, key: bytes, partition: bytes, similarity: float, same: bool) -> None:
        await self._counted(self._seen.saw(Observed(key, partition, similarity, same)))

    def statistics(self) -> IndexStatistics:
        return IndexStatistics(self.kind, is_ready=True, entries=0, partitions=0, graphs=0, held_bytes=0)

    @abstractmethod
    async def _add(self, entry: Entry, vector: bytes) -> None:
        """``vector`` is of float32, as all workers have it."""

    @abstractmethod
    async def _search(self, partition: bytes, query: bytes, k: int, timeout_s: float) -> list[Near]:
        """As ``search``; each call to Redis takes at most ``timeout_s``."""

    @abstractmethod
    async def _remove(self, key: bytes, partition: bytes) -> None: ...

    @abstractmethod
    async def _purge(self, tenant: str | None, route: str | None) -> None: ...

    def _failed(self, _error: Exception) -> None:
        self._observer.failed("index")

    async def _counted(self, work: Awaitable[None]) -> None:
        try:
            await work
        except StoreError as error:
            self._failed(error)

    def _sealed(self, entry: Entry) -> bytes:
        """The entry as it lies in Redis beside its vector."""
        return self._sealer.seal(written(Added(replace(entry, vector=_NO_VECTOR))), b"question:" + entry.key)

    def _opened(self, key: bytes, sealed: Reply) -> Entry | None:
        """What ``_sealed`` gave; None if it is anything else, or another entry's."""
        try:
            record = read(self._sealer.open(sealed, b"question:" + key)) if isinstance(sealed, bytes) else None
        except (Unreadable, ValueError):
            return None
        return record.entry if isinstance(record, Added) else None

    def _living(self, partition: bytes, key: bytes, sealed: Reply) -> Entry | None:
        """The entry that was sealed, if it is of this partition and has not expired."""
        entry = self._opened(key, sealed)
        is_living = entry is not None and entry.partition == partition and entry.expires_s > self._clock.unix()
        return entry if is_living else None


def checked(replies: list[Reply]) -> list[Reply]:
    """The replies of a pipeline. Raises the first StoreRefused among them."""
    for reply in replies:
        if isinstance(reply, StoreRefused):
            raise reply
    return replies
