"""Whole models by the C kernels: as torch computes them, and the same bits however the work is cut.

The models are small and random, of the sizes that real ones differ in.
"""

import ctypes
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from compiled_kernels import compiled_kernels
from forced_runs import blocks_for, logits_at, part, token_ids
from tiny_llama import TinyLlama

from genkan.engine.batch import TOKENS_PER_TILE, Batch
from genkan.engine.kernel_model import KernelModel, fits_kernels
from genkan.engine.models.llama import LlamaFile
from genkan.engine.torch_model import TorchModel

TILES = 40
POSITIONS = 256
MODELS = {
    "one head a KV head": TinyLlama(heads=2, kv_heads=2),
    "groups of 3, odd heads": TinyLlama(heads=9, kv_heads=3, kind="Q8_0"),
    "groups of 5": TinyLlama(heads=5, kv_heads=1, head_dim=64, kind="Q4_0"),
    "groups of 8": TinyLlama(heads=8, kv_heads=1, head_dim=32, kind="Q4_K", kinds={"ffn_down.weight": "F16"}),
    "groups of 16": TinyLlama(heads=16, kv_heads=1, head_dim=16, ffn=256, kind="F32"),
    "groups of 24": TinyLlama(heads=24, kv_heads=1, head_dim=16, kind="Q8_0"),
    "heads of 64": TinyLlama(heads=3, kv_heads=1, head_dim=64, kind="BF16"),
    "heads of 128": TinyLlama(heads=3, kv_heads=3, head_dim=128, ffn=224),
    "heads of 256": TinyLlama(heads=1, kv_heads=1, head_dim=256, ffn=32),
    "a hidden size of 96": TinyLlama(heads=3, kv_heads=1, head_dim=32),
    "a head of its own": TinyLlama(own_head=True, kinds={"output.weight": "Q8_0", "token_embd.weight": "F16"}),
    "kinds mixed in a product": TinyLlama(kinds={"attn_v.weight": "Q8_0", "ffn_up.weight": "F16"}),
    "an odd vocabulary": TinyLlama(vocab_size=77, layers=3),
}
SOME = ["groups of 3, odd heads", "groups of 24", "heads of 64"]
PRECISIONS = {"float32": False, "bfloat16": True}

ENDS = [70, 71, 72, 80, 81, 113, 114]  # a prompt, two decodes, and chunks that begin anywhere in a tile
LONG, SHORT, FRESH = token_ids(90, seed=1), token_ids(17, seed=2), token_ids(41, seed=3)
LONG_BLOCKS, SHORT_BLOCKS, FRESH_BLOCKS = [5, 3, 9, 0, 20, 21], [1, 39], [30, 2, 31]


