"""The questions that this process knows, of all partitions. No I/O; the clock is passed in."""

from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence

from genkan.cache.index.base import MAX_SEEN, Entry, Seen, Vector
from genkan.cache.index.partition import Partition
from genkan.cache.index.rows import Found

_SWEPT_AT_ONCE = 200


class QuestionTable:
    """At most ``max_entries`` of them; the oldest are forgotten first.

    Memory: an entry of 384 numbers takes 1.5 KB for its vector, and 0.4 KB besides if its text is short; a partition
    takes at most another block (0.8 MB) of vectors that are not used yet or not any more, and a graph 0.85 KB for each
    entry.
    """

    def __init__(self, max_entries: int) -> None:
        self._max_entries = max_entries
        self._partitions: dict[bytes, Partition] = {}
        # Partitions by key, oldest key first. What was purged goes from here last, and does not count.
        self._where: OrderedDict[bytes, bytes] = OrderedDict()
        self._count = 0
        self._seen: dict[bytes, deque[Seen]] = {}

    def __len__(self) -> int:
        return self._count

    @property
    def partitions(self) -> int:
        """How many there are; one without entries is none."""
        return len(self._partitions)

    @property
    def graphs(self) -> int:
        """Partitions that are searched by one."""
        return sum(partition.has_graph for partition in self._partitions.values())

    @property
    def held_bytes(self) -> int:
        """Of vectors, without graphs."""
        return sum(partition.rows.held_bytes for partition in self._partitions.values())

    def add(self, entry: Entry) -> bool:
        """Take it in; one with its key goes, unless it is the same. False if its vector does not go with the others'.

        Cost: 5 µs.
        """
        partition = self._partitions.get(entry.partition)
        if partition is None:
            partition = Partition(entry.tenant, entry.route, len(entry.vector))
        elif partition.rows.dim != len(entry.vector):
            return False
        elif partition.rows.is_same(entry.key, entry.text, entry.expires_s):
            return True
        if (before := self._where.get(entry.key)) is not None:
            self.remove(entry.key, before)
        self._partitions[entry.partition] = partition
        partition.rows.add(entry.key, entry.text, entry.vector, entry.expires_s)
        self._where[entry.key] = entry.partition
        self._count += 1
        while self._count > self._max_entries:
            self.remove(*next(iter(self._where.items())))
        return True

    def remove(self, key: bytes, partition: bytes) -> None:
        """Forget it; nothing happens if it is not there."""
        if self._where.get(key) != partition:
            return
        owner = self._owner(key)
        del self._where[key]
        self._seen.pop(key, None)
        if owner is None:
            return
        owner.rows.remove(key)
        self._count -= 1
        if not len(owner.rows):
            del self._partitions[partition]

    def search(self, partition: bytes, query: Vector, k: int, now_s: float) -> Iterator[list[Found]]:
        """What ``Partition.nearest`` gives; nothing of one that is not there, or whose vectors are of another kind."""
        found = self._partitions.get(partition)
        if found is None or found.rows.dim != len(query) or k < 1:
            return iter(())
        return found.nearest(query, k, now_s)

    def purge(self, tenant: str | None, route: str | None) -> Iterator[None]:
        """Forget what is of either, at once; everything if both are None.

        What it took is given back by running through what is returned, some at a time. Cost: 1 µs an entry.
        """
        going: list[tuple[bytes, Partition]] = []
        for name, partition in list(self._partitions.items()):
            if (tenant is None and route is None) or partition.tenant == tenant or partition.route == route:
                going.append((name, self._partitions.pop(name)))
                self._count -= len(partition.rows)
        return self._give_back(going)

    def sweep(self, now_s: float) -> Iterator[None]:
        """Forget what has expired, some at a time: to be run through, with pauses or without. Cost: 2 µs each."""
        for name, partition in list(self._partitions.items()):
            while self._partitions.get(name) is partition and (keys := partition.rows.expired(now_s, _SWEPT_AT_ONCE)):
                for key in keys:
                    self.remove(key, name)
                yield
            yield

    def seen(self, key: bytes) -> Sequence[Seen]:
        """What was observed of it, oldest first."""
        return tuple(self._seen.get(key, ())) if self._owner(key) is not None else ()

    def saw(self, key: bytes, partition: bytes, similarity: float, same: bool) -> None:
        """Add an observation, if the entry is there."""
        if self._where.get(key) == partition and self._owner(key) is not None:
            self._seen.setdefault(key, deque(maxlen=MAX_SEEN)).append((similarity, same))

    def want_graphs(self) -> list[Partition]:
        """Partitions of which `Partition.extend_graph` is due."""
        return [partition for partition in self._partitions.values() if partition.wants_graph()]

    def _owner(self, key: bytes) -> Partition | None:
        """The partition that has the entry; None also if it was purged."""
        partition = self._partitions.get(self._where.get(key, b""))
        return partition if partition is not None and key in partition.rows else None

    def _give_back(self, going: list[tuple[bytes, Partition]]) -> Iterator[None]:
        for name, partition in going:
            for keys in partition.rows.drain():
                for key in keys:
                    if self._where.get(key) == name and self._owner(key) is None:
                        del self._where[key]
                        self._seen.pop(key, None)
                yield
