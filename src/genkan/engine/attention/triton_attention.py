"""Attention over pages by our Triton kernels: which launch a batch gets."""

import torch

from genkan.engine.attention.triton_kernels import attend, combine
from genkan.engine.batch import TOKENS_PER_TILE
from genkan.engine.torch_batch import TorchBatch

_LOG2_E = 1.4426950408889634
_KEYS_AT_ONCE = 64
_KEY_BYTES, _QUERY_BYTES = 16 << 10, 32 << 10  # at once: shared memory, often 99 KB, holds a few times as much
_DECODE_ROWS, _PROMPT_ROWS = 16, 64  # of queries times heads; 16 is the least that a tensor core takes
_MOST_SPLITS = 32
_PROGRAMS_PER_SM = 4


class TritonAttention:
    """A PagedAttention. Nothing of its launch depends on values on the device, so it can be captured as a graph."""

    def __init__(self, multiprocessors: int) -> None:
        """``multiprocessors``: how many the GPU has; programs for a few times as many are made."""
        self._wanted_programs = _PROGRAMS_PER_SM * multiprocessors

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
        """See PagedAttention. ``queries``, ``keys`` and ``values`` are contiguous."""
        rows, heads, dim = queries.shape
        kv_heads = keys.shape[1]
        padded_dim = max(_power_of_two(dim), 16)
        key_bytes = padded_dim * queries.itemsize
        wanted = (
            _DECODE_ROWS if batch.most_rows == 1 else _between(_DECODE_ROWS, _QUERY_BYTES // key_bytes, _PROMPT_ROWS)
        )
        at_once = max(wanted, _power_of_two(heads // kv_heads))
        queries_at_once = at_once // (heads // kv_heads)
        sequences = len(batch.lengths)
        blocks = rows // queries_at_once + sequences
        splits = self._splits(blocks * kv_heads if batch.most_rows > 1 else sequences * kv_heads, batch.longest, window)
        out = torch.empty_like(queries)
        several = splits > 1
        partial = torch.empty((splits, rows, heads, dim) if several else 0, dtype=torch.float32, device=out.device)
        sums = torch.empty((splits, rows, heads, 2) if several else 0, dtype=torch.float32, device=out.device)
        attend[(blocks, kv_heads, splits)](
            queries, keys, values, out, partial, sums, batch.tables, batch.first_row, batch.lengths,
            scale * _LOG2_E, sequences, batch.tables.stride(0), rows,
            WINDOW=window or 0, HEADS=heads, KV_HEADS=kv_heads, DIM=dim, PADDED_DIM=padded_dim,
            QUERIES=queries_at_once, ROWS=at_once, KEYS=_between(16, _KEY_BYTES // key_bytes, _KEYS_AT_ONCE),
            TILE=TOKENS_PER_TILE, SPLITS=splits,
            PRECISION="ieee" if queries.dtype == torch.float32 else "tf32",
        )  # fmt: skip
        if several:
            combine[(rows * heads,)](partial, sums, out, rows * heads, DIM=dim, PADDED_DIM=padded_dim, SPLITS=splits)
        return out

    def _splits(self, programs: int, longest: int, window: int | None) -> int:
        """A power of two: more where programs are few, none for so many that a split has less than a block of keys."""
        keys = longest if window is None else min(longest, window + _KEYS_AT_ONCE)
        most = min(max(self._wanted_programs // programs, 1), -(-keys // _KEYS_AT_ONCE), _MOST_SPLITS)
        return 1 << (most.bit_length() - 1)


def _between(least: int, number: int, most: int) -> int:
    return max(least, min(number, most))


def _power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length()
