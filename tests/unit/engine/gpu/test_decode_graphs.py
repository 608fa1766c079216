"""Decode batches in buffers that stay where they are, padded; what a graph would replay is called instead."""

from array import array
from dataclasses import fields

import pytest
import torch
from tiny_llama import TinyLlama

from genkan.engine.batch import Batch, BatchItem
from genkan.engine.gpu.decode_graphs import DecodeGraphs, Step
from genkan.engine.torch_batch import TorchBatch
from genkan.engine.torch_model import TorchModel

TILES, SPARE, WIDEST = 12, 12, 4
CPU = torch.device("cpu")


class Recorded:
    """A Capture that calls, and knows how often it recorded and replayed."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.replayed: list[int] = []

    def __call__(self, step: Step) -> Step:
        size = len(step())
        self.sizes.append(size)

        def replay() -> torch.Tensor:
            self.replayed.append(size)
            return step()

        return replay


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> object:
    return TinyLlama(kind="F32").read(tmp_path_factory.mktemp("model"))


def models(file: object) -> tuple[TorchModel, TorchModel]:
    """The same model twice, each with the same prompts' KV: three tokens in tile 3, 20 in 7 and 1, one in 5."""
    both = tuple(TorchModel(file, positions=64, tiles=TILES + 1) for _ in range(2))  # type: ignore[arg-type]
    prompts = Batch.of(
        [
            BatchItem(array("i", range(3)), 0, array("i", [3]), 0),
            BatchItem(array("i", range(20)), 0, array("i", [7, 1]), 0),
            BatchItem(array("i", [9]), 0, array("i", [5]), 0),
        ]
    )
    for model in both:
        model.kv.zero_()
        model.forward(prompts)
    return both[0], both[1]


def graphs_of(model: TorchModel, capture: Recorded, sizes: tuple[int, ...] = (1, 2, 4)) -> DecodeGraphs:
    return DecodeGraphs(
        model.step,
        capture,
        sizes=sizes,
        widest=WIDEST,
        vocab_size=model.shape.vocab_size,
        spare_tile=SPARE,
        device=CPU,
    )


def decodes(*items: tuple[int, int, list[int]]) -> Batch:
    return Batch.of(
        [BatchItem(array("i", [token]), position, array("i", tiles), 1) for token, position, tiles in items]
    )


def test_padded_batches_give_the_logits_and_the_kv_of_the_batch_alone(file: object) -> None:
    graphed, plain = models(file)
    graphs = graphs_of(graphed, Recorded())
    for batch in (
        decodes((4, 3, [3]), (5, 20, [7, 1]), (6, 1, [5])),
        decodes((8, 21, [7, 1])),  # rows that were others' before are padding now
        decodes((1, 4, [3]), (2, 2, [5])),
        decodes((3, 22, [7, 1]), (4, 5, [3]), (7, 3, [5])),
    ):
        assert graphs.takes(batch)
        with torch.inference_mode():
            got = graphs.forward(batch).clone()
        assert torch.allclose(got, plain.forward(batch), atol=1e-5)
        kv, expected = (model.kv[:, :, : TILES * 16] for model in (graphed, plain))
        assert torch.allclose(kv, expected, atol=1e-5)


def test_the_next_size_is_replayed_and_the_largest_is_recorded_first(file: object) -> None:
    capture = Recorded()
    graphs = graphs_of(models(file)[0], capture)
    assert capture.sizes == [4, 2, 1]
    with torch.inference_mode():
        for batch in (decodes((4, 3, [3])), decodes((4, 3, [3]), (5, 20, [7, 1]), (6, 1, [5]))):
            graphs.forward(batch)
    assert capture.replayed == [1, 4]


@pytest.mark.parametrize(
    ("batch", "takes"),
    [
        (decodes((4, 3, [3]), (6, 1, [5])), True),
        (decodes((4, 3, [3]), (6, 1, [5]), (4, 3, [3])), False),  # too many
        (Batch.of([BatchItem(array("i", [1, 2]), 0, array("i", [3]), 1)]), False),  # a prompt
        (Batch.of([BatchItem(array("i", [1]), 0, array("i", [3]), 0)]), False),  # one whose token is not wanted
    ],
)
def test_only_decodes_are_taken(file: object, batch: Batch, takes: bool) -> None:
    assert graphs_of(models(file)[0], Recorded(), (1, 2)).takes(batch) is takes


def test_a_torch_batch_of_a_graph_stays_where_it_is(file: object) -> None:
    seen: list[TorchBatch] = []

    def step(batch: TorchBatch) -> torch.Tensor:
        seen.append(batch)
        return torch.zeros(len(batch.output_row), 3)

    graphs = DecodeGraphs(step, Recorded(), sizes=(2,), widest=WIDEST, vocab_size=3, spare_tile=SPARE, device=CPU)
    graphs.forward(decodes((4, 3, [3])))
    first, second = seen
    assert first is second
    assert first.slots.tolist() == [3 * 16 + 3, SPARE * 16]
    assert first.lengths.tolist() == [4, 1]
    assert first.tables[:, 0].tolist() == [3, SPARE]


def test_what_graphs_read_and_give_lives_as_long_as_they_do_and_is_the_same_for_all_sizes() -> None:
    """A graph keeps addresses alone: what only the recorded call held would be somebody else's memory by then."""
    read: list[torch.Tensor] = []
    given: list[torch.Tensor] = []

    def step(batch: TorchBatch) -> torch.Tensor:
        tensors = (getattr(batch, field.name) for field in fields(batch))
        read.extend(tensor for tensor in tensors if isinstance(tensor, torch.Tensor))
        return torch.zeros(len(batch.output_row), 3, dtype=torch.bfloat16)

    def capture(recorded: Step) -> Step:
        given.append(recorded())
        return recorded

    graphs = DecodeGraphs(step, capture, sizes=(1, 4), widest=WIDEST, vocab_size=3, spare_tile=SPARE, device=CPU)
    own = {each.untyped_storage().data_ptr() for each in vars(graphs).values() if isinstance(each, torch.Tensor)}
    assert len(read) == 2 * 7
    assert {tensor.untyped_storage().data_ptr() for tensor in read} <= own
    assert {tensor.data_ptr() for tensor in given} == {given[0].data_ptr()}
    assert given[0].untyped_storage().data_ptr() in own
    assert given[0].dtype == torch.float32
