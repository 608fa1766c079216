"""The prefix cache by example: two tokens a page, so that a prompt is easy to read as pages."""

import pytest

from genkan.engine.block_pool import BlockPool
from genkan.engine.prefix_cache import PrefixCache
from genkan.engine.prefix_page import Page, path

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


# match and peek


def test_the_deepest_common_page_is_matched() -> None:
    cache, _ = cache_of()
    first = add(cache, [1, 2, 3, 4, 5, 6])
    add(cache, [1, 2, 3, 9])
    assert cache.match(A, [1, 2, 3, 4, 5, 6, 7], 0.0) is first
    assert cache.match(A, [1, 2, 3, 4, 8, 8, 7], 0.0) is first.parent
    assert cache.match(A, [2, 1, 3, 4], 0.0).depth == 0
    assert cache.num_pages == 4


@pytest.mark.parametrize(("length", "pages"), [(0, 0), (1, 0), (2, 0), (3, 1), (4, 1), (5, 2), (6, 2), (7, 3), (8, 3)])
def test_the_last_token_is_never_matched(length: int, pages: int) -> None:
    cache, _ = cache_of()
    tokens = [1, 2, 3, 4, 5, 6, 7, 8]
    add(cache, tokens)
    assert cache.match(A, tokens[:length], 0.0).depth == pages
    assert cache.peek(A, tokens[:length]) == pages


def test_the_path_of_a_page_has_its_blocks_in_order() -> None:
    cache, _ = cache_of()
    page = add(cache, [1, 2, 3, 4, 5, 6])
    assert [(step.depth, step.block, step.tokens) for step in path(page)] == [
        (3, 2, (5, 6)),
        (2, 1, (3, 4)),
        (1, 0, (1, 2)),
        (0, -1, ()),
    ]


def test_a_namespace_finds_only_its_own_pages() -> None:
    cache, _ = cache_of()
    add(cache, [1, 2, 3, 4], namespace=A)
    assert (depth(cache, [1, 2, 3, 4], A), depth(cache, [1, 2, 3, 4], B)) == (2, 0)
    mine = add(cache, [1, 2], namespace=B)
    assert cache.match(A, [1, 2, END], 0.0) is not mine
    assert cache.num_pages == 3


def test_peek_leaves_no_trace() -> None:
    cache, _ = cache_of()
    assert depth(cache, [1, 2]) == 0
    assert cache.snapshot(0.0)["namespaces"] == []


def test_a_root_lasts_as_long_as_it_has_pages_or_locks() -> None:
    cache, _ = cache_of()

    def namespaces() -> int:
        return len(cache.snapshot(0.0)["namespaces"])

    root = cache.match(A, [1, 2, 3], 0.0)
    cache.lock(root)
    cache.expire(0.0)
    assert namespaces() == 1
    cache.unlock(root, 0.0)
    assert namespaces() == 0
    add(cache, [1, 2])
    assert namespaces() == 1
    cache.evict(1, 0.0)
    assert namespaces() == 0


def test_a_root_that_was_made_for_nothing_goes_with_the_next_expire() -> None:
    cache, _ = cache_of()
    cache.match(A, [1, 2, 3], 0.0)
    add(cache, [1, 2], namespace=B)
    cache.expire(0.0)
    assert [space["namespace"] for space in cache.snapshot(0.0)["namespaces"]] == [B.hex()[:12]]


# extend


def test_equal_tokens_are_cached_once_and_the_caller_keeps_its_block() -> None:
    cache, pool = cache_of()
    root = cache.match(A, [1, 2, 3], 0.0)
    mine, other = pool.take(2)
    first, is_new = cache.extend(root, (1, 2), mine, 0.0)
    assert is_new
    second, is_new = cache.extend(root, (1, 2), other, 0.0)
    assert not is_new
    assert second is first
    assert first.block == mine
    pool.give_back([other])  # it is the caller's still
    cache.check()


def test_a_page_must_be_full() -> None:
    cache, pool = cache_of()
    root = cache.match(A, [1], 0.0)
    with pytest.raises(AssertionError):
        cache.extend(root, (1,), pool.take(1)[0], 0.0)


