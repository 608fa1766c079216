"""What must hold of the prefix cache at all times."""

import math
from itertools import chain

from genkan.engine.prefix_page import Page, subtree
from genkan.engine.prefix_tree import PrefixTree


def check_tree(tree: PrefixTree) -> None:
    """Assert that structure, locks, counts and queues agree and that no block is in two places. Cost: O(pages)."""
    for root in chain(tree.roots.values(), tree.detached_roots):
        for page in subtree(root):
            _check_links(page)
    found = [page for root in tree.roots.values() for page in subtree(root)[1:]]
    detached = [page for root in tree.detached_roots for page in subtree(root)[1:]]
    for page in chain(found, detached):
        _check_page(page, tree)
    _check_roots(tree)
    _check_counts(tree, found, detached)
    _check_queues(tree, found)


def _check_links(page: Page) -> None:
    assert page.refs >= sum(child.refs for child in page.children.values()), "a lock is not counted above"
    for key, child in page.children.items():
        assert child.tokens == key
        assert child.parent is page
        assert child.root is page.root
        assert child.depth == page.depth + 1
        assert child.last_used <= page.last_used, "a page is younger than its parent"
        assert page.pinned or page is page.root or not child.pinned, "a pinned page stands on one that is not"


def _check_page(page: Page, tree: PrefixTree) -> None:
    assert len(page.tokens) == tree.block_size
    assert page.refs >= 0, "a freed page is in a tree"
    assert not tree.pool.is_free(page.block), f"block {page.block} of a page is free"


def _check_roots(tree: PrefixTree) -> None:
    for namespace, root in tree.roots.items():
        pages = subtree(root)[1:]
        assert root.namespace == namespace
        assert not root.detached
        assert root.num_pages == len(pages)
        assert root.num_pinned == sum(page.pinned for page in pages) <= tree.pins.limit_per_namespace
    for root in tree.detached_roots:
        assert root.detached
        assert root.refs > 0, "a purged tree without a lock is still here"


def _check_counts(tree: PrefixTree, found: list[Page], detached: list[Page]) -> None:
    blocks = {page.block for page in chain(found, detached)}
    assert len(blocks) == len(found) + len(detached), "a block is in two pages"
    assert tree.num_pages == len(found)
    assert tree.num_detached == len(detached)
    assert tree.evictable == sum(page.refs == 0 for page in found)
    assert tree.pins.num_pinned == sum(page.pinned for page in found) <= tree.pins.limit
    assert not any(page.pinned for page in detached), "a purged page is pinned"


def _check_queues(tree: PrefixTree, found: list[Page]) -> None:
    for page in found:
        assert page.expires_s == page.used_s + page.ttl_s
        if page.refs == 0:
            assert page.children or page in tree.by_use, "an unlocked leaf would never be evicted"
            assert page.expires_s == math.inf or page in tree.by_expiry, "an unlocked page would never expire"
    assert max(len(tree.by_use), len(tree.by_expiry)) <= len(found), "a freed page is still queued"
