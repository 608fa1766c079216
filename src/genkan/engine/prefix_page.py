"""The nodes of the prefix cache's tree: one page is one full KV block and the tokens that stand in it."""

import math
from collections.abc import Iterator

from genkan.engine.prefix_statistics import QueryCounts

FREED = -1
"""``refs`` of a page that is no longer in any tree."""


class Page:
    """A computed KV block. The tokens on its path from the root are the prefix that it continues.

    ``refs`` counts the locks on it or below it, so a page without any has a sub-tree without any. ``last_used`` is the
    cache's logical clock and never later than the parent's; times ending in ``_s`` are seconds of the caller's clock.
    ``ttl_s`` and ``expires_s`` are infinite for a page that never expires. Only `PrefixCache` writes to a page.
    """

    __slots__ = (
        "block",
        "children",
        "created_s",
        "depth",
        "expires_s",
        "hits",
        "last_used",
        "parent",
        "pinned",
        "refs",
        "root",
        "tokens",
        "ttl_s",
        "used_s",
    )

    def __init__(
        self, parent: "Page | None", root: "NamespaceRoot", tokens: tuple[int, ...], block: int, now_s: float
    ) -> None:
        self.parent = parent
        self.root = root
        self.tokens = tokens
        self.block = block
        self.children: dict[tuple[int, ...], Page] = {}
        self.depth: int = 0 if parent is None else parent.depth + 1  # pages from the root, this one included
        self.refs = 0
        self.hits = 0
        self.last_used: int = 0 if parent is None else parent.last_used
        self.created_s = self.used_s = now_s
        self.ttl_s = self.expires_s = math.inf
        self.pinned = False


class NamespaceRoot(Page):
    """The empty prefix of one namespace: no tokens, no block, depth 0.

    A ``detached`` root was purged: nothing matches its tree any more, and its pages go with their last lock.
    """

    __slots__ = ("detached", "namespace", "num_pages", "num_pinned", "queries")

    def __init__(self, namespace: bytes, now_s: float) -> None:
        super().__init__(None, self, (), -1, now_s)
        self.namespace = namespace
        self.num_pages = 0
        self.num_pinned = 0
        self.detached = False
        self.queries = QueryCounts()


def path(page: Page) -> Iterator[Page]:
    """``page``, its parent and so on; the root comes last."""
    step: Page | None = page
    while step is not None:
        yield step
        step = step.parent


def subtree(page: Page) -> list[Page]:
    """``page`` and all below it, parents before their children. Not recursive: a long prompt is 512 pages deep."""
    found = [page]
    for step in found:
        found.extend(step.children.values())  # the loop goes on over what it appends
    return found
