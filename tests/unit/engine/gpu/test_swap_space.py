"""KV blocks to the machine's memory and back. The copies are torch's, so the processor's memory stands for a GPU's."""

import pytest
import torch

from genkan.engine.gpu.swap_space import SwapSpace

LAYERS, BLOCK, BLOCKS = 3, 32, 6


def cache() -> torch.Tensor:
    return torch.arange(LAYERS * 2 * BLOCKS * BLOCK * 2 * 4).view(LAYERS, 2, BLOCKS * BLOCK, 2, 4).float()


def block(kv: torch.Tensor, number: int) -> torch.Tensor:
    return kv[:, :, number * BLOCK : (number + 1) * BLOCK]


def test_blocks_come_back_as_they_were_wherever_they_lie_then() -> None:
    kv, before = cache(), cache()
    space = SwapSpace(kv, BLOCK, num_blocks=4)
    space.copy_out([5, 0], [2, 3])
    kv[:] = -1
    space.copy_in([1, 4], [2, 3])
    assert torch.equal(block(kv, 1), block(before, 5))
    assert torch.equal(block(kv, 4), block(before, 0))
    assert all((block(kv, number) == -1).all() for number in (0, 2, 3, 5))


def test_a_place_there_is_used_again() -> None:
    kv, before = cache(), cache()
    space = SwapSpace(kv, BLOCK, num_blocks=1)
    space.copy_out([2], [0])
    space.copy_out([3], [0])
    space.copy_in([0], [0])
    assert torch.equal(block(kv, 0), block(before, 3))


def test_more_than_there_is_memory_for_is_refused() -> None:
    with pytest.raises(MemoryError, match="1000000000000 KV blocks do not fit"):
        SwapSpace(cache(), BLOCK, num_blocks=10**12)
