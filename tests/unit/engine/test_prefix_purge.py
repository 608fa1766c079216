"""Purged namespaces of the prefix cache, with sequences that still hold pages of them."""

from prefix_caches import END, A, B, add, cache_of, depth


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
