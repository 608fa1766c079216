"""The trees of all namespaces, and who holds what: structure, locks and counts, but no policy."""

import math
from collections.abc import Sequence

from genkan.engine.block_pool import BlockPool
from genkan.engine.prefix_page import FREED, NamespaceRoot, Page, path, subtree
from genkan.engine.prefix_pins import PinBudget
from genkan.engine.prefix_queue import PageQueue


class PrefixTree:
    """Pages by namespace and tokens, each in a block taken from ``pool``.

    ``num_pages`` and ``evictable`` (those without a lock) count pages that can be found, ``num_detached`` purged ones
    that are still locked. ``by_use`` holds every unlocked leaf and ``by_expiry`` every unlocked page with a TTL;
    either may hold others, which whoever takes them out passes over.
    """

    def __init__(self, pool: BlockPool, block_size: int, pins: PinBudget) -> None:
        self.pool = pool
        self.block_size = block_size
        self.pins = pins
        self.num_pages = 0
        self.evictable = 0
        self.num_detached = 0
        self.roots: dict[bytes, NamespaceRoot] = {}
        self.detached_roots: set[NamespaceRoot] = set()
        self.by_use = PageQueue(lambda page: (page.pinned, page.last_used))
        self.by_expiry = PageQueue(lambda page: (page.expires_s,))
        self._clock = 0

    def tick(self) -> int:
        """The next reading of the logical clock that orders uses."""
        self._clock += 1
        return self._clock

    def deepest(self, root: NamespaceRoot, tokens: Sequence[int]) -> Page:
        """The deepest page whose path is a prefix of ``tokens`` without the last one."""
        page: Page = root
        size, children = self.block_size, root.children
        for end in range(size, len(tokens), size):
            child = children.get(tuple(tokens[end - size : end]))
            if child is None:
                break
            page, children = child, child.children
        return page

    def add_root(self, namespace: bytes, now_s: float) -> NamespaceRoot:
        root = self.roots[namespace] = NamespaceRoot(namespace, now_s)
        root.last_used = self.tick()
        return root

    def append(self, page: Page, tokens: tuple[int, ...], block: int, now_s: float) -> Page:
        """A new unlocked page under ``page``; ``block`` belongs to the tree now."""
        child = page.children[tokens] = Page(page, page.root, tokens, block, now_s)
        if page.root.detached:
            self.num_detached += 1
        else:
            self.num_pages += 1
            self.evictable += 1
            page.root.num_pages += 1
            self.by_use.push(child)
        return child

    def lock_one(self, page: Page) -> None:
        """Count one lock on ``page`` itself; what is above it is the caller's part."""
        if page.refs == 0 and page is not page.root and not page.root.detached:
            self.evictable -= 1
        page.refs += 1

    def unlock(self, page: Page, now_s: float) -> None:
        """Take one lock off the path, which was in use until now; free what nobody can find or holds any more."""
        root, clock, released = page.root, self.tick(), None
        for step in path(page):
            step.refs -= 1
            step.last_used = clock
            self.restart_ttl(step, now_s)
            if step.refs == 0 and step is not root:
                released = step
                self.evictable += not root.detached
        if released is not None and root.detached:
            self.free_subtree(released)
        else:
            self._queue_if_leaf(page)
        self.drop_if_unused(root)

    def restart_ttl(self, page: Page, now_s: float) -> None:
        """Let ``page.ttl_s`` run from now on; to be called after every change of it."""
        page.used_s = now_s
        page.expires_s = now_s + page.ttl_s
        if page.expires_s != math.inf:
            self.by_expiry.push(page)

    def free(self, page: Page) -> None:
        """Give back the block of an unlocked leaf. An empty root goes, too, unless it is locked."""
        parent = page.parent
        assert page.refs == 0
        assert parent is not None
        if page.root.detached:
            self.num_detached -= 1
        else:
            self._withdraw(page)
            self.evictable -= 1
        del parent.children[page.tokens]
        page.parent, page.refs = None, FREED
        self.pool.give_back((page.block,))
        self._queue_if_leaf(parent)
        self.drop_if_unused(page.root)

    def free_subtree(self, page: Page, limit: int | None = None) -> int:
        """Free an unlocked page and all below it, leaves first and up to ``limit``; returns how many."""
        pages = subtree(page)[::-1][:limit]
        for step in pages:
            self.free(step)
        return len(pages)

    def detach(self, root: NamespaceRoot) -> int:
        """Take a namespace's tree out: free what is unlocked, leave the rest to its locks. Returns how many pages."""
        pages = subtree(root)[1:]
        for page in reversed(pages):
            if page.refs == 0:
                self.free(page)
            else:
                self._withdraw(page)
                page.ttl_s = page.expires_s = math.inf
                self.num_detached += 1
        if root.refs > 0:
            del self.roots[root.namespace]
            root.detached = True
            self.detached_roots.add(root)
        return len(pages)

    def drop_if_unused(self, root: NamespaceRoot) -> None:
        """Forget a root that has neither pages nor locks; nothing happens if it has, or is gone already."""
        if root.refs != 0 or root.children:
            return
        root.refs = FREED
        if root.detached:
            self.detached_roots.remove(root)
        else:
            del self.roots[root.namespace]

    def _withdraw(self, page: Page) -> None:
        self.num_pages -= 1
        page.root.num_pages -= 1
        self.pins.unpin(page)
        self.by_use.discard(page)
        self.by_expiry.discard(page)

    def _queue_if_leaf(self, page: Page) -> None:
        if page.refs == 0 and not page.children and page is not page.root and not page.root.detached:
            self.by_use.push(page)
