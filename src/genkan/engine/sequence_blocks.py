"""Which blocks a sequence holds: from the free ones, the prefix cache, and a copy in the host's memory. Pure."""

from array import array
from typing import NamedTuple

from genkan.engine.block_pool import BlockPool
from genkan.engine.prefix_cache import PrefixCache
from genkan.engine.prefix_page import Page, path
from genkan.engine.sequence import HostCopy, Sequence


class BlockCopy(NamedTuple):
    """KV of ``sequence`` to be copied between ``blocks`` and the host's ``host_blocks``, one for one."""

    sequence: Sequence
    blocks: "array[int]"
    host_blocks: "array[int]"


class SequenceBlocks:
    """Gives sequences their blocks and takes them back. ``host`` has the host's, where preempted KV is kept."""

    def __init__(self, pool: BlockPool, cache: PrefixCache, host: BlockPool) -> None:
        self.pool = pool
        self.host = host
        self._cache = cache
        self._block_size = cache.block_size

    @property
    def num_available(self) -> int:
        """Blocks that are free, or would be after evicting every unused page."""
        return self.pool.num_free + self._cache.evictable

    def missing(self, sequence: Sequence, num_tokens: int) -> int:
        """Blocks that ``sequence`` lacks for so many tokens."""
        return self._blocks_of(num_tokens) - len(sequence.blocks)

    def ensure(self, sequence: Sequence, count: int, now_s: float) -> bool:
        """Give ``sequence`` blocks for ``count`` more tokens, evicting pages for them; False leaves it as it was."""
        missing = self.missing(sequence, sequence.num_computed + count)
        if missing <= 0:
            return True
        short = missing - self.pool.num_free
        if short > self._cache.evictable:
            return False
        if short > 0:
            self._cache.evict(short, now_s)
        sequence.blocks.extend(self.pool.take(missing))
        return True

    def attach(self, sequence: Sequence, now_s: float) -> None:
        """Give a sequence that waited the cached pages of its prompt, locked, and count what the host has for it.

        What the host has must be asked for by ``copy_in`` once there are blocks for it; ``release`` undoes it all.
        """
        if sequence.prefix.use:
            page = self._cache.match(sequence.prefix.namespace, sequence.to_be_found, now_s)
            self._cache.lock(page)
            sequence.page = page
            sequence.blocks.extend(step.block for step in reversed(list(path(page))) if step.depth)
            sequence.num_computed = page.depth * self._block_size
        copy = sequence.host_copy
        if copy is None:
            return
        if len(sequence.blocks) >= copy.first and copy.num_computed > sequence.num_computed:
            sequence.num_computed = copy.num_computed
        else:  # the cache has more, or no longer what the copy goes on from
            self.drop_copy(sequence)

    def publish(self, sequence: Sequence, now_s: float) -> None:
        """Put the pages that its computed tokens fill into the prefix cache."""
        if sequence.page is not None:
            self._publish(sequence, sequence.page, now_s)

    def release(self, sequence: Sequence, now_s: float) -> None:
        """Take from ``sequence`` all blocks; those it shares with the cache stay there."""
        shared = 0 if sequence.page is None else sequence.page.depth
        self.pool.give_back(sequence.blocks[shared:])
        if sequence.page is not None:
            self._cache.unlock(sequence.page, now_s)
        sequence.page = None
        sequence.blocks = array("i")
        sequence.num_computed = 0

    # Copies on the host

    def copy_out(self, sequence: Sequence) -> BlockCopy | None:
        """What to copy before ``sequence`` is released, so that it need not be computed again; None if it cannot be."""
        first = _num_held_by_others(sequence)
        count = self._blocks_of(sequence.num_computed) - first
        if not 0 < count <= self.host.num_free:
            return None
        host_blocks = array("i", self.host.take(count))
        sequence.host_copy = HostCopy(first, host_blocks, sequence.num_computed)
        return BlockCopy(sequence, sequence.blocks[first : first + count], host_blocks)

    def copy_in(self, sequence: Sequence) -> BlockCopy | None:
        """What to copy back before ``sequence`` is computed on; the host's blocks are free from now on."""
        copy = sequence.host_copy
        if copy is None:
            return None
        attached = 0 if sequence.page is None else sequence.page.depth
        host_blocks = copy.blocks[attached - copy.first :]
        self.drop_copy(sequence)
        return BlockCopy(sequence, sequence.blocks[attached : attached + len(host_blocks)], host_blocks)

    def drop_copy(self, sequence: Sequence) -> None:
        """Free what the host has for ``sequence``, if anything."""
        if sequence.host_copy is not None:
            self.host.give_back(sequence.host_copy.blocks)
            sequence.host_copy = None

    def _blocks_of(self, num_tokens: int) -> int:
        return -(-num_tokens // self._block_size)

    def _publish(self, sequence: Sequence, page: Page, now_s: float) -> None:
        size, options = self._block_size, sequence.prefix
        while (end := (page.depth + 1) * size) <= sequence.num_computed:
            place = page.depth
            tokens = tuple(sequence.tokens[end - size : end])
            # An answer is worth keeping, as a chat goes on from it, but not worth a pin.
            pin = options.pin and end <= sequence.num_prompt
            block = sequence.blocks[place]
            child, is_new = self._cache.extend(page, tokens, block, now_s, ttl_s=options.ttl_s, pin=pin)
            if not is_new:  # computed by two at once: both go on with the same block
                sequence.blocks[place] = child.block
                self.pool.give_back([block])
            self._cache.advance(page, child)
            sequence.page = page = child


def _num_held_by_others(sequence: Sequence) -> int:
    """Pages at its beginning that other sequences have locked too, so that they stay when it is preempted."""
    page = sequence.page
    while page is not None and page.depth and page.refs == 1:
        page = page.parent
    return 0 if page is None else page.depth
