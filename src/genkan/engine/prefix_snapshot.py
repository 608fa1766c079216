"""The prefix cache's trees as plain data, for people to look at."""

import math
from collections import deque
from collections.abc import Iterable
from typing import Any

from genkan.engine.prefix_page import NamespaceRoot, Page

_SHOWN_TOKENS = 64
_MAX_LEVELS = 64  # each nests two deep in JSON, and encoders and browsers give up somewhere above 250


def draw(
    roots: Iterable[NamespaceRoot], *, block_size: int, now_s: float, max_nodes: int
) -> tuple[list[dict[str, Any]], bool]:
    """What each namespace holds, and whether something was left out.

    A node is a run of pages without a branch. Nodes are taken breadth first over all namespaces until there are
    ``max_nodes``, and at most 64 below each other. Cost: O(pages shown).
    """
    namespaces: list[dict[str, Any]] = []
    waiting: deque[tuple[Page, int, list[dict[str, Any]]]] = deque()
    too_deep = False
    for root in roots:
        children: list[dict[str, Any]] = []
        namespaces.append(_namespace(root, children))
        waiting.extend((page, 1, children) for page in root.children.values())
    for _ in range(max_nodes):
        if not waiting:
            break
        page, level, siblings = waiting.popleft()
        run = _run(page)
        children = []
        siblings.append(_node(run, children, block_size, now_s))
        if level < _MAX_LEVELS:
            waiting.extend((child, level + 1, children) for child in run[-1].children.values())
        else:
            too_deep |= bool(run[-1].children)
    return namespaces, too_deep or bool(waiting)


def _namespace(root: NamespaceRoot, children: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "namespace": root.namespace.hex(),
        "pages": root.num_pages,
        "pinned_pages": root.num_pinned,
        "queries": root.queries.queries,
        "hits": root.queries.hits,
        "prompt_tokens": root.queries.prompt_tokens,
        "cached_tokens": root.queries.cached_tokens,
        "children": children,
    }


def _run(page: Page) -> list[Page]:
    run = [page]
    while len(page.children) == 1:
        (page,) = page.children.values()
        run.append(page)
    return run


def _node(run: list[Page], children: list[dict[str, Any]], block_size: int, now_s: float) -> dict[str, Any]:
    first = run[0]
    shown_pages = run[: -(-_SHOWN_TOKENS // block_size)]
    return {
        "pages": len(run),
        "first_tokens": [token for page in shown_pages for token in page.tokens][:_SHOWN_TOKENS],
        "num_tokens": len(run) * block_size,
        "hits": first.hits,
        "age_s": now_s - first.created_s,
        "idle_s": now_s - first.used_s,
        "pinned": sum(page.pinned for page in run),
        "locked": first.refs,
        "expires_in_s": None if math.isinf(first.expires_s) else first.expires_s - now_s,
        "children": children,
    }
