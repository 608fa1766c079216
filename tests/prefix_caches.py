"""Prefix caches for tests, with two tokens a page so that a prompt is easy to read as pages."""

from genkan.engine.block_pool import BlockPool
from genkan.engine.prefix_cache import PrefixCache
from genkan.engine.prefix_page import Page

A, B = b"tenant a", b"tenant b"
END = 99  # stands where the token after a cached prefix does


def cache_of(num_blocks: int = 32, **settings: float) -> tuple[PrefixCache, BlockPool]:
    pool = BlockPool(num_blocks)
    return PrefixCache(pool, block_size=2, **settings), pool


def add(
    cache: PrefixCache,
    tokens: list[int],
    now_s: float = 0.0,
    *,
    namespace: bytes = A,
    ttl_s: float | None = None,
    pin: bool = False,
) -> Page:
    """Cache all of ``tokens`` as a sequence that computed them would, and return the deepest page."""
    page = cache.match(namespace, [*tokens, END], now_s)
    cache.lock(page)
    for start in range(page.depth * 2, len(tokens), 2):
        (block,) = cache._tree.pool.take(1)
        child, _ = cache.extend(page, (tokens[start], tokens[start + 1]), block, now_s, ttl_s=ttl_s, pin=pin)
        cache.advance(page, child)
        page = child
    cache.unlock(page, now_s)
    return page


def depth(cache: PrefixCache, tokens: list[int], namespace: bytes = A) -> int:
    """How many pages of ``tokens`` are cached, all of them counted."""
    return cache.peek(namespace, [*tokens, END])
