"""What one step computes, as flat arrays: the scheduled sequences' new tokens and where their KV lies."""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch

TOKENS_PER_TILE = 16  # of KV; the kernels' unit. A KV block is one or more tiles in a row.

Ids = npt.NDArray[np.int32]


class BatchItem(NamedTuple):
    """One sequence's part of a step.

    ``ids`` are its new tokens (array of typecode ``i``), the first at ``position``; ``blocks`` its KV blocks from the
    first token on, enough for them; ``outputs`` after how many of the last of ``ids`` logits are wanted.
    """

    ids: "array[int]"
    position: int
    blocks: "array[int]"
    outputs: int


@dataclass(frozen=True, slots=True)
class Batch:
    """One step's input. All arrays are contiguous int32.

    ``ids`` ``[rows]``: every sequence's new tokens, one after the other. ``first_row`` ``[sequences + 1]``: where each
    begins. ``position`` ``[sequences]``: of the first new token. ``tables``: KV tiles of 16 tokens of all sequences;
    ``table_at`` ``[sequences]``: where each sequence's begin. ``output_row`` ``[outputs]``: rows whose logits are
    wanted, rising; of a sequence there may be several, or none.
    """

    ids: Ids
    first_row: Ids
    position: Ids
    tables: Ids
    table_at: Ids
    output_row: Ids

    @classmethod
    def of(cls, items: Iterable[BatchItem], tiles_per_block: int = 1) -> "Batch":
        """The batch of ``items``, in their order. Cost: 20 µs and 1 µs a sequence, beside copying ids and blocks."""
        ids, blocks = bytearray(), bytearray()
        first_row, position, table_at = [0], [], []
        output_row: list[int] = []
        rows = num_blocks = 0
        for item in items:
            rows += len(item.ids)
            ids += item.ids
            blocks += item.blocks
            first_row.append(rows)
            position.append(item.position)
            table_at.append(num_blocks * tiles_per_block)
            num_blocks += len(item.blocks)
            output_row.extend(range(rows - item.outputs, rows))
        return cls(
            ids=np.frombuffer(ids, dtype=np.int32),
            first_row=_int32(first_row),
            position=_int32(position),
            tables=_tiles(np.frombuffer(blocks, dtype=np.int32), tiles_per_block),
            table_at=_int32(table_at),
            output_row=_int32(output_row),
        )


class Forward(Protocol):
    """A loaded model's forward pass over its own paged KV cache."""

    def forward(self, batch: Batch) -> torch.Tensor:
        """Compute the batch's tokens and write their KV; logits ``[outputs, vocab]``, float32.

        The tensor may be overwritten by the next call.
        """


def _tiles(blocks: Ids, tiles_per_block: int) -> Ids:
    if tiles_per_block == 1:
        return blocks
    return np.add.outer(blocks * tiles_per_block, np.arange(tiles_per_block)).astype(np.int32).ravel()


def _int32(values: list[int]) -> Ids:
    return np.array(values, dtype=np.int32)
