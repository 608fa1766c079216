"""The prefix cache: computed KV blocks, found again by the tokens that led to them.

A radix tree with a fixed stride of one page, which is `block_size` tokens and one block. Keys are the tokens
themselves, so nothing can collide, and no node is ever split. Every namespace has a tree of its own; nothing is
compared between them. After SGLang's RadixAttention (Zheng et al., 2023).

Used by one thread. Time comes in as ``now_s``: seconds of one clock that does not go back.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from genkan.engine.block_pool import BlockPool
from genkan.engine.prefix_check import check_tree
from genkan.engine.prefix_page import NamespaceRoot, Page, path
from genkan.engine.prefix_pins import PinBudget
from genkan.engine.prefix_snapshot import draw
from genkan.engine.prefix_statistics import PrefixStatistics, QueryCounts
from genkan.engine.prefix_tree import PrefixTree


class PrefixCache:
    """Pages of all namespaces, in blocks that the cache owns until it gives them back to ``pool``.

    A page that ``match`` or ``extend`` returned stays valid while it is locked; unlocked, until the next call of
    ``evict``, ``expire``, ``purge`` or ``unlock``. Using it later fails an assertion.
    """

    def __init__(
        self,
        pool: BlockPool,
        *,
        block_size: int,
        pin_share: float = 0.3,
        pin_share_per_namespace: float | None = None,
        ttl_s: float | None = None,
    ) -> None:
        """At most ``pin_share`` of the pool's blocks can be pinned, and by one namespace at most its own share.

        ``ttl_s`` is for pages that come without one; None keeps them until the room is needed.
        """
        own_share = pin_share if pin_share_per_namespace is None else pin_share_per_namespace
        self.block_size = block_size
        self._pins = PinBudget(pool.num_blocks, pin_share, own_share)
        self._tree = PrefixTree(pool, block_size, self._pins)
        self._ttl_s = math.inf if ttl_s is None else ttl_s
        self._new_roots: list[NamespaceRoot] = []  # made since the last expire(), some perhaps for nothing
        self._evictions = self._expirations = self._purged = 0
        self._queries = QueryCounts()

    @property
    def num_pages(self) -> int:
        """Pages that can be matched."""
        return self._tree.num_pages

    @property
    def num_pinned(self) -> int:
        return self._pins.num_pinned

    @property
    def evictable(self) -> int:
        """Pages that ``evict`` could free now: all that are not locked, pinned ones included."""
        return self._tree.evictable

    @property
    def num_locked(self) -> int:
        """Pages that somebody holds, purged ones included."""
        return self._tree.num_pages - self._tree.evictable + self._tree.num_detached

    @property
    def num_detached(self) -> int:
        """Purged pages that are still locked; they are not among ``num_pages``."""
        return self._tree.num_detached

    def match(self, namespace: bytes, tokens: Sequence[int], now_s: float) -> Page:
        """The deepest page whose path is a prefix of ``tokens``, or the namespace's root.

        The last token is never matched: a forward pass needs at least one to compute. Expired pages are found until
        ``expire`` frees them. Changes nothing, but that a new namespace gets a root, which ``expire`` removes if
        nobody used it. Cost: one look-up a page.
        """
        root = self._tree.roots.get(namespace)
        if root is None:
            root = self._tree.add_root(namespace, now_s)
            self._new_roots.append(root)
        return self._tree.deepest(root, tokens)

    def peek(self, namespace: bytes, tokens: Sequence[int]) -> int:
        """How many pages ``match`` would find. Changes nothing."""
        root = self._tree.roots.get(namespace)
        return 0 if root is None else self._tree.deepest(root, tokens).depth

    def use(self, page: Page, now_s: float) -> None:
        """Count a hit on ``page`` and all above it: they are evicted last now, and their TTLs restart."""
        assert page.refs >= 0, "the page was freed"
        clock = self._tree.tick()
        for step in path(page):
            step.hits += 1
            step.last_used = clock
            self._tree.restart_ttl(step, now_s)

    def lock(self, page: Page) -> None:
        """Keep ``page`` and all above it until as many calls of ``unlock``. Cost: O(depth)."""
        assert page.refs >= 0, "the page was freed"
        for step in path(page):
            self._tree.lock_one(step)

    def advance(self, page: Page, child: Page) -> None:
        """Move a lock from ``page`` to its ``child``: what locking the one and unlocking the other does, in O(1)."""
        assert child.parent is page, "a lock moves one page at a time"
        assert page.refs > 0, "the page is not locked"
        self._tree.lock_one(child)

    def unlock(self, page: Page, now_s: float) -> None:
        """Take back one lock. Until now the path was in use: it is evicted last, and its TTLs restart.

        Purged pages that nobody else holds are freed. Cost: O(depth).
        """
        assert page.refs > 0, "the page is not locked"
        self._tree.unlock(page, now_s)

    def extend(
        self,
        page: Page,
        tokens: tuple[int, ...],
        block: int,
        now_s: float,
        *,
        ttl_s: float | None = None,
        pin: bool = False,
    ) -> tuple[Page, bool]:
        """Cache a computed block whose ``tokens`` follow those of ``page``.

        Returns the new page and True: the block is the cache's now. If the tokens are there already, returns their
        page and False: the caller keeps its block. That page's TTL restarts, as ``ttl_s`` if this is longer; but the
        TTL of a pinned page is its pins' and no other request's. ``pin`` pins the page and what is unpinned above it,
        as far as the budget goes. Under a purged page the new one counts as purged.

        Cost: O(1); the first pin of a path O(depth).
        """
        assert page.refs >= 0, "the page was freed"
        assert len(tokens) == self.block_size
        child = page.children.get(tokens)
        is_new = child is None
        if child is None:
            child = self._tree.append(page, tokens, block, now_s)
        if not page.root.detached:
            ttl_s = self._ttl_s if ttl_s is None else ttl_s
            if pin:
                self._own_by_pin(self._pins.pin_next(child), now_s, ttl_s)
            if pin or not child.pinned:
                child.ttl_s = ttl_s if is_new else max(child.ttl_s, ttl_s)
            self._tree.restart_ttl(child, now_s)
        return child, is_new

    def pin_path(self, page: Page, now_s: float, *, ttl_s: float | None = None) -> int:
        """Pin ``page`` and all above it, from the root down, as far as the budget goes.

        Returns how many pages of the path are pinned then: ``page.depth`` if all are, 0 of a purged path. Their TTLs
        restart: as ``ttl_s`` where a page was unpinned or this is longer. Cost: O(depth).
        """
        assert page.refs >= 0, "the page was freed"
        if page.root.detached:
            return 0
        ttl_s = self._ttl_s if ttl_s is None else ttl_s
        self._own_by_pin(self._pins.pin(page), now_s, ttl_s)
        pinned = [step for step in path(page) if step.pinned]
        for step in pinned:
            step.ttl_s = max(step.ttl_s, ttl_s)
            self._tree.restart_ttl(step, now_s)
        return len(pinned)

    def evict(self, count: int, now_s: float) -> int:
        """Free up to ``count`` unlocked pages and return how many.

        First what has expired, then the least recently used, leaves before what is above them; pinned pages only when
        there is nothing else. Cost: O(log n) a page, amortised.
        """
        freed = self._free_expired(now_s, count)
        while freed < count and (page := self._tree.by_use.pop()) is not None:
            if page.refs == 0 and not page.children:
                self._tree.free(page)
                self._evictions += 1
                freed += 1
        return freed

    def expire(self, now_s: float) -> int:
        """Free all expired pages and return how many; meant to be called before every step.

        A page takes its sub-tree with it, whatever the TTLs there; a locked one waits for its locks. Cost: O(1) when
        nothing is due.
        """
        while self._new_roots:
            self._tree.drop_if_unused(self._new_roots.pop())
        return self._free_expired(now_s, self._tree.num_pages)

    def next_expiry_s(self) -> float | None:
        """When ``expire`` may next find something; None if nothing has a TTL. Never later than the first TTL ends."""
        earliest = self._tree.by_expiry.earliest()
        return None if earliest is None else earliest[0]

    def namespaces(self) -> list[bytes]:
        """Those that hold pages or locks."""
        return list(self._tree.roots)

    def purge(self, namespace: bytes) -> int:
        """Take all pages of ``namespace`` out of the cache at once and return how many.

        None of them is found again. Locked ones are freed with their last lock, and so is what the sequences that run
        in the namespace now still add.
        """
        root = self._tree.roots.get(namespace)
        if root is None:
            return 0
        purged = self._tree.detach(root)
        self._purged += purged
        return purged

    def record_query(self, namespace: bytes, prompt_tokens: int, cached_tokens: int) -> None:
        """Count a request that looked for its prompt. A namespace's own counts last as long as its pages and locks."""
        self._queries.record(prompt_tokens, cached_tokens)
        root = self._tree.roots.get(namespace)
        if root is not None:
            root.queries.record(prompt_tokens, cached_tokens)

    def statistics(self) -> PrefixStatistics:
        queries = self._queries
        return PrefixStatistics(
            pages=self.num_pages,
            pinned_pages=self.num_pinned,
            evictions=self._evictions,
            expirations=self._expirations,
            purged=self._purged,
            pins_refused=self._pins.num_refused,
            queries=queries.queries,
            hits=queries.hits,
            prompt_tokens=queries.prompt_tokens,
            cached_tokens=queries.cached_tokens,
        )

    def snapshot(self, now_s: float, max_nodes: int = 2000) -> dict[str, Any]:
        """The trees as plain dicts and lists, for people to look at; `prefix_snapshot.draw` says what a node is."""
        statistics = self.statistics()
        rates = {
            "misses": statistics.queries - statistics.hits,
            "hit_rate": statistics.hit_rate,
            "token_hit_rate": statistics.token_hit_rate,
        }
        roots = self._tree.roots.values()
        namespaces, truncated = draw(roots, block_size=self.block_size, now_s=now_s, max_nodes=max_nodes)
        return {
            "block_size": self.block_size,
            "pages": self.num_pages,
            "pinned_pages": self.num_pinned,
            "evictable_pages": self.evictable,
            "statistics": asdict(statistics) | rates,
            "namespaces": namespaces,
            "truncated": truncated,
        }

    def check(self) -> None:
        """Assert every invariant. Cost: O(pages); for tests, and for when the engine is idle."""
        check_tree(self._tree)

    def _own_by_pin(self, pages: list[Page], now_s: float, ttl_s: float) -> None:
        # A pin that is to end must end even on a page that would have stayed for ever.
        for page in pages:
            page.ttl_s = ttl_s
            self._tree.restart_ttl(page, now_s)

    def _free_expired(self, now_s: float, limit: int) -> int:
        freed = 0
        while freed < limit and (page := self._tree.by_expiry.pop((now_s,))) is not None:
            if page.refs > 0:
                continue  # queued again when it is unlocked
            freed += self._tree.free_subtree(page, limit - freed)
            if page.refs == 0:  # the limit came before it
                self._tree.by_expiry.push(page)
        self._expirations += freed
        return freed
