"""Whole models by the C kernels, as float64 has them."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from forced_runs import blocks_for, logits_at, part, token_ids
from kernel_runs import (
    ENDS,
    FRESH,
    FRESH_BLOCKS,
    GEMMA,
    LONG,
    LONG_BLOCKS,
    MODELS,
    SHORT,
    SHORT_BLOCKS,
    SOME,
    TILES,
    by_kernels,
    fill_cache,
    mixed_batch,
)
from plain_decoder import plain_logits
from random_decoders import RandomDecoder

from genkan.engine.batch import Batch
from genkan.engine.kernel_model import fits_kernels, misfit
from genkan.engine.kernels.library import WeightKind
from genkan.engine.models.decoder import Decoder, LayerKind


@pytest.fixture(scope="module", params=MODELS)
def decoder(request: pytest.FixtureRequest) -> RandomDecoder:
    return MODELS[request.param]


@pytest.fixture(scope="module", params=SOME)
def some_decoder(request: pytest.FixtureRequest) -> RandomDecoder:
    return MODELS[request.param]


@pytest.fixture(params=[False, True], ids=["float32", "bfloat16"])
def bf16(request: pytest.FixtureRequest) -> bool:
    wanted: bool = request.param
    return wanted


def plain(decoder: Decoder, ids: Sequence[int], ends: Sequence[int]) -> torch.Tensor:
    """The logits after each of ``ends``."""
    return plain_logits(decoder, ids)[[end - 1 for end in ends]]


def distance(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """The largest difference, as a share of the largest logit."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


# As float64 has it


def test_float32_is_what_float64_has(decoder: RandomDecoder) -> None:
    ids, blocks = token_ids(114), blocks_for(114, of=TILES)
    ours = logits_at(by_kernels(decoder, bf16=False), ids, ENDS, blocks)
    assert distance(ours, plain(decoder, ids, ENDS)) < 1e-5


def test_bfloat16_is_near_to_it(decoder: RandomDecoder) -> None:
    ids, blocks = token_ids(114), blocks_for(114, of=TILES)
    ours, theirs = logits_at(by_kernels(decoder, bf16=True), ids, ENDS, blocks), plain(decoder, ids, ENDS)
    errors = (ours - theirs).square().mean().sqrt() / theirs.square().mean().sqrt()
    assert 1e-5 < errors < 0.02


