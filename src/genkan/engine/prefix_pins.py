"""How many pages may be pinned, and which are."""

import math

from genkan.engine.prefix_page import NamespaceRoot, Page, path


class PinBudget:
    """Pinned pages: at most a share of all blocks, and of them at most a share to each namespace.

    A page is pinned only on pinned ones, so that what is not pinned can always be evicted first, leaf by leaf.
    """

    def __init__(self, num_blocks: int, share: float, share_per_namespace: float) -> None:
        self.limit = math.floor(share * num_blocks)
        self.limit_per_namespace = math.floor(share_per_namespace * num_blocks)
        self.num_pinned = 0
        self.num_refused = 0

    def pin(self, page: Page) -> list[Page]:
        """Pin ``page`` and what is unpinned above it, from the root down; returns those that the budget allowed."""
        unpinned = []
        for step in path(page):
            if step.pinned or step is page.root:
                break
            unpinned.append(step)
        refused = max(0, len(unpinned) - self._left(page.root))
        granted = unpinned[refused:]
        for step in granted:
            step.pinned = True
        self.num_pinned += len(granted)
        page.root.num_pinned += len(granted)
        self.num_refused += refused
        return granted

    def pin_next(self, page: Page) -> list[Page]:
        """As ``pin`` for one new request, with a refusal counted for ``page`` alone and in O(1)."""
        if not page.pinned and self._left(page.root) == 0:
            self.num_refused += 1
            return []
        return self.pin(page)

    def unpin(self, page: Page) -> None:
        """Give the page's share of the budget back, if it has one; the caller sees to the pages below."""
        if page.pinned:
            page.pinned = False
            self.num_pinned -= 1
            page.root.num_pinned -= 1

    def _left(self, root: NamespaceRoot) -> int:
        return min(self.limit - self.num_pinned, self.limit_per_namespace - root.num_pinned)
