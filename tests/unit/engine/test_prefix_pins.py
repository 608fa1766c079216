"""Pinned pages of the prefix cache and their budget."""

from prefix_caches import A, B, add, cache_of, depth

from genkan.engine.prefix_page import path


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