@pytest.mark.parametrize("tiles", [1, 2, 4, 8])
def test_blocks_of_any_size(tiles: int) -> None:
    decoder = MODELS["groups of 3, odd heads"]
    ids, blocks = token_ids(114), blocks_for(114, of=TILES // tiles, tiles=tiles)
    ours = logits_at(by_kernels(decoder, bf16=False), ids, ENDS, blocks, tiles=tiles)
    assert distance(ours, plain(decoder, ids, ENDS)) < 1e-5


def test_several_sequences_in_one_batch(some_decoder: RandomDecoder) -> None:
    model = by_kernels(some_decoder, bf16=False)
    logits_at(model, LONG, [89], LONG_BLOCKS)
    logits_at(model, SHORT, [16], SHORT_BLOCKS)
    theirs = torch.cat([plain(some_decoder, ids, [len(ids)]) for ids in (LONG, FRESH, SHORT)])
    assert distance(model.forward(mixed_batch()), theirs) < 1e-5


def test_a_sequence_may_want_the_logits_of_several_rows(some_decoder: RandomDecoder) -> None:
    wanted = part(FRESH, 0, 41, FRESH_BLOCKS)._replace(outputs=30)
    logits = by_kernels(some_decoder, bf16=False).forward(Batch.of([wanted]))
    assert distance(logits, plain(some_decoder, FRESH, range(12, 42))) < 1e-5


# Windows


@pytest.mark.parametrize("window", [1, 2, 15, 16, 17, 63, 64, 65, 128, 249, 250, 251, 1000])
@pytest.mark.parametrize("heads", [1, 4, 13])
def test_a_token_sees_as_many_as_its_window_has(window: int, heads: int) -> None:
    decoder = RandomDecoder(heads=heads, own_hidden=64, layer_kinds=[LayerKind(window=window)])
    ids, blocks = token_ids(250), blocks_for(250, of=TILES)
    ends = [60, 61, 128, 190, 249, 250]
    ours = logits_at(by_kernels(decoder, bf16=False), ids, ends, blocks)
    assert distance(ours, plain(decoder, ids, ends)) < 1e-5


def test_a_window_that_sees_all_gives_the_bits_of_none(bf16: bool) -> None:
    ids, blocks = token_ids(114), blocks_for(114, of=TILES)
    windows = (None, 114, 1 << 30)
    decoders = [RandomDecoder(layer_kinds=[LayerKind(window=window)]) for window in windows]
    without, *others = (logits_at(by_kernels(decoder, bf16=bf16), ids, ENDS, blocks) for decoder in decoders)
    assert all(torch.equal(other, without) for other in others)


def test_blocks_of_64_before_the_window_are_not_read(bf16: bool) -> None:
    ids, blocks = token_ids(200), [*range(4, 17)]
    model = by_kernels(RandomDecoder(layer_kinds=[LayerKind(window=20)]), bf16=bf16)
    fill_cache(model, 0xFF)
    logits_at(model, ids, [199], blocks)
    expected = logits_at(model, ids, [200], blocks, start=199)
    never_written = [20 + place for place in range(8)]
    assert torch.equal(logits_at(model, ids, [200], never_written + blocks[8:], start=199), expected)


# Steps and models it takes


def test_a_batch_may_want_no_logits(some_decoder: RandomDecoder, bf16: bool) -> None:
    model = by_kernels(some_decoder, bf16=bf16)
    expected = logits_at(model, SHORT, [17], [0, 1])
    silent = part(SHORT, 0, 10, [2])._replace(outputs=0)
    assert model.forward(Batch.of([silent])).shape == (0, 50)
    assert torch.equal(logits_at(model, SHORT, [17], [2, 3], start=10), expected)


@pytest.mark.parametrize("sizes", list(pairwise([1, 250, 2, 100, 3])))
def test_steps_may_grow_and_shrink(sizes: tuple[int, int]) -> None:
    decoder = MODELS["a hidden size of 96"]
    model = by_kernels(decoder, bf16=False)
    for size in sizes:
        ids, blocks = token_ids(size), blocks_for(size, of=TILES)
        assert torch.equal(
            logits_at(model, ids, [size], blocks), logits_at(by_kernels(decoder, bf16=False), ids, [size], blocks)
        )


def test_embeddings_are_scaled_by_a_number_of_their_precision() -> None:
    decoder = RandomDecoder(embedding_scale=640**0.5)
    assert by_kernels(decoder, bf16=True)._model.embedding_scale == 25.25
    assert by_kernels(decoder, bf16=False)._model.embedding_scale == pytest.approx(640**0.5, rel=1e-7)


def test_queries_keys_and_values_of_several_kinds_are_products_of_their_own() -> None:
    layer = by_kernels(MODELS["many kinds"], bf16=False)._model.layer[0]
    parts = [(WeightKind(part.kind), part.outputs) for part in layer.qkv]
    assert parts == [(WeightKind.Q4_WIDE, 256), (WeightKind.Q8_WIDE, 32), (WeightKind.Q8_FINE, 32)]


def test_those_stored_alike_are_one_product() -> None:
    layer = by_kernels(GEMMA, bf16=False)._model.layer[0]
    assert [(part.kind, part.outputs) for part in layer.qkv] == [(WeightKind.Q8, 6 * 256), (0, 0), (0, 0)]


def test_the_models_above_fit(decoder: RandomDecoder) -> None:
    assert fits_kernels(decoder)


@pytest.mark.parametrize(
    ("decoder", "reason"),
    [
        (RandomDecoder(heads=4, head_dim=8, kind="F32"), "heads of 8 values"),
        (RandomDecoder(heads=1, head_dim=288, kind="F32"), "heads of 288 values"),
        (RandomDecoder(heads=1, head_dim=48, kind="F32"), "a product of 48 inputs"),
        (RandomDecoder(own_hidden=48, kind="F32"), "a product of 48 inputs"),
        (RandomDecoder(ffn=40, kind="F32"), "a feed-forward of 40 values"),
        (RandomDecoder(ffn=48, kind="F32"), "a product of 48 inputs"),
        (RandomDecoder(layers=501), "501 layers"),
    ],
    ids=["head of 8", "head of 288", "48 values of heads", "hidden size of 48", "FFN of 40", "FFN of 48", "layers"],
)
def test_other_models_do_not_fit(decoder: RandomDecoder, reason: str) -> None:
    assert not fits_kernels(decoder)
    assert (misfit(decoder) or "").startswith(reason)
