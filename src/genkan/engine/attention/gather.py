"""Attention by torch alone: a sequence's KV is gathered out of its tiles, and torch's scaled dot product does the rest.

It runs anywhere, and reads the KV three times where a kernel of its own would read it once. Steps of one token a
sequence are one product of all, and can be captured as a CUDA graph, as nothing in them depends on values.
"""

import torch
from torch.nn import functional

from genkan.engine.batch import TOKENS_PER_TILE
from genkan.engine.torch_batch import TorchBatch


class GatherAttention:
    """A PagedAttention."""

    def __call__(
        self,
        queries: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        batch: TorchBatch,
        *,
        scale: float,
        window: int | None,
    ) -> torch.Tensor:
        if batch.most_rows == 1:
            return _one_token_each(queries, keys, values, batch, scale, window)
        out = torch.empty_like(queries)
        first_rows, lengths = batch.first_row.tolist(), batch.lengths.tolist()
        for index, length in enumerate(lengths):
            rows = slice(first_rows[index], first_rows[index + 1])
            position = length - (rows.stop - rows.start)
            first = 0 if window is None else max(0, position + 1 - window)
            seen = torch.arange(first, length, device=queries.device)
            slots = _slots(batch.tables[index], seen)
            own = torch.arange(position, length, device=queries.device)
            mask = seen <= own[:, None]
            if window is not None:
                mask &= seen > own[:, None] - window
            out[rows] = _attended(queries[None, rows], keys[None, slots], values[None, slots], mask[None], scale)[0]
        return out


def _one_token_each(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    batch: TorchBatch,
    scale: float,
    window: int | None,
) -> torch.Tensor:
    lengths = batch.lengths[:, None]
    widest = batch.longest if window is None else min(batch.longest, window)
    seen = torch.arange(widest, device=queries.device, dtype=torch.int32) + (lengths - widest).clamp(min=0)
    mask = seen < lengths
    # What is masked is the sequence's own too: zero times another's number is nothing only if it is a number.
    slots = _slots(batch.tables, torch.minimum(seen, lengths - 1).clamp(min=0).long())
    return _attended(queries[:, None], keys[slots], values[slots], mask[:, None], scale)[:, 0]


def _slots(tables: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Where the KV of ``positions`` lie, given the tiles of their sequences."""
    tiles = tables.gather(-1, positions // TOKENS_PER_TILE)
    return tiles.long() * TOKENS_PER_TILE + positions % TOKENS_PER_TILE


def _attended(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, scale: float
) -> torch.Tensor:
    """``[sequences, rows, heads, dim]`` over KV ``[sequences, seen, kv_heads, dim]``; mask ``[sequences, rows, seen]``.

    The heads that share a KV head are as many rows of it, so that keys and values need not be repeated.
    """
    sequences, rows, heads, dim = queries.shape
    kv_heads = keys.shape[2]
    group = heads // kv_heads
    grouped = queries.view(sequences, rows, kv_heads, group, dim).permute(0, 2, 3, 1, 4).flatten(2, 3)
    mask = mask.repeat(1, group, 1)[:, None]
    out = functional.scaled_dot_product_attention(
        grouped, keys.transpose(1, 2), values.transpose(1, 2), attn_mask=mask, scale=scale
    )
    return out.view(sequences, kv_heads, group, rows, dim).permute(0, 3, 1, 2, 4).reshape(sequences, rows, heads, dim)
