"""The prefix cache as people see it: runs of pages, breadth first."""

import json
from typing import Any

import orjson

from genkan.engine.block_pool import BlockPool
from genkan.engine.prefix_cache import PrefixCache


def cache_with(*prefixes: list[int], block_size: int = 2, ttl_s: float | None = None) -> PrefixCache:
    pool = BlockPool(1000)
    cache = PrefixCache(pool, block_size=block_size)
    for tokens in prefixes:
        page = cache.match(b"\xab\xcd\xef\x01\x23\x45\x67", [], 0.0)
        for start in range(0, len(tokens), block_size):
            (block,) = pool.take(1)
            page, is_new = cache.extend(page, tuple(tokens[start : start + block_size]), block, 0.0, ttl_s=ttl_s)
            if not is_new:
                pool.give_back([block])
    return cache


def children_of(snapshot: dict[str, Any]) -> list[dict[str, Any]]:
    (namespace,) = snapshot["namespaces"]
    assert isinstance(namespace["children"], list)
    return namespace["children"]


def test_an_empty_cache() -> None:
    assert cache_with().snapshot(0.0) == {
        "block_size": 2,
        "pages": 0,
        "pinned_pages": 0,
        "evictable_pages": 0,
        "statistics": {
            "pages": 0,
            "pinned_pages": 0,
            "evictions": 0,
            "expirations": 0,
            "purged": 0,
            "pins_refused": 0,
            "queries": 0,
            "hits": 0,
            "prompt_tokens": 0,
            "cached_tokens": 0,
            "misses": 0,
            "hit_rate": 0.0,
            "token_hit_rate": 0.0,
        },
        "namespaces": [],
        "truncated": False,
    }


def test_a_run_without_a_branch_is_one_node() -> None:
    cache = cache_with([1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 7, 8], ttl_s=10.0)
    page = cache.match(b"\xab\xcd\xef\x01\x23\x45\x67", [1, 2, 3, 4, 5, 6, 7], 1.0)
    cache.use(page, 1.0)
    cache.lock(page)
    cache.pin_path(page, 1.0, ttl_s=20.0)
    snapshot = cache.snapshot(4.0)
    assert (snapshot["pages"], snapshot["pinned_pages"], snapshot["evictable_pages"]) == (4, 3, 1)
    assert snapshot["namespaces"] == [
        {
            "namespace": "abcdef01234567",
            "pages": 4,
            "pinned_pages": 3,
            "queries": 0,
            "hits": 0,
            "prompt_tokens": 0,
            "cached_tokens": 0,
            "children": [
                {
                    "pages": 2,
                    "first_tokens": [1, 2, 3, 4],
                    "num_tokens": 4,
                    "hits": 1,
                    "age_s": 4.0,
                    "idle_s": 3.0,
                    "pinned": 2,
                    "locked": 1,
                    "expires_in_s": 17.0,
                    "children": [
                        {
                            "pages": 1,
                            "first_tokens": [5, 6],
                            "num_tokens": 2,
                            "hits": 1,
                            "age_s": 4.0,
                            "idle_s": 3.0,
                            "pinned": 1,
                            "locked": 1,
                            "expires_in_s": 17.0,
                            "children": [],
                        },
                        {
                            "pages": 1,
                            "first_tokens": [7, 8],
                            "num_tokens": 2,
                            "hits": 0,
                            "age_s": 4.0,
                            "idle_s": 4.0,
                            "pinned": 0,
                            "locked": 0,
                            "expires_in_s": 6.0,
                            "children": [],
                        },
                    ],
                }
            ],
        }
    ]


def test_no_more_than_the_first_64_tokens_are_shown() -> None:
    tokens = list(range(72))
    for block_size in (2, 9, 24):
        (node,) = children_of(cache_with(tokens, block_size=block_size).snapshot(0.0))
        assert node["first_tokens"] == tokens[:64]
        assert node["num_tokens"] == 72


def test_a_page_that_never_expires_says_so() -> None:
    (node,) = children_of(cache_with([1, 2]).snapshot(0.0))
    assert node["expires_in_s"] is None


def test_a_run_longer_than_pythons_stack_is_one_node() -> None:
    (node,) = children_of(cache_with(list(range(1980))).snapshot(0.0))
    assert (node["pages"], node["num_tokens"]) == (990, 1980)


def test_a_tree_that_branches_at_every_page_is_cut_before_json_is_too_deep() -> None:
    trunk = [1, 1] * 100
    cache = cache_with(trunk, *([*trunk[: 2 * depth], 2, 2] for depth in range(100)))
    snapshot = cache.snapshot(0.0)
    assert snapshot["truncated"]
    levels, nodes = 0, children_of(snapshot)
    while nodes:
        levels, nodes = levels + 1, nodes[0]["children"]
    assert levels == 64
    assert orjson.loads(orjson.dumps(snapshot)) == snapshot


def test_a_snapshot_is_cut_breadth_first() -> None:
    cache = cache_with([1, 1, 2, 2], [1, 1, 3, 3], [4, 4])
    cut = cache.snapshot(0.0, max_nodes=2)
    assert cut["truncated"]
    assert [(node["first_tokens"], node["children"]) for node in children_of(cut)] == [([1, 1], []), ([4, 4], [])]
    whole = cache.snapshot(0.0, max_nodes=4)
    assert not whole["truncated"]
    assert [len(node["children"]) for node in children_of(whole)] == [2, 0]


def test_a_snapshot_is_plain_json() -> None:
    snapshot = cache_with([1, 2, 3, 4], [1, 2, 5, 6], ttl_s=3.0).snapshot(1.0)
    assert json.loads(json.dumps(snapshot, allow_nan=False)) == snapshot
