"""The prefix cache by example: what is found, what is held, what is counted."""

import pytest
from prefix_caches import END, A, B, add, cache_of, depth

from genkan.engine.prefix_page import path


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
    assert [space["namespace"] for space in cache.snapshot(0.0)["namespaces"]] == [B.hex()]


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


def test_namespaces_are_those_that_hold_something() -> None:
    cache, _ = cache_of()
    assert cache.namespaces() == []
    add(cache, [1, 2], namespace=A)
    add(cache, [1, 2], namespace=B)
    assert sorted(cache.namespaces()) == [A, B]
    cache.purge(A)
    assert cache.namespaces() == [B]


def test_the_next_expiry_is_known_and_nothing_expires_before_it() -> None:
    cache, _ = cache_of()
    add(cache, [1, 2])
    assert cache.next_expiry_s() is None
    add(cache, [3, 4], ttl_s=10)
    assert cache.next_expiry_s() == 10
    assert cache.expire(9.9) == 0
    assert cache.expire(10) == 1
    assert cache.next_expiry_s() is None