def test_a_freed_page_is_not_used_again() -> None:
    cache, pool = cache_of()
    page = add(cache, [1, 2])
    cache.evict(1, 0.0)
    (block,) = pool.take(1)
    with pytest.raises(AssertionError, match="freed"):
        cache.lock(page)
    with pytest.raises(AssertionError, match="freed"):
        cache.use(page, 0.0)
    with pytest.raises(AssertionError, match="freed"):
        cache.extend(page, (3, 4), block, 0.0)
    with pytest.raises(AssertionError, match="freed"):
        cache.extend(page.root, (3, 4), block, 0.0)  # the root went with its last page


# lock, advance, unlock


def test_a_lock_keeps_the_whole_path_and_nothing_else() -> None:
    cache, pool = cache_of()
    add(cache, [1, 2, 3, 4, 5, 6])
    add(cache, [1, 2, 7, 8])
    held = cache.match(A, [1, 2, 3, 4, END], 0.0)
    cache.lock(held)
    assert cache.evictable == 2
    assert cache.evict(10, 0.0) == 2
    assert depth(cache, [1, 2, 3, 4]) == 2
    assert pool.num_free == 30
    cache.unlock(held, 0.0)
    assert cache.evictable == 2
    assert cache.evict(10, 0.0) == 2
    assert pool.num_free == 32


def test_locks_add_up() -> None:
    cache, _ = cache_of()
    page = add(cache, [1, 2])
    cache.lock(page)
    cache.lock(page)
    cache.unlock(page, 0.0)
    assert cache.evict(1, 0.0) == 0
    cache.unlock(page, 0.0)
    assert cache.evict(1, 0.0) == 1


def test_an_unlock_without_a_lock_is_a_bug() -> None:
    cache, _ = cache_of()
    page = add(cache, [1, 2])
    with pytest.raises(AssertionError, match="not locked"):
        cache.unlock(page, 0.0)


def test_advance_moves_a_lock_to_a_child() -> None:
    cache, _ = cache_of()
    child = add(cache, [1, 2, 3, 4])
    page = child.parent
    assert page is not None
    cache.lock(page)
    assert cache.evictable == 1
    cache.advance(page, child)
    assert cache.evictable == 0
    assert (page.refs, child.refs) == (1, 1)
    cache.check()
    with pytest.raises(AssertionError, match="one page at a time"):
        cache.advance(page.root, child)
    cache.unlock(child, 0.0)
    assert (page.refs, child.refs, cache.evictable) == (0, 0, 2)
    with pytest.raises(AssertionError, match="not locked"):
        cache.advance(page, child)


# use and evict


def test_the_least_recently_used_goes_first_from_its_end() -> None:
    cache, _ = cache_of()
    add(cache, [1, 1, 1, 2])
    add(cache, [2, 1, 2, 2])
    cache.use(cache.match(A, [1, 1, 1, 2, END], 1.0), 1.0)
    assert cache.evict(1, 1.0) == 1
    assert (depth(cache, [1, 1, 1, 2]), depth(cache, [2, 1, 2, 2])) == (2, 1)
    assert cache.evict(2, 1.0) == 2
    assert (depth(cache, [1, 1, 1, 2]), depth(cache, [2, 1, 2, 2])) == (1, 0)


def test_use_keeps_the_page_and_what_is_above_it_but_not_what_is_below() -> None:
    cache, _ = cache_of()
    add(cache, [1, 2, 3, 4, 5, 6])
    add(cache, [7, 7])
    cache.use(cache.match(A, [1, 2, 3, 4, END], 1.0), 1.0)
    cache.evict(2, 1.0)
    assert (depth(cache, [1, 2, 3, 4, 5, 6]), depth(cache, [7, 7])) == (2, 0)


def test_what_was_held_last_is_evicted_last() -> None:
    cache, _ = cache_of()
    held = add(cache, [1, 1])
    cache.lock(held)
    add(cache, [2, 2])
    cache.use(cache.match(A, [2, 2, END], 1.0), 1.0)
    cache.unlock(held, 2.0)
    cache.evict(1, 2.0)
    assert (depth(cache, [1, 1]), depth(cache, [2, 2])) == (1, 0)


def test_use_counts_a_hit_on_the_path() -> None:
    cache, _ = cache_of()
    leaf = add(cache, [1, 2, 3, 4])
    assert leaf.parent is not None
    cache.use(leaf, 1.0)
    cache.use(leaf.parent, 2.0)
    assert (leaf.hits, leaf.parent.hits) == (1, 2)
    assert (leaf.used_s, leaf.parent.used_s) == (1.0, 2.0)


