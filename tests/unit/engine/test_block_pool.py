"""Free KV blocks: every number once, the last one back first out."""

import pytest

from genkan.engine.block_pool import BlockPool


def test_every_block_is_given_out_once() -> None:
    pool = BlockPool(5)
    assert pool.num_free == pool.num_blocks == 5
    assert sorted(pool.take(2) + pool.take(3)) == [0, 1, 2, 3, 4]
    assert pool.num_free == 0


def test_a_block_that_came_back_is_given_out_again_first() -> None:
    pool = BlockPool(4)
    pool.take(3)
    pool.give_back([0, 2])
    assert pool.take(3) == [2, 0, 3]


def test_taking_nothing_takes_nothing() -> None:
    pool = BlockPool(2)
    assert pool.take(0) == []
    assert pool.num_free == 2


def test_more_than_is_free_cannot_be_taken() -> None:
    pool = BlockPool(2)
    with pytest.raises(AssertionError, match="3 blocks wanted of 2 free"):
        pool.take(3)
    assert pool.num_free == 2


@pytest.mark.parametrize("block", [0, 2, -1, 3])
def test_a_block_that_is_not_taken_cannot_come_back(block: int) -> None:
    pool = BlockPool(3)
    pool.take(2)
    pool.give_back([0])
    with pytest.raises(ValueError, match=f"block {block} of 3 is not taken"):
        pool.give_back([block])
    assert pool.num_free == 2


def test_is_free_follows_the_block() -> None:
    pool = BlockPool(1)
    assert pool.is_free(0)
    pool.take(1)
    assert not pool.is_free(0)
    pool.give_back([0])
    assert pool.is_free(0)
