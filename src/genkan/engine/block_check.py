"""What must hold of the KV blocks between two steps."""

from collections import Counter
from collections.abc import Iterable

from genkan.engine.block_pool import BlockPool
from genkan.engine.prefix_cache import PrefixCache
from genkan.engine.prefix_page import path
from genkan.engine.sequence import Sequence


def check_blocks(
    pool: BlockPool,
    cache: PrefixCache,
    host: BlockPool,
    running: Iterable[Sequence],
    waiting: Iterable[Sequence],
) -> None:
    """Assert that every block is free, a page's or one sequence's, and nothing is locked that nobody holds.

    Cost: O(pages and blocks); for tests, and after failures.
    """
    cache.check()
    running, waiting = list(running), list(waiting)
    private = [block for sequence in running for block in _private(sequence)]
    assert len(private) == len(set(private)), "a block is in two sequences"
    assert not any(map(pool.is_free, private)), "a block of a sequence is free"
    used = cache.num_pages + cache.num_detached + len(private)
    assert pool.num_free + used == pool.num_blocks, "a block is lost, or in two places"
    locks = Counter(step for sequence in running if sequence.page is not None for step in path(sequence.page))
    assert all(page.refs == count for page, count in locks.items()), "a page has other locks than its sequences'"
    assert cache.num_locked == sum(page.depth > 0 for page in locks), "a page is locked that nobody holds"
    assert not any(sequence.blocks or sequence.page for sequence in waiting), "a sequence that waits has blocks"
    copied = [block for sequence in waiting if sequence.host_copy for block in sequence.host_copy.blocks]
    assert len(copied) == len(set(copied)) == host.num_blocks - host.num_free, "a block of the host's is lost"


def _private(sequence: Sequence) -> list[int]:
    """The blocks of ``sequence`` that are no pages; asserts that the others are, in order."""
    pages = [] if sequence.page is None else [page for page in path(sequence.page) if page.depth][::-1]
    assert [page.block for page in pages] == sequence.blocks[: len(pages)].tolist(), "a block is not its page's"
    return sequence.blocks[len(pages) :].tolist()
