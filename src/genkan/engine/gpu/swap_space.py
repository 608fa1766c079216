"""The machine's own memory as a second place for KV blocks: where preempted sequences' blocks wait."""

from collections.abc import Sequence

import torch


class SwapSpace:
    """Room for ``num_blocks`` KV blocks in pinned memory, and the copies there and back.

    Pinned memory is what a GPU copies to and from at full speed; it is taken from all other processes at once.
    """

    def __init__(self, kv: torch.Tensor, block_tokens: int, num_blocks: int) -> None:
        """``kv``: the cache on the device, ``[layers, 2, slots, kv_heads, head_dim]``, slots in blocks of
        ``block_tokens``. Raises MemoryError."""
        self._blocks = kv.view(*kv.shape[:2], -1, block_tokens, *kv.shape[3:])
        shape = (num_blocks, *self._blocks.shape[:2], *self._blocks.shape[3:])
        try:
            self._host = torch.empty(shape, dtype=kv.dtype, pin_memory=kv.is_cuda)
        except RuntimeError as error:
            raise MemoryError(f"{num_blocks} KV blocks do not fit into the machine's memory: {error}") from error
        self.num_blocks = num_blocks

    def copy_out(self, blocks: Sequence[int], host_blocks: Sequence[int]) -> None:
        """Copy ``blocks`` from the device into ``host_blocks``, one for one. They may be overwritten after this."""
        for block, host_block in zip(blocks, host_blocks, strict=True):
            self._host[host_block].copy_(self._blocks[:, :, block], non_blocking=True)
        self._wait()

    def copy_in(self, blocks: Sequence[int], host_blocks: Sequence[int]) -> None:
        """Copy ``host_blocks`` back into ``blocks`` on the device, one for one."""
        for host_block, block in zip(host_blocks, blocks, strict=True):
            self._blocks[:, :, block].copy_(self._host[host_block], non_blocking=True)
        self._wait()

    def _wait(self) -> None:
        """Until the copies are done: the host's blocks may be given to others at once."""
        if self._blocks.is_cuda:
            torch.cuda.current_stream().synchronize()
