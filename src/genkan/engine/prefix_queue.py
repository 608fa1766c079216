"""Pages in the order in which they may have to go."""

import heapq
import math
from collections.abc import Callable

from genkan.engine.prefix_page import Page

Key = tuple[float, ...]


class PageQueue:
    """A priority queue of pages whose keys change while they wait; the smallest key comes first, ties in push order.

    A key that grew is noticed when the page's turn comes, so using a page costs nothing here; after a key shrank the
    page must be pushed again. Entries that no longer count are dropped on the way, and all at once when they are the
    larger part, so the queue stays as small as what is in it. Cost: O(log n) a push, and as much a pop, amortised.
    """

    def __init__(self, key: Callable[[Page], Key]) -> None:
        self._key = key
        self._heap: list[tuple[Key, int, Page]] = []
        self._queued: dict[Page, Key] = {}  # the key of each page's one entry that counts
        self._num_pushed = 0

    def __len__(self) -> int:
        return len(self._queued)

    def __contains__(self, page: Page) -> bool:
        """Whether ``page`` waits here, and will come up by its present key at the latest."""
        queued = self._queued.get(page)
        return queued is not None and queued <= self._key(page)

    def push(self, page: Page) -> None:
        """Let ``page`` wait; nothing happens if it does already."""
        if page in self:
            return
        if len(self._heap) > 2 * len(self._queued) + 64:
            self._drop_dead_entries()
        self._enter(page)

    def discard(self, page: Page) -> None:
        """Let ``page`` no longer wait, if it did."""
        self._queued.pop(page, None)

    def earliest(self) -> Key | None:
        """A key before which ``pop`` finds nothing; None when it never would."""
        return self._heap[0][0] if self._heap else None

    def pop(self, limit: Key = (math.inf,)) -> Page | None:
        """Take out the page with the smallest key; None when that is beyond ``limit`` or nothing waits."""
        while self._heap and self._heap[0][0] <= limit:
            key, _, page = heapq.heappop(self._heap)
            if self._queued.get(page) != key:
                continue
            if self._key(page) > key:
                self._enter(page)
                continue
            del self._queued[page]
            return page
        return None

    def _enter(self, page: Page) -> None:
        key = self._key(page)
        self._queued[page] = key
        self._num_pushed += 1
        heapq.heappush(self._heap, (key, self._num_pushed, page))

    def _drop_dead_entries(self) -> None:
        # Of entries that are equal but for their number the oldest counts, as it would have come up first.
        alive: dict[Page, tuple[Key, int, Page]] = {}
        for entry in sorted(self._heap):
            if self._queued.get(entry[2]) == entry[0]:
                alive.setdefault(entry[2], entry)
        self._heap = list(alive.values())  # sorted, which a heap may be
