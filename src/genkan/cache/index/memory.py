"""The index in this process, which hears from all others by a stream in Redis."""

import asyncio
import logging
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace

from genkan.cache.index.base import Entry, IndexStatistics, Near, Seen, Vector
from genkan.cache.index.feed import Feed
from genkan.cache.index.record import Added, Observed, Purged, Record, Removed, as_kept
from genkan.cache.index.rows import Found, best
from genkan.cache.index.table import QuestionTable
from genkan.cache.observer import CacheObserver
from genkan.clock import Clock
from genkan.errors import StoreError, StoreLost

_TEND_EVERY_S = 5.0
_PARTS_A_TURN = 8  # of the event loop; less than a millisecond

_log = logging.getLogger("genkan.cache")


class MemoryIndex:
    """A copy of what all workers know; without ``feed``, this worker's alone. See `VectorIndex`."""

    def __init__(self, clock: Clock, observer: CacheObserver, *, max_entries: int, feed: Feed | None = None) -> None:
        self._clock = clock
        self._observer = observer
        self._table = QuestionTable(max_entries)
        self._feed = feed
        self._purged: deque[Iterator[None]] = deque()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_ready(self) -> bool:
        return self._feed is None or self._feed.is_current

    @property
    def size(self) -> int:
        return len(self._table)

    async def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._tend())
        if self._feed is not None:
            await self._feed.start(self)

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        if self._feed is not None:
            await self._feed.aclose()

    async def add(self, entry: Entry) -> None:
        vector = as_kept(entry.vector)
        kept = None if vector is None else replace(entry, vector=vector)
        if kept is None or not self._table.add(kept):
            self._observer.failed("index")
            return
        await self._tell(Added(kept))

    async def search(self, partition: bytes, vector: Vector, *, k: int, timeout_s: float) -> list[Near]:
        found: list[Found] = []
        for count, part in enumerate(self._table.search(partition, vector, k, self._clock.unix()), 1):
            found += part
            if count % _PARTS_A_TURN == 0:
                await asyncio.sleep(0)
        return best(found, k)

    async def remove(self, key: bytes, partition: bytes) -> None:
        self._table.remove(key, partition)
        await self._tell(Removed(key, partition))

    async def purge(self, *, tenant: str | None = None, route: str | None = None) -> None:
        self._purge(tenant, route)
        await self._tell(Purged(tenant, route))

    def seen(self, key: bytes) -> Sequence[Seen]:
        return self._table.seen(key)

    async def saw(self, key: bytes, partition: bytes, similarity: float, same: bool) -> None:
        # Counted when it comes back by the stream, so that it counts once.
        if not await self._tell(Observed(key, partition, similarity, same)):
            self._table.saw(key, partition, similarity, same)

    def statistics(self) -> IndexStatistics:
        table = self._table
        return IndexStatistics("memory", self.is_ready, len(table), table.partitions, table.graphs, table.held_bytes)

    # what the feed tells

    def take(self, record: Record) -> None:
        """See `FeedListener`. Cost: 10 µs."""
        match record:
            case Added(entry):
                if entry.expires_s > self._clock.unix() and not self._table.add(entry):
                    self._observer.failed("index")
            case Removed(key, partition):
                self._table.remove(key, partition)
            case Observed(key, partition, similarity, same):
                self._table.saw(key, partition, similarity, same)
            case Purged(tenant, route):
                self._purge(tenant, route)

    def begin_anew(self) -> None:
        """See `FeedListener`."""
        self._purge(None, None)

    def _purge(self, tenant: str | None, route: str | None) -> None:
        self._purged.append(self._table.purge(tenant, route))

    async def _tell(self, record: Record) -> bool:
        """Tell all workers. False if none was told, for certain."""
        if self._feed is None:
            return False
        try:
            await self._feed.write(record)
        except StoreError as error:
            self._observer.failed("index")
            return not (isinstance(error, StoreLost) and not error.was_sent)
        return True

    async def _tend(self) -> None:
        """Give back what was purged, forget what expires, and have graphs made."""
        while True:
            await asyncio.sleep(_TEND_EVERY_S)
            while self._purged:
                for _ in self._purged.popleft():
                    await asyncio.sleep(0)
            for _ in self._table.sweep(self._clock.unix()):
                await asyncio.sleep(0)
            for partition in self._table.want_graphs():
                try:
                    await partition.extend_graph()
                except (ImportError, RuntimeError, ValueError, MemoryError) as error:
                    self._observer.failed("index")
                    _log.warning("a graph of %d questions could not be made: %s", len(partition.rows), error)
