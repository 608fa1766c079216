"""A step's arrays as tensors."""

from array import array

import torch

from genkan.engine.batch import Batch, BatchItem
from genkan.engine.torch_batch import TorchBatch

CPU = torch.device("cpu")


def item(ids: list[int], position: int, blocks: list[int], outputs: int = 1) -> BatchItem:
    return BatchItem(array("i", ids), position, array("i", blocks), outputs)


def test_every_token_has_its_place_and_its_slot() -> None:
    items = [item([7, 8, 9], 15, [4, 2, 6], 3), item([5], 0, [3], 0), item([1], 40, [0, 9, 5])]
    batch = TorchBatch.of(Batch.of(items), CPU)
    assert batch.ids.tolist() == [7, 8, 9, 5, 1]
    assert batch.positions.tolist() == [15, 16, 17, 0, 40]
    assert batch.slots.tolist() == [4 * 16 + 15, 2 * 16, 2 * 16 + 1, 3 * 16, 5 * 16 + 8]
    assert batch.first_row.tolist() == [0, 3, 4, 5]
    assert batch.lengths.tolist() == [18, 1, 41]
    assert batch.output_row.tolist() == [0, 1, 2, 4]
    assert (batch.longest, batch.most_rows) == (41, 3)


def test_tables_are_as_wide_as_the_longest_sequence_needs_and_padded_with_zeros() -> None:
    items = [item([7], 16, [4, 2, 6]), item([5], 0, [3, 8])]  # both have blocks that they do not need yet
    assert TorchBatch.of(Batch.of(items), CPU).tables.tolist() == [[4, 2], [3, 0]]


def test_a_block_of_several_tiles_is_its_tiles_in_a_row() -> None:
    batch = TorchBatch.of(Batch.of([item([7], 40, [4, 2])], 2), CPU)
    assert batch.tables.tolist() == [[8, 9, 4]]
    assert batch.slots.tolist() == [4 * 16 + 8]


def test_tensors_are_of_the_types_that_kernels_expect() -> None:
    batch = TorchBatch.of(Batch.of([item([7], 0, [0])]), CPU)
    long = (batch.ids, batch.positions, batch.slots, batch.output_row)
    assert {tensor.dtype for tensor in long} == {torch.int64}
    assert {tensor.dtype for tensor in (batch.first_row, batch.lengths, batch.tables)} == {torch.int32}


def test_no_logits_may_be_wanted() -> None:
    assert TorchBatch.of(Batch.of([item([7, 8], 0, [0], 0)]), CPU).output_row.tolist() == []