def test_eviction_stops_at_the_count_and_at_the_last_page() -> None:
    cache, pool = cache_of()
    add(cache, [1, 2, 3, 4, 5, 6])
    assert cache.evict(0, 0.0) == 0
    assert cache.evict(2, 0.0) == 2
    assert pool.num_free == 31
    assert cache.evict(2, 0.0) == 1
    assert cache.evict(2, 0.0) == 0
    assert cache.statistics().evictions == 3


# TTL


def test_a_page_expires_when_its_ttl_has_passed() -> None:
    cache, pool = cache_of()
    add(cache, [1, 2], ttl_s=10.0)
    add(cache, [3, 4])
    assert cache.expire(9.9) == 0
    assert cache.expire(10.0) == 1
    assert (depth(cache, [1, 2]), depth(cache, [3, 4])) == (0, 1)
    assert pool.num_free == 31
    statistics = cache.statistics()
    assert (statistics.expirations, statistics.evictions) == (1, 0)


def test_the_caches_ttl_is_for_pages_without_their_own() -> None:
    cache, _ = cache_of(ttl_s=5.0)
    add(cache, [1, 2])
    add(cache, [3, 4], ttl_s=10.0)
    assert cache.expire(5.0) == 1
    assert depth(cache, [3, 4]) == 1
    assert cache.expire(10.0) == 1


def test_use_restarts_the_ttl() -> None:
    cache, _ = cache_of()
    page = add(cache, [1, 2], ttl_s=10.0)
    cache.use(page, 6.0)
    assert cache.expire(10.0) == 0
    assert cache.expire(15.9) == 0
    assert cache.expire(16.0) == 1


def test_an_expired_page_takes_what_is_below_it() -> None:
    cache, _ = cache_of()
    add(cache, [1, 2], ttl_s=10.0)
    add(cache, [1, 2, 3, 4, 5, 6])
    assert cache.expire(10.0) == 3
    assert cache.num_pages == 0


def test_a_locked_page_does_not_expire_and_its_ttl_restarts_when_it_is_let_go() -> None:
    cache, _ = cache_of()
    page = add(cache, [1, 2], ttl_s=10.0)
    below = add(cache, [1, 2, 3, 4])
    cache.lock(below)
    assert cache.expire(50.0) == 0
    assert cache.match(A, [1, 2, END], 50.0) is page
    cache.unlock(below, 60.0)
    assert cache.expire(69.0) == 0
    assert cache.expire(70.0) == 2


def test_a_later_request_lengthens_a_ttl_and_never_shortens_it() -> None:
    cache, pool = cache_of()
    page = add(cache, [1, 2], ttl_s=10.0)
    root = page.root
    (block,) = pool.take(1)
    cache.extend(root, (1, 2), block, 2.0, ttl_s=5.0)
    assert page.expires_s == 12.0
    cache.extend(root, (1, 2), block, 2.0, ttl_s=20.0)
    assert page.expires_s == 22.0
    assert cache.expire(12.0) == 0
    cache.extend(root, (1, 2), block, 13.0)
    assert cache.expire(1e9) == 0


def test_what_has_expired_is_evicted_first() -> None:
    cache, _ = cache_of()
    add(cache, [1, 1])
    add(cache, [2, 2, 2, 3], ttl_s=10.0)
    assert cache.evict(1, 10.0) == 1
    assert (depth(cache, [1, 1]), depth(cache, [2, 2, 2, 3])) == (1, 1)
    assert cache.evict(1, 10.0) == 1
    assert (depth(cache, [1, 1]), depth(cache, [2, 2, 2, 3])) == (1, 0)
    cache.check()


def test_an_expired_page_that_eviction_left_can_be_used_again() -> None:
    cache, _ = cache_of()
    add(cache, [1, 2, 3, 4], ttl_s=10.0)
    cache.evict(1, 10.0)
    cache.use(cache.match(A, [1, 2, END], 10.0), 10.0)
    assert cache.expire(11.0) == 0
    assert cache.evict(1, 11.0) == 1
    assert cache.statistics().evictions == 1


# pins


