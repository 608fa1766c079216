"""Attention over pages, against a plain one in float64."""

from array import array

import pytest
import torch

from genkan.engine.attention.gather import GatherAttention
from genkan.engine.batch import TOKENS_PER_TILE, Batch, BatchItem
from genkan.engine.torch_batch import TorchBatch

TILES, DIM, SCALE = 12, 8, 0.3
SEQUENCES = {  # each one's length with the new tokens, how many are new, and its tiles
    "decodes": [(1, 1, [3]), (17, 1, [5, 2]), (40, 1, [7, 1, 9])],
    "a prompt": [(37, 37, [4, 0, 8])],
    "chunks and decodes": [(37, 20, [4, 0, 8]), (16, 1, [6]), (19, 3, [2, 10]), (5, 5, [11])],
    "shared pages": [(20, 1, [4, 0]), (23, 1, [4, 8])],
}
WINDOWS = [None, 1, 5, 16, 64]


def caches(kv_heads: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    shape = (2, TILES * TOKENS_PER_TILE, kv_heads, DIM)
    keys, values = torch.randn(shape, generator=random)
    return keys, values


def batch_of(sequences: list[tuple[int, int, list[int]]]) -> TorchBatch:
    items = [BatchItem(array("i", [0] * new), length - new, array("i", tiles), 1) for length, new, tiles in sequences]
    return TorchBatch.of(Batch.of(items), torch.device("cpu"))


def plainly(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    sequences: list[tuple[int, int, list[int]]],
    window: int | None,
) -> torch.Tensor:
    """Row by row and head by head, as the definition says."""
    out, row = [], 0
    group = queries.shape[1] // keys.shape[1]
    for length, new, tiles in sequences:
        slots = [tile * TOKENS_PER_TILE + place for tile in tiles for place in range(TOKENS_PER_TILE)]
        for position in range(length - new, length):
            seen = slots[: position + 1] if window is None else slots[max(0, position + 1 - window) : position + 1]
            heads = []
            for head, query in enumerate(queries[row].double()):
                weights = (keys[seen, head // group].double() @ query * SCALE).softmax(0)
                heads.append(weights @ values[seen, head // group].double())
            out.append(torch.stack(heads))
            row += 1
    return torch.stack(out).float()


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("case", SEQUENCES)
@pytest.mark.parametrize(("heads", "kv_heads"), [(2, 2), (6, 2), (4, 1)])
def test_every_row_sees_its_sequence_up_to_itself(case: str, heads: int, kv_heads: int, window: int | None) -> None:
    sequences, batch = SEQUENCES[case], batch_of(SEQUENCES[case])
    keys, values = caches(kv_heads)
    queries = torch.randn(len(batch.ids), heads, DIM, generator=torch.Generator().manual_seed(1))
    ours = GatherAttention()(queries, keys, values, batch, scale=SCALE, window=window)
    torch.testing.assert_close(ours, plainly(queries, keys, values, sequences, window), rtol=0, atol=1e-5)


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("case", SEQUENCES)
def test_what_lies_in_slots_that_no_row_sees_changes_nothing(case: str, window: int | None) -> None:
    sequences, batch = SEQUENCES[case], batch_of(SEQUENCES[case])
    keys, values = caches(2)
    queries = torch.randn(len(batch.ids), 4, DIM)
    before = GatherAttention()(queries, keys, values, batch, scale=SCALE, window=window)
    used = {
        tiles[position // TOKENS_PER_TILE] * TOKENS_PER_TILE + position % TOKENS_PER_TILE
        for length, _, tiles in sequences
        for position in range(length)
    }
    unused = [slot for slot in range(len(keys)) if slot not in used]
    keys[unused], values[unused] = float("nan"), float("nan")
    assert torch.equal(GatherAttention()(queries, keys, values, batch, scale=SCALE, window=window), before)


def test_a_sequence_without_numbers_harms_no_other() -> None:
    batch = batch_of(SEQUENCES["decodes"])
    keys, values = caches(2)
    queries = torch.randn(len(batch.ids), 4, DIM)
    before = GatherAttention()(queries, keys, values, batch, scale=SCALE, window=None)
    keys[3 * TOKENS_PER_TILE], values[3 * TOKENS_PER_TILE] = float("nan"), float("nan")
    after = GatherAttention()(queries, keys, values, batch, scale=SCALE, window=None)
    assert after[0].isnan().all()
    assert torch.equal(after[1:], before[1:])


def test_a_table_may_be_wider_than_what_is_longest() -> None:
    """As a graph's is, whose shapes are those of the longest window."""
    batch = batch_of(SEQUENCES["decodes"])
    wide = TorchBatch(
        batch.ids, batch.positions, batch.slots, batch.first_row, batch.lengths,
        torch.nn.functional.pad(batch.tables, (0, 5)), batch.output_row, longest=8 * TOKENS_PER_TILE, most_rows=1,
    )  # fmt: skip
    keys, values = caches(2)
    queries = torch.randn(len(batch.ids), 4, DIM)
    narrow = GatherAttention()(queries, keys, values, batch, scale=SCALE, window=None)
    torch.testing.assert_close(
        GatherAttention()(queries, keys, values, wide, scale=SCALE, window=None), narrow, rtol=0, atol=1e-6
    )
