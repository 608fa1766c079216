"""Which pages of the prefix cache go first, and when they go by themselves."""

from prefix_caches import END, A, B, add, cache_of, depth


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


def test_a_page_that_nobody_used_yet_is_as_old_as_what_it_stands_on() -> None:
    cache, pool = cache_of()
    older, newer = cache.match(A, [1, 2, END], 0.0), cache.match(B, [1, 2, END], 0.0)
    for root in (newer, older):
        cache.extend(root, (1, 2), pool.take(1)[0], 0.0)
    cache.evict(1, 0.0)
    assert (depth(cache, [1, 2], A), depth(cache, [1, 2], B)) == (0, 1)


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