def test_pinned_pages_are_evicted_only_when_there_is_nothing_else() -> None:
    cache, _ = cache_of(pin_share=0.5)
    add(cache, [1, 1], pin=True)
    add(cache, [2, 2, 2, 3])
    assert cache.num_pinned == 1
    assert cache.evictable == 3
    assert cache.evict(2, 0.0) == 2
    assert depth(cache, [1, 1]) == 1
    assert cache.evict(1, 0.0) == 1
    assert cache.num_pinned == 0


def test_pins_end_at_the_budget() -> None:
    cache, _ = cache_of(10, pin_share=0.29)
    add(cache, [1, 2, 3, 4, 5, 6, 7, 8], pin=True)
    assert (cache.num_pages, cache.num_pinned) == (4, 2)
    assert cache.statistics().pins_refused == 2
    assert cache.evict(2, 0.0) == 2
    assert cache.num_pinned == 2


def test_a_namespace_has_a_budget_of_its_own() -> None:
    cache, _ = cache_of(10, pin_share=0.3, pin_share_per_namespace=0.2)
    add(cache, [1, 2, 3, 4, 5, 6], namespace=A, pin=True)
    add(cache, [1, 2, 3, 4, 5, 6], namespace=B, pin=True)
    assert [space["pinned_pages"] for space in cache.snapshot(0.0)["namespaces"]] == [2, 1]
    assert cache.statistics().pins_refused == 3


def test_a_freed_pin_makes_room_for_another() -> None:
    cache, _ = cache_of(10, pin_share=0.1)
    add(cache, [1, 2], pin=True, ttl_s=5.0)
    add(cache, [3, 4], pin=True)
    assert cache.statistics().pins_refused == 1
    assert cache.expire(5.0) == 1
    assert cache.num_pinned == 0
    add(cache, [5, 6], pin=True)
    assert cache.num_pinned == 1


def test_a_pin_pins_what_stands_above_it() -> None:
    cache, _ = cache_of(10, pin_share=0.5)
    add(cache, [1, 2, 3, 4])
    add(cache, [1, 2, 3, 4, 5, 6], pin=True)
    assert cache.num_pinned == 3
    cache.check()


def test_a_page_is_pinned_by_a_later_request() -> None:
    cache, pool = cache_of(10, pin_share=0.5)
    page = add(cache, [1, 2])
    assert not page.pinned
    cache.extend(page.root, (1, 2), pool.take(1)[0], 0.0, pin=True)
    assert page.pinned


def test_pin_path_pins_from_the_root_and_tells_how_far_it_came() -> None:
    cache, _ = cache_of(10, pin_share=0.2)
    page = add(cache, [1, 2, 3, 4, 5, 6])
    assert cache.pin_path(page, 0.0) == 2
    assert [step.pinned for step in path(page)] == [False, True, True, False]
    assert cache.statistics().pins_refused == 1
    assert page.parent is not None
    assert cache.pin_path(page.parent, 0.0) == 2
    assert cache.num_pinned == 2


def test_a_pin_ends_with_its_ttl_even_on_a_page_that_had_none() -> None:
    cache, pool = cache_of(10, pin_share=0.5)
    page = add(cache, [1, 2])
    cache.pin_path(page, 0.0, ttl_s=10.0)
    cache.extend(page.root, (1, 2), pool.take(1)[0], 1.0)  # asks for no end, but not for a pin
    assert cache.expire(10.9) == 0
    assert cache.expire(11.0) == 1
    assert cache.num_pinned == 0


def test_a_later_pin_lengthens_the_ttl_of_an_earlier_one() -> None:
    cache, _ = cache_of(10, pin_share=0.5)
    page = add(cache, [1, 2], pin=True, ttl_s=10.0)
    cache.pin_path(page, 0.0, ttl_s=5.0)
    assert page.expires_s == 10.0
    cache.pin_path(page, 0.0, ttl_s=20.0)
    assert page.expires_s == 20.0


# purge


def test_purge_frees_a_namespace_and_no_other() -> None:
    cache, pool = cache_of()
    add(cache, [1, 2, 3, 4], namespace=A)
    add(cache, [1, 2], namespace=B)
    assert cache.purge(A) == 2
    assert (depth(cache, [1, 2, 3, 4], A), depth(cache, [1, 2], B)) == (0, 1)
    assert pool.num_free == 31
    assert cache.statistics().purged == 2
    assert cache.purge(A) == 0
    assert cache.purge(b"never seen") == 0