@pytest.fixture(scope="module", params=MODELS)
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LlamaFile:
    return MODELS[request.param].read(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module", params=SOME)
def some_file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LlamaFile:
    return MODELS[request.param].read(tmp_path_factory.mktemp("models"))


@pytest.fixture(params=PRECISIONS)
def bf16(request: pytest.FixtureRequest) -> bool:
    return PRECISIONS[request.param]


def by_kernels(file: LlamaFile, *, bf16: bool, threads: int = 2) -> KernelModel:
    return KernelModel(compiled_kernels(), file, bf16=bf16, positions=POSITIONS, tiles=TILES, threads=threads)


def by_torch(file: LlamaFile, *, bf16: bool = False) -> TorchModel:
    return TorchModel(file, bf16=bf16, positions=POSITIONS, tiles=TILES)


def fill_cache(model: KernelModel, byte: int) -> None:
    """Every byte of the KV cache; 0xFF makes NaNs of either precision."""
    structure = model._model
    for memory in (structure.keys, structure.values):
        ctypes.memset(memory, byte, structure.layers * structure.cache_bytes)


def distance(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """The largest difference, as a share of the largest logit."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


# As torch computes it


def test_float32_is_what_torch_computes(file: LlamaFile) -> None:
    ids, blocks = token_ids(114), blocks_for(114, of=TILES)
    ours = logits_at(by_kernels(file, bf16=False), ids, ENDS, blocks)
    theirs = logits_at(by_torch(file), ids, ENDS, blocks)
    assert distance(ours, theirs) < 1e-5


def test_bfloat16_is_near_to_what_torch_computes_in_float32(file: LlamaFile) -> None:
    ids, blocks = token_ids(114), blocks_for(114, of=TILES)
    ours = logits_at(by_kernels(file, bf16=True), ids, ENDS, blocks)
    theirs = logits_at(by_torch(file), ids, ENDS, blocks)
    errors = (ours - theirs).square().mean().sqrt() / theirs.square().mean().sqrt()
    assert 1e-5 < errors < 0.02


@pytest.mark.parametrize("tiles", [1, 2, 4, 8])
def test_blocks_of_any_size(tmp_path: Path, tiles: int) -> None:
    file = MODELS["groups of 3, odd heads"].read(tmp_path)
    ids, blocks = token_ids(114), blocks_for(114, of=TILES // tiles, tiles=tiles)
    ours = logits_at(by_kernels(file, bf16=False), ids, ENDS, blocks, tiles=tiles)
    assert distance(ours, logits_at(by_torch(file), ids, ENDS, blocks, tiles=tiles)) < 1e-5


def test_several_sequences_in_one_batch_are_what_torch_computes(some_file: LlamaFile) -> None:
    batch = mixed_batch()
    ours, theirs = by_kernels(some_file, bf16=False), by_torch(some_file)
    for ids, blocks in ((LONG, LONG_BLOCKS), (SHORT, SHORT_BLOCKS)):
        for model in (ours, theirs):
            logits_at(model, ids, [len(ids) - 1], blocks)
    assert distance(ours.forward(batch), theirs.forward(batch)) < 1e-5


def mixed_batch() -> Batch:
    """A decode, a whole prompt, the first chunk of another without logits, and a second decode."""
    chunk = part(FRESH, 0, 20, [32, 33])._replace(wants_logits=False)
    return Batch.of([
        part(LONG, 89, 90, LONG_BLOCKS), part(FRESH, 0, 41, FRESH_BLOCKS), chunk, part(SHORT, 16, 17, SHORT_BLOCKS),
    ])  # fmt: skip


# The same bits


@pytest.mark.parametrize("chunk", [1, 5, 12, 13, 16, 48, 113])
def test_any_chunks_give_the_same_bits(some_file: LlamaFile, bf16: bool, chunk: int) -> None:
    ids, blocks = token_ids(114), blocks_for(114, of=TILES)
    model = by_kernels(some_file, bf16=bf16)
    whole = logits_at(model, ids, [114], blocks)
    assert torch.equal(logits_at(model, ids, [*range(chunk, 114, chunk), 114], blocks)[-1:], whole)


def test_a_prompt_gives_the_same_bits_after_each_of_its_tokens(some_file: LlamaFile, bf16: bool) -> None:
    ids, blocks = token_ids(70), blocks_for(70, of=TILES)
    model = by_kernels(some_file, bf16=bf16)
    one_by_one = logits_at(model, ids, range(1, 71), blocks)
    at_once = torch.cat([logits_at(model, ids, [end], blocks) for end in range(1, 71)])
    assert torch.equal(one_by_one, at_once)


def test_any_place_in_the_cache_gives_the_same_bits(some_file: LlamaFile, bf16: bool) -> None:
    ids, model = token_ids(114), by_kernels(some_file, bf16=bf16)
    first, second = (logits_at(model, ids, ENDS, blocks_for(114, of=TILES, seed=seed)) for seed in (1, 2))
    assert torch.equal(first, second)


def test_any_number_of_threads_gives_the_same_bits(some_file: LlamaFile, bf16: bool) -> None:
    ids, blocks = token_ids(114), blocks_for(114, of=TILES)
    one, *others = (
        logits_at(by_kernels(some_file, bf16=bf16, threads=threads), ids, ENDS, blocks) for threads in (1, 2, 3, 4)
    )
    assert all(torch.equal(other, one) for other in others)


def test_any_mates_in_the_batch_give_the_same_bits(some_file: LlamaFile, bf16: bool) -> None:
    alone = by_kernels(some_file, bf16=bf16)
    prompts = ((LONG, LONG_BLOCKS), (FRESH, FRESH_BLOCKS), (SHORT, SHORT_BLOCKS))
    expected = torch.cat([logits_at(alone, ids, [len(ids)], blocks) for ids, blocks in prompts])
    together = by_kernels(some_file, bf16=bf16)
    logits_at(together, LONG, [89], LONG_BLOCKS)
    logits_at(together, SHORT, [16], SHORT_BLOCKS)
    assert torch.equal(together.forward(mixed_batch()), expected)


def test_many_mates_in_any_order_give_the_same_bits(some_file: LlamaFile, bf16: bool) -> None:
    model = by_kernels(some_file, bf16=bf16)
    prompts = [token_ids(count, seed=count) for count in [*range(1, 17), 20, 25, 30, 35, 40]]
    free = iter(range(TILES))
    blocks = [[next(free) for _ in range(0, len(ids), TOKENS_PER_TILE)] for ids in prompts]
    alone = torch.cat([logits_at(model, ids, [len(ids)], its) for ids, its in zip(prompts, blocks, strict=True)])
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(prompts))
        batch = Batch.of([part(prompts[place], 0, len(prompts[place]), blocks[place]) for place in order])
        assert torch.equal(model.forward(batch), alone[torch.from_numpy(order)])


def test_sequences_that_share_pages_give_the_same_bits_as_alone(some_file: LlamaFile, bf16: bool) -> None:
    prefix = token_ids(32)
    first, second = prefix + token_ids(20, seed=1), prefix + token_ids(9, seed=2)
    alone = by_kernels(some_file, bf16=bf16)
    expected = torch.cat([logits_at(alone, ids, [len(ids)], [7, 8, 9, 10]) for ids in (first, second)])
    model = by_kernels(some_file, bf16=bf16)
    logits_at(model, prefix, [32], [4, 2])
    batch = Batch.of([part(first, 32, 52, [4, 2, 6, 5]), part(second, 32, 41, [4, 2, 0])])
    assert torch.equal(model.forward(batch), expected)


def test_what_lies_in_unwritten_slots_changes_nothing(some_file: LlamaFile, bf16: bool) -> None:
    ids, blocks = token_ids(114), blocks_for(114, of=TILES)
    clean, dirty = by_kernels(some_file, bf16=bf16), by_kernels(some_file, bf16=bf16)
    fill_cache(dirty, 0xFF)
    for ends in (ENDS, range(1, 71)):
        expected = logits_at(clean, ids, ends, blocks)
        assert expected.isfinite().all()
        assert torch.equal(logits_at(dirty, ids, ends, blocks), expected)


def test_the_garbage_of_that_test_is_not_a_number(some_file: LlamaFile, bf16: bool) -> None:
    model = by_kernels(some_file, bf16=bf16)
    ids, blocks = token_ids(33), [0, 1, 2]
    logits_at(model, ids, [32], blocks)
    fill_cache(model, 0xFF)
    assert logits_at(model, ids, [33], blocks, start=32).isnan().all()


def test_what_shared_a_block_before_changes_nothing(some_file: LlamaFile, bf16: bool) -> None:
    model = by_kernels(some_file, bf16=bf16)
    before = logits_at(model, SHORT, [17], [0, 1])
    logits_at(model, LONG, [90], [1, 0, 2, 3, 4, 5])
    assert torch.equal(logits_at(model, SHORT, [17], [0, 1]), before)


# Steps and models it takes


def test_a_batch_may_want_no_logits(some_file: LlamaFile, bf16: bool) -> None:
    model = by_kernels(some_file, bf16=bf16)
    expected = logits_at(model, SHORT, [17], [0, 1])
    silent = part(SHORT, 0, 10, [2])._replace(wants_logits=False)
    assert model.forward(Batch.of([silent])).shape == (0, 50)
    assert torch.equal(logits_at(model, SHORT, [17], [2, 3], start=10), expected)


@pytest.mark.parametrize("sizes", list(pairwise([1, 250, 2, 100, 3])))
def test_steps_may_grow_and_shrink(tmp_path: Path, sizes: tuple[int, int]) -> None:
    file = MODELS["a hidden size of 96"].read(tmp_path)
    model = by_kernels(file, bf16=False)
    for size in sizes:
        ids, blocks = token_ids(size), blocks_for(size, of=TILES)
        assert torch.equal(
            logits_at(model, ids, [size], blocks), logits_at(by_kernels(file, bf16=False), ids, [size], blocks)
        )


def test_the_models_above_fit(file: LlamaFile) -> None:
    assert fits_kernels(file)


@pytest.mark.parametrize(
    "model",
    [
        TinyLlama(heads=4, head_dim=8, kind="F32"),
        TinyLlama(heads=1, head_dim=288, kind="F32"),
        TinyLlama(heads=1, head_dim=48, kind="F32"),
        TinyLlama(ffn=40, kind="F32"),
        TinyLlama(ffn=48, kind="F32"),
    ],
    ids=["head of 8", "head of 288", "hidden size of 48", "FFN of 40", "FFN of 48"],
)
def test_other_sizes_do_not_fit(tmp_path: Path, model: TinyLlama) -> None:
    assert not fits_kernels(model.read(tmp_path))
