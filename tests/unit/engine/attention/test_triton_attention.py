"""The Triton kernels against plain softmax attention in float64, by Triton's interpreter: no GPU is needed."""

from array import array

import numpy as np
import pytest

pytest.importorskip("triton", reason="there is no Triton for this platform")

import torch

from genkan.engine.attention.paged import PagedAttention
from genkan.engine.attention.triton_attention import TritonAttention
from genkan.engine.batch import TOKENS_PER_TILE, Batch, BatchItem
from genkan.engine.torch_batch import TorchBatch

FEW, MANY = 1, 200  # multiprocessors: one program for all keys, and the keys in as many splits as there may be


class Case:
    """A batch of sequences whose KV lie in tiles anywhere, among garbage."""

    def __init__(self, counts: list[int], positions: list[int], heads: int, kv_heads: int, dim: int) -> None:
        """``counts`` new tokens each, after ``positions``."""
        random = np.random.default_rng(len(counts) + dim)
        needed = [-(-(count + position) // TOKENS_PER_TILE) for count, position in zip(counts, positions, strict=True)]
        free = random.permutation(sum(needed) + 5).tolist()
        items = []
        for count, position, tiles in zip(counts, positions, needed, strict=True):
            items.append(BatchItem(array("i", [1] * count), position, array("i", free[:tiles]), 1))
            free = free[tiles:]
        self.batch = TorchBatch.of(Batch.of(items), torch.device("cpu"))
        self.items = items
        torch.manual_seed(dim)
        slots = (sum(needed) + 5) * TOKENS_PER_TILE
        self.keys, self.values = torch.randn(2, slots, kv_heads, dim)
        self.queries = torch.randn(sum(counts), heads, dim)
        self.scale = dim**-0.5
        written = torch.zeros(slots, dtype=torch.bool)
        for index in range(len(items)):
            written[self.slots(index)] = True
        self.keys[~written] = self.values[~written] = torch.nan  # nobody may read what nobody wrote

    def slots(self, index: int) -> torch.Tensor:
        item = self.items[index]
        position = torch.arange(item.position + len(item.ids))
        return torch.tensor(item.blocks)[position // TOKENS_PER_TILE] * TOKENS_PER_TILE + position % TOKENS_PER_TILE

    def expected(self, window: int | None) -> torch.Tensor:
        """Softmax attention by the book, row by row."""
        out, row = torch.empty_like(self.queries, dtype=torch.float64), 0
        group = self.queries.shape[1] // self.keys.shape[1]
        for index, item in enumerate(self.items):
            slots = self.slots(index)
            keys = self.keys[slots].double().repeat_interleave(group, dim=1)
            values = self.values[slots].double().repeat_interleave(group, dim=1)
            for own in range(item.position, item.position + len(item.ids)):
                seen = slice(0 if window is None else max(0, own + 1 - window), own + 1)
                scores = torch.einsum("hd,khd->hk", self.queries[row].double(), keys[seen]) * self.scale
                out[row] = torch.einsum("hk,khd->hd", scores.softmax(-1), values[seen])
                row += 1
        return out

    def attended(self, attention: PagedAttention, window: int | None) -> torch.Tensor:
        return attention(self.queries, self.keys, self.values, self.batch, scale=self.scale, window=window)


@pytest.mark.parametrize("multiprocessors", [FEW, MANY])
@pytest.mark.parametrize("window", [None, 1, 40])
@pytest.mark.parametrize(
    ("counts", "positions", "heads", "kv_heads", "dim"),
    [
        ([1], [0], 4, 2, 32),  # the first token of all
        ([1, 1, 1], [0, 15, 200], 9, 3, 64),  # decodes; a group that is no power of two
        ([1, 1], [16, 131], 4, 1, 256),  # as Gemma 3
        ([37], [0], 2, 2, 16),  # a prompt
        ([1, 40, 5, 1], [90, 0, 70, 3], 4, 2, 48),  # chunks among decodes; a head size that is none either
    ],
)
def test_it_is_softmax_attention(
    counts: list[int], positions: list[int], heads: int, kv_heads: int, dim: int, window: int | None,
    multiprocessors: int,
) -> None:  # fmt: skip
    case = Case(counts, positions, heads, kv_heads, dim)
    got = case.attended(TritonAttention(multiprocessors), window)
    assert torch.allclose(got.double(), case.expected(window), atol=2e-6, rtol=1e-5)


def test_splits_are_used_where_keys_are_many_and_programs_few() -> None:
    several, one = TritonAttention(MANY), TritonAttention(FEW)
    assert several._splits(4, 2048, None) == 32
    assert several._splits(4, 100, None) == 2  # a split has a block of keys at least
    assert several._splits(4, 2048, 40) == 2
    assert several._splits(500, 2048, None) == 1
    assert one._splits(4, 2048, None) == 1


def test_half_precision_is_near() -> None:
    case = Case([1, 9, 1], [60, 20, 300], 4, 2, 64)  # in float16: the interpreter's products know no bfloat16
    case.queries, case.keys, case.values = (each.half() for each in (case.queries, case.keys, case.values))
    got = case.attended(TritonAttention(MANY), None)
    assert got.dtype == torch.float16
    assert (got.double() - case.expected(None)).abs().max() < 2e-3
