"""A step's input as tensors on the device that computes it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from genkan.engine.batch import TOKENS_PER_TILE, Batch


@dataclass(frozen=True, slots=True, eq=False)
class TorchBatch:
    """A Batch for torch: ``rows`` new tokens of ``sequences``, whose KV lie in tiles of 16 tokens.

    ``ids``, ``positions`` and ``slots``, int64 ``[rows]``: the new tokens, their places in their sequences, and where
    their KV goes. ``first_row``, int32 ``[sequences + 1]``: where each sequence's rows begin. ``lengths``, int32
    ``[sequences]``: tokens that have KV after the step. ``tables``, int32 ``[sequences, widest]``: each sequence's
    tiles, padded with 0. ``output_row``, int64 ``[outputs]``: rows whose logits are wanted. ``longest`` and
    ``most_rows`` are the greatest length and the greatest number of rows of a sequence.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    slots: torch.Tensor
    first_row: torch.Tensor
    lengths: torch.Tensor
    tables: torch.Tensor
    output_row: torch.Tensor
    longest: int
    most_rows: int

    @classmethod
    def of(cls, batch: Batch, device: torch.device) -> "TorchBatch":
        """``batch`` on ``device``."""
        counts = np.diff(batch.first_row)
        lengths = batch.position + counts
        tables = padded_tables(batch, lengths)
        sequence = np.repeat(np.arange(len(counts)), counts)
        positions = np.arange(len(batch.ids)) - (batch.first_row[:-1] - batch.position)[sequence]
        tile, place = np.divmod(positions, TOKENS_PER_TILE)
        slots = tables[sequence, tile].astype(np.int64) * TOKENS_PER_TILE + place

        def moved(values: npt.NDArray[np.generic], dtype: type[np.signedinteger]) -> torch.Tensor:
            return torch.from_numpy(values.astype(dtype)).to(device)  # astype copies: numpy's may be read-only

        return cls(
            ids=moved(batch.ids, np.int64),
            positions=moved(positions, np.int64),
            slots=moved(slots, np.int64),
            first_row=moved(batch.first_row, np.int32),
            lengths=moved(lengths, np.int32),
            tables=moved(tables, np.int32),
            output_row=moved(batch.output_row, np.int64),
            longest=int(lengths.max()),
            most_rows=int(counts.max()),
        )


def padded_tables(batch: Batch, lengths: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Each sequence's tiles for ``lengths`` tokens, ``[sequences, widest]``, padded with 0."""
    num_tiles = -(-lengths // TOKENS_PER_TILE)
    place = np.arange(num_tiles.max())
    has_tile = place < num_tiles[:, None]
    at = np.where(has_tile, batch.table_at[:, None] + place, 0)
    return np.where(has_tile, batch.tables[at], 0).astype(np.int32)
