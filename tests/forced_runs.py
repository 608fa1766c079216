"""Forced tokens through a model's forward pass: no sampling, so that logits can be compared."""

from array import array
from collections.abc import Sequence

import numpy as np
import torch

from genkan.engine.batch import TOKENS_PER_TILE, Batch, BatchItem, Forward


def token_ids(count: int, *, vocab_size: int = 50, seed: int = 0) -> list[int]:
    drawn: list[int] = np.random.default_rng(seed).integers(0, vocab_size, count).tolist()
    return drawn


def part(ids: Sequence[int], start: int, end: int, blocks: Sequence[int]) -> BatchItem:
    """The tokens of ``ids`` from ``start`` to ``end``, with the logits after the last."""
    return BatchItem(array("i", ids[start:end]), start, array("i", blocks), 1)


def logits_at(
    model: Forward, ids: Sequence[int], ends: Sequence[int], blocks: Sequence[int], *, start: int = 0, tiles: int = 1
) -> torch.Tensor:
    """The logits after each of ``ends``, ``[len(ends), vocab]``; ``ids`` are computed in chunks that end there.

    ``tiles`` of 16 tokens make a block. The KV of what comes before ``start`` is there already.
    """
    starts = [start, *ends[:-1]]
    batches = [Batch.of([part(ids, *bounds, blocks)], tiles) for bounds in zip(starts, ends, strict=True)]
    return torch.cat([model.forward(batch).clone() for batch in batches])


def blocks_for(count: int, *, of: int, tiles: int = 1, seed: int = 0) -> list[int]:
    """Different blocks for ``count`` tokens, out of ``of`` and in no order."""
    needed = -(-count // (TOKENS_PER_TILE * tiles))
    drawn: list[int] = np.random.default_rng(seed).permutation(of)[:needed].tolist()
    return drawn
