"""Every family from every kind of file: what transformers computes, in float32, however the work is cut."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from forced_runs import blocks_for, logits_at, part, token_ids
from tiny_checkpoints import TinyCheckpoint, write_gguf

from genkan.engine.batch import Batch, Forward
from genkan.engine.models.decoder import Decoder
from genkan.engine.models.opened import opened
from genkan.engine.torch_model import TorchModel

FAMILIES = ["llama", "mistral", "qwen2", "qwen3", "gemma3"]
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {"settings": {"tie_word_embeddings": True}},
    "untied": {"settings": {"tie_word_embeddings": False}},
    "one KV head": {"settings": {"num_key_value_heads": 1}},
    "as many KV heads as heads": {"settings": {"num_key_value_heads": 4}},
    "linear": {"scaling": "linear"},
    "llama3": {"scaling": "llama3"},
    "yarn": {"scaling": "yarn"},
    "windows": {"windows": True},
}
NOT_IN_GGUF = {
    *((family, "llama3") for family in FAMILIES if family != "llama"),
    ("gemma3", "yarn"), ("qwen2", "windows"), ("qwen3", "windows"),
}  # fmt: skip
NOWHERE = {("llama", "windows"), ("gemma3", "windows")}  # has none; has them always
CASES = [
    (family, variant, form)
    for family in FAMILIES
    for variant in VARIANTS
    for form in ("gguf", "safetensors")
    if (family, variant) not in NOWHERE and not (form == "gguf" and (family, variant) in NOT_IN_GGUF)
]
LENGTH, TILES, GENERATED = 75, 24, 10
IDS = token_ids(LENGTH, vocab_size=61)
OTHERS = token_ids(20, vocab_size=61, seed=1)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Several threads that wait for each other are slower where other tests share the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def decoder_of(model: Any, family: str, form: str, directory: Path) -> Decoder:
    if form == "gguf":
        decoder, _ = opened(write_gguf(model, family, directory / "model.gguf"))
    else:
        model.save_pretrained(directory)
        decoder, _ = opened(directory)
    assert decoder is not None
    return decoder


@torch.inference_mode()
def theirs(model: Any, ids: list[int]) -> torch.Tensor:
    logits: torch.Tensor = model(torch.tensor([ids])).logits[0]
    return logits


def near(ours: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5 * float(expected.abs().max()) * 4)


def greedy(model: Forward, ids: list[int], count: int, blocks: list[int]) -> list[int]:
    ids, known = list(ids), 0
    for _ in range(count):
        logits = model.forward(Batch.of([part(ids, known, len(ids), blocks)]))
        known = len(ids)
        ids.append(int(logits[0].argmax()))
    return ids[-count:]


@pytest.mark.parametrize(("family", "variant", "form"), CASES)
def test_logits_and_greedy_tokens_are_those_of_transformers(
    family: str, variant: str, form: str, tmp_path: Path
) -> None:
    reference = TinyCheckpoint(family=family, **VARIANTS[variant]).model()
    decoder = decoder_of(reference, family, form, tmp_path)
    ours = TorchModel(decoder, positions=128, tiles=TILES)
    expected, others = theirs(reference, IDS), theirs(reference, OTHERS)

    at_once = logits_at(ours, IDS, [LENGTH], blocks_for(LENGTH, of=TILES))
    near(at_once, expected[-1:])

    ends = [30, 31, 32, 33, 48, 49, 74, 75]  # chunks and single tokens that begin anywhere in a tile
    near(logits_at(ours, IDS, ends, blocks_for(LENGTH, of=TILES, seed=2)), expected[[end - 1 for end in ends]])

    long, short = [0, 7, 3, 9, 11], [5, 1]
    first = ours.forward(Batch.of([part(IDS, 0, 70, long), part(OTHERS, 0, 18, short)]))
    near(first, torch.stack([expected[69], others[17]]))
    chunk_and_decode = ours.forward(Batch.of([part(OTHERS, 18, 19, short), part(IDS, 70, 74, long)]))
    near(chunk_and_decode, torch.stack([others[18], expected[73]]))
    decodes = ours.forward(Batch.of([part(IDS, 74, 75, long), part(OTHERS, 19, 20, short)]))
    near(decodes, torch.stack([expected[74], others[19]]))

    whole = reference.generate(torch.tensor([IDS]), max_new_tokens=GENERATED, do_sample=False)[0]
    assert greedy(ours, IDS, GENERATED, [20, 2, 4, 6, 8, 10]) == whole[LENGTH:].tolist()
