"""What the C kernels compute is the same bits however the work is cut, and whoever shares the batch or the cache."""

import numpy as np
import pytest
import torch
from forced_runs import blocks_for, logits_at, part, token_ids
from kernel_runs import (
    ENDS,
    FRESH,
    FRESH_BLOCKS,
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
from random_decoders import RandomDecoder

from genkan.engine.batch import TOKENS_PER_TILE, Batch


@pytest.fixture(scope="module", params=SOME)
def some_decoder(request: pytest.FixtureRequest) -> RandomDecoder:
    return MODELS[request.param]


@pytest.fixture(params=[False, True], ids=["float32", "bfloat16"])
def bf16(request: pytest.FixtureRequest) -> bool:
    wanted: bool = request.param
    return wanted


@pytest.mark.parametrize("chunk", [1, 5, 12, 13, 16, 48, 113])
def test_any_chunks_give_the_same_bits(some_decoder: RandomDecoder, bf16: bool, chunk: int) -> None:
    ids, blocks = token_ids(114), blocks_for(114, of=TILES)
    model = by_kernels(some_decoder, bf16=bf16)
    whole = logits_at(model, ids, [114], blocks)
    assert torch.equal(logits_at(model, ids, [*range(chunk, 114, chunk), 114], blocks)[-1:], whole)


def test_a_prompt_gives_the_same_bits_after_each_of_its_tokens(some_decoder: RandomDecoder, bf16: bool) -> None:
    ids, blocks = token_ids(70), blocks_for(70, of=TILES)
    model = by_kernels(some_decoder, bf16=bf16)
    one_by_one = logits_at(model, ids, range(1, 71), blocks)
    at_once = torch.cat([logits_at(model, ids, [end], blocks) for end in range(1, 71)])
    assert torch.equal(one_by_one, at_once)


def test_any_place_in_the_cache_gives_the_same_bits(some_decoder: RandomDecoder, bf16: bool) -> None:
    ids, model = token_ids(114), by_kernels(some_decoder, bf16=bf16)
    first, second = (logits_at(model, ids, ENDS, blocks_for(114, of=TILES, seed=seed)) for seed in (1, 2))
    assert torch.equal(first, second)


def test_any_number_of_threads_gives_the_same_bits(some_decoder: RandomDecoder, bf16: bool) -> None:
    ids, blocks = token_ids(114), blocks_for(114, of=TILES)
    one, *others = (
        logits_at(by_kernels(some_decoder, bf16=bf16, threads=threads), ids, ENDS, blocks) for threads in (1, 2, 3, 4)
    )
    assert all(torch.equal(other, one) for other in others)


def test_any_mates_in_the_batch_give_the_same_bits(some_decoder: RandomDecoder, bf16: bool) -> None:
    alone = by_kernels(some_decoder, bf16=bf16)
    prompts = ((LONG, LONG_BLOCKS), (FRESH, FRESH_BLOCKS), (SHORT, SHORT_BLOCKS))
    expected = torch.cat([logits_at(alone, ids, [len(ids)], blocks) for ids, blocks in prompts])
    together = by_kernels(some_decoder, bf16=bf16)
    logits_at(together, LONG, [89], LONG_BLOCKS)
    logits_at(together, SHORT, [16], SHORT_BLOCKS)
    assert torch.equal(together.forward(mixed_batch()), expected)


def test_many_mates_in_any_order_give_the_same_bits(some_decoder: RandomDecoder, bf16: bool) -> None:
    model = by_kernels(some_decoder, bf16=bf16)
    prompts = [token_ids(count, seed=count) for count in [*range(1, 17), 20, 25, 30, 35, 40]]
    free = iter(range(TILES))
    blocks = [[next(free) for _ in range(0, len(ids), TOKENS_PER_TILE)] for ids in prompts]
    alone = torch.cat([logits_at(model, ids, [len(ids)], its) for ids, its in zip(prompts, blocks, strict=True)])
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(prompts))
        batch = Batch.of([part(prompts[place], 0, len(prompts[place]), blocks[place]) for place in order])
        assert torch.equal(model.forward(batch), alone[torch.from_numpy(order)])


def test_sequences_that_share_pages_give_the_same_bits_as_alone(some_decoder: RandomDecoder, bf16: bool) -> None:
    prefix = token_ids(32)
    first, second = prefix + token_ids(20, seed=1), prefix + token_ids(9, seed=2)
    alone = by_kernels(some_decoder, bf16=bf16)
    expected = torch.cat([logits_at(alone, ids, [len(ids)], [7, 8, 9, 10]) for ids in (first, second)])
    model = by_kernels(some_decoder, bf16=bf16)
    logits_at(model, prefix, [32], [4, 2])
    batch = Batch.of([part(first, 32, 52, [4, 2, 6, 5]), part(second, 32, 41, [4, 2, 0])])
    assert torch.equal(model.forward(batch), expected)


def test_what_lies_in_unwritten_slots_changes_nothing(some_decoder: RandomDecoder, bf16: bool) -> None:
    ids, blocks = token_ids(114), blocks_for(114, of=TILES)
    clean, dirty = by_kernels(some_decoder, bf16=bf16), by_kernels(some_decoder, bf16=bf16)
    fill_cache(dirty, 0xFF)
    for ends in (ENDS, range(1, 71)):
        expected = logits_at(clean, ids, ends, blocks)
        assert expected.isfinite().all()
        assert torch.equal(logits_at(dirty, ids, ends, blocks), expected)


def test_the_garbage_of_that_test_is_not_a_number(some_decoder: RandomDecoder, bf16: bool) -> None:
    model = by_kernels(some_decoder, bf16=bf16)
    ids, blocks = token_ids(33), [0, 1, 2]
    logits_at(model, ids, [32], blocks)
    fill_cache(model, 0xFF)
    assert logits_at(model, ids, [33], blocks, start=32).isnan().all()


def test_what_shared_a_block_before_changes_nothing(some_decoder: RandomDecoder, bf16: bool) -> None:
    model = by_kernels(some_decoder, bf16=bf16)
    before = logits_at(model, SHORT, [17], [0, 1])
    logits_at(model, LONG, [90], [1, 0, 2, 3, 4, 5])
    assert torch.equal(logits_at(model, SHORT, [17], [0, 1]), before)
