"""The forward pass by torch, beyond what the families' tests compare in float32: types, its cache, its outputs."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from forced_runs import blocks_for, logits_at, part, token_ids
from tiny_checkpoints import TinyCheckpoint, write_gguf

from genkan.engine.attention.gather import GatherAttention
from genkan.engine.batch import Batch
from genkan.engine.models.decoder import Decoder
from genkan.engine.models.opened import opened
from genkan.engine.torch_batch import TorchBatch
from genkan.engine.torch_model import TorchModel

IDS = token_ids(60, vocab_size=61)
ENDS = [40, 41, 55, 60]
TILES = 8


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Several threads that wait for each other are slower where other tests share the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=["llama", "qwen2", "gemma3"])
def decoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Decoder:
    path = tmp_path_factory.mktemp("models") / "model.gguf"
    decoder, _ = opened(write_gguf(TinyCheckpoint(family=request.param).model(), request.param, path))
    assert decoder is not None
    return decoder


def model(decoder: Decoder, dtype: torch.dtype = torch.float32, tiles: int = TILES) -> TorchModel:
    return TorchModel(decoder, dtype=dtype, positions=64, tiles=tiles)


@pytest.mark.parametrize(("dtype", "share"), [(torch.bfloat16, 0.04), (torch.float16, 0.006)])
def test_half_precision_is_near_to_float32(decoder: Decoder, dtype: torch.dtype, share: float) -> None:
    blocks = blocks_for(60, of=TILES)
    exact = logits_at(model(decoder), IDS, ENDS, blocks)
    halved = model(decoder, dtype)
    ours = logits_at(halved, IDS, ENDS, blocks)
    assert halved.kv.dtype is dtype
    assert ours.dtype is torch.float32
    assert (ours - exact).abs().max() < share * exact.abs().max()
    assert not torch.equal(ours, exact)


def test_logits_are_of_the_rows_that_are_wanted(decoder: Decoder) -> None:
    whole = part(IDS, 0, 20, [0, 1])._replace(outputs=20)
    rows = model(decoder).forward(Batch.of([whole, part(IDS, 0, 9, [2])._replace(outputs=0)]))
    assert rows.shape == (20, 61)
    one_by_one = logits_at(model(decoder), IDS, range(1, 21), [0, 1])
    torch.testing.assert_close(rows, one_by_one, rtol=0, atol=2e-4)


def test_no_logits_may_be_wanted(decoder: Decoder) -> None:
    ours = model(decoder)
    assert ours.forward(Batch.of([part(IDS, 0, 40, [0, 1, 2])._replace(outputs=0)])).shape == (0, 61)
    after = ours.forward(Batch.of([part(IDS, 40, 41, [0, 1, 2])]))
    torch.testing.assert_close(after, logits_at(model(decoder), IDS, [41], [0, 1, 2]), rtol=0, atol=2e-4)


def test_a_cache_of_another_size_takes_the_place_of_the_old(decoder: Decoder) -> None:
    ours = model(decoder, tiles=1)
    ours.resize(TILES)
    shape = decoder.shape
    assert ours.kv.shape == (shape.layers, 2, TILES * 16, shape.kv_heads, shape.head_dim)
    blocks = blocks_for(60, of=TILES)
    assert torch.equal(logits_at(ours, IDS, ENDS, blocks), logits_at(model(decoder), IDS, ENDS, blocks))


def test_a_step_takes_the_attention_that_is_given(decoder: Decoder) -> None:
    calls: list[tuple[float, int | None]] = []

    class Watched(GatherAttention):
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
            calls.append((scale, window))
            return super().__call__(queries, keys, values, batch, scale=scale, window=window)

    TorchModel(decoder, positions=64, tiles=TILES, attention=Watched()).forward(Batch.of([part(IDS, 0, 5, [0])]))
    assert calls == [(decoder.shape.attention_scale, kind.window) for kind in decoder.shape.kinds]


def test_gemmas_embeddings_are_scaled_by_a_number_of_the_type(tmp_path: Path) -> None:
    """As in training: transformers rounds the square root of the hidden size to the type too."""
    reference = TinyCheckpoint(family="gemma3").model()
    reference.save_pretrained(tmp_path)
    decoder, _ = opened(tmp_path)
    assert decoder is not None
    ours = model(decoder, torch.bfloat16)
    halved = reference.to(torch.bfloat16)
    ids = torch.tensor(IDS)
    scaled = torch.nn.functional.embedding(ids, ours.embedding) * ours.embedding_scale
    assert torch.equal(scaled, halved.model.embed_tokens(ids))
