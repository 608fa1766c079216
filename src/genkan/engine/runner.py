"""What the engine asks of a loaded model."""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch

from genkan.engine.batch import BatchItem

Pass = Callable[[list[BatchItem]], torch.Tensor]
"""A Runner's ``forward``."""


class Runner(Protocol):
    """The model's forward pass; ``engine/model_runner.py`` has the real one."""

    max_model_len: int
    num_blocks: int
    block_size: int

    def forward(self, items: list[BatchItem]) -> torch.Tensor:
        """Compute the items' tokens; logits ``[sum of the items' outputs, vocab]``, float32, in their order.

        They may be on the CPU or on a GPU, and may be overwritten by the next call.
        """


@runtime_checkable
class Swaps(Protocol):
    """A Runner that can keep KV in the host's memory, in ``num_host_blocks`` blocks. In the engine's thread."""

    num_host_blocks: int

    def copy_out(self, blocks: Sequence[int], host_blocks: Sequence[int]) -> None:
        """Copy KV blocks to the host's, one for one; they may be written to as soon as this returns."""

    def copy_in(self, blocks: Sequence[int], host_blocks: Sequence[int]) -> None:
        """Copy them back. The next forward pass sees them; the host's may be written to by the next ``copy_out``."""
