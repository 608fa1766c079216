"""Which index it is: what is configured, if Redis has it; else the one in this process, and a warning."""

import hashlib
import logging

from genkan.cache.index.base import VectorIndex
from genkan.cache.index.feed import Feed
from genkan.cache.index.memory import MemoryIndex
from genkan.cache.index.search import SearchIndex
from genkan.cache.index.vectorset import VectorSetIndex
from genkan.cache.observer import CacheObserver
from genkan.cache.sealer import Sealer
from genkan.clock import Clock
from genkan.config.cache import IndexKind
from genkan.errors import StoreError, StoreRefused
from genkan.store.address import Address
from genkan.store.resp import RespClient

_RECORDS_AN_ENTRY = 2  # in the stream, at most: observations and removals besides

_log = logging.getLogger("genkan.cache")


async def index_in(
    client: RespClient,
    address: Address,
    *,
    wanted: IndexKind,
    prefix: str,
    embedder: str,
    sealer: Sealer,
    clock: Clock,
    observer: CacheObserver,
    longest_s: float,
    max_entries: int,
    connect_s: float,
    timeout_s: float,
) -> VectorIndex:
    """An index that all workers on the Redis at ``address`` share, not started. ``client`` must be, to be asked.

    ``embedder`` names what makes the vectors: those of another are kept apart. ``longest_s`` is the longest life of an
    entry. Raises nothing; takes as long as two calls.
    """
    place = f"{prefix}:questions:{hashlib.blake2b(embedder.encode(), digest_size=6).hexdigest()}"
    if wanted == "vectorset" and await _has_vector_sets(client):
        return VectorSetIndex(client, place, sealer=sealer, clock=clock, observer=observer, longest_s=longest_s)
    if wanted == "search" and await _has_search(client):
        return SearchIndex(client, place, sealer=sealer, clock=clock, observer=observer, longest_s=longest_s)
    if wanted in ("vectorset", "search"):
        _log.warning("cache.index is %r, which Redis does not have: questions are kept in this process", wanted)
    feed = Feed(
        client,
        address,
        place,
        sealer=sealer,
        clock=clock,
        observer=observer,
        longest_s=longest_s,
        max_records=_RECORDS_AN_ENTRY * max_entries,
        connect_s=connect_s,
        timeout_s=timeout_s,
    )
    return MemoryIndex(clock, observer, max_entries=max_entries, feed=feed)


async def _has_vector_sets(client: RespClient) -> bool:
    try:
        (known,) = await client.call("COMMAND", "INFO", "VADD")
    except (StoreError, ValueError, TypeError):
        return False
    return bool(known)


async def _has_search(client: RespClient) -> bool:
    try:
        await client.call("FT._LIST")
    except StoreRefused as refused:
        return refused.code == "NOPERM"  # it is there, and what we need may be permitted
    except StoreError:
        return False
    return True