def test_purged_pages_that_are_held_are_not_found_and_go_with_their_last_lock() -> None:
    cache, pool = cache_of()
    held = add(cache, [1, 2, 3, 4], pin=True)
    add(cache, [1, 2, 5, 6])
    cache.lock(held)
    cache.lock(held)
    assert cache.purge(A) == 3
    assert (cache.num_pages, cache.num_detached, cache.evictable, cache.num_pinned) == (0, 2, 0, 0)
    assert pool.num_free == 30
    assert depth(cache, [1, 2, 3, 4]) == 0
    assert cache.evict(10, 0.0) == 0
    cache.unlock(held, 0.0)
    assert cache.num_detached == 2
    cache.unlock(held, 0.0)
    assert cache.num_detached == 0
    assert pool.num_free == 32
    cache.check()


def test_what_a_purged_sequence_still_adds_is_not_found_either() -> None:
    cache, pool = cache_of()
    page = add(cache, [1, 2])
    cache.lock(page)
    cache.purge(A)
    child, is_new = cache.extend(page, (3, 4), pool.take(1)[0], 0.0, ttl_s=1.0, pin=True)
    assert is_new
    assert cache.pin_path(child, 0.0) == 0
    cache.advance(page, child)
    cache.check()
    assert (depth(cache, [1, 2, 3, 4]), cache.num_detached, cache.num_pinned) == (0, 2, 0)
    assert cache.expire(2.0) == 0
    cache.unlock(child, 2.0)
    assert pool.num_free == 32


def test_a_sequence_that_holds_only_the_root_is_purged_too() -> None:
    cache, pool = cache_of()
    root = cache.match(A, [1, 2, 3], 0.0)
    cache.lock(root)
    assert cache.purge(A) == 0
    child, _ = cache.extend(root, (1, 2), pool.take(1)[0], 0.0)
    cache.advance(root, child)
    assert depth(cache, [1, 2]) == 0
    cache.unlock(child, 0.0)
    assert pool.num_free == 32


def test_a_purged_namespace_begins_anew() -> None:
    cache, _ = cache_of()
    old = add(cache, [1, 2])
    cache.lock(old)
    cache.purge(A)
    new = add(cache, [1, 2])
    assert new is not old
    assert cache.match(A, [1, 2, END], 0.0) is new
    cache.unlock(old, 0.0)
    assert cache.match(A, [1, 2, END], 0.0) is new
    cache.check()


# counts


def test_queries_are_counted_over_all_and_by_namespace() -> None:
    cache, _ = cache_of()
    add(cache, [1, 2], namespace=A)
    cache.record_query(A, prompt_tokens=10, cached_tokens=8)
    cache.record_query(A, prompt_tokens=6, cached_tokens=0)
    cache.record_query(B, prompt_tokens=4, cached_tokens=0)
    statistics = cache.statistics()
    assert (statistics.queries, statistics.hits) == (3, 1)
    assert (statistics.prompt_tokens, statistics.cached_tokens) == (20, 8)
    assert statistics.hit_rate == pytest.approx(1 / 3)
    assert statistics.token_hit_rate == pytest.approx(0.4)
    (space,) = cache.snapshot(0.0)["namespaces"]
    assert (space["queries"], space["hits"], space["prompt_tokens"], space["cached_tokens"]) == (2, 1, 16, 8)


def test_rates_before_the_first_query_are_zero() -> None:
    cache, _ = cache_of()
    assert (cache.statistics().hit_rate, cache.statistics().token_hit_rate) == (0.0, 0.0)


@pytest.mark.parametrize("damage", ["refs", "evictable", "pinned", "last_used", "free"])
def test_check_finds_damage(damage: str) -> None:
    cache, pool = cache_of()
    leaf = add(cache, [1, 2, 3, 4])
    cache.check()
    if damage == "refs":
        leaf.refs += 1
    elif damage == "evictable":
        cache._tree.evictable += 1
    elif damage == "pinned":
        leaf.pinned = True
    elif damage == "last_used":
        leaf.last_used += 1
    elif damage == "free":
        pool.give_back([leaf.block])
    with pytest.raises(AssertionError):
        cache.check()
