"""GGUF files of the families: what is read from them, and every way in which one is refused."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pytest
import torch
from quantised import random_tensor, tensor_of
from tiny_llama import TinyLlama, Value, file_bytes

from genkan.engine.load import gguf
from genkan.engine.load.blocks import dense
from genkan.engine.load.gguf import GgufFile, GgufTensor
from genkan.engine.models.decoder import LayerKind
from genkan.engine.models.gguf_decoder import gguf_decoder
from genkan.engine.models.rotary import YarnScaling, rotary
from genkan.engine.models.stored import StoredDecoder
from genkan.errors import ModelFileError

MODEL = TinyLlama(heads=6, kv_heads=3, head_dim=32, ffn=96, layers=2)
TENSOR = "blk.1.ffn_up.weight"


class Read(Protocol):
    def __call__(
        self,
        *,
        values: Mapping[str, Value] = ...,
        tensors: Mapping[str, GgufTensor] = ...,
        without: str = ...,
    ) -> StoredDecoder: ...


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Reads MODEL with other key-values and tensors, and without one of either."""

    def read(
        *, values: Mapping[str, Value] = {}, tensors: Mapping[str, GgufTensor] = {}, without: str = ""
    ) -> StoredDecoder:
        its_values = {name: value for name, value in (MODEL.metadata() | dict(values)).items() if name != without}
        its_tensors = {name: tensor for name, tensor in (MODEL.tensors() | dict(tensors)).items() if name != without}
        path = tmp_path / "model.gguf"
        path.write_bytes(file_bytes(its_values, its_tensors))
        return gguf_decoder(gguf.read(path))

    return read


def zeros(*shape: int) -> GgufTensor:
    return tensor_of("F32", shape, np.zeros(shape, dtype=np.float32))


# What is read


def test_the_shape_is_what_the_file_says(read: Read) -> None:
    shape = read().shape
    assert (shape.layers, shape.hidden, shape.heads, shape.kv_heads, shape.head_dim) == (2, 192, 6, 3, 32)
    assert (shape.ffn, shape.vocab_size, shape.context_length) == (96, 50, 512)
    assert shape.norm_epsilon == float(np.float32(1e-5))
    assert shape.attention_scale == 32**-0.5
    assert shape.kinds == (LayerKind(), LayerKind())
    assert (shape.embedding_scale, shape.activation) == (1.0, "silu")


@pytest.mark.parametrize("key", ["llama.rope.dimension_count", "llama.rope.freq_base", "llama.rope.scaling.type"])
def test_what_a_file_may_leave_out_has_a_default(read: Read, key: str) -> None:
    without, said = read(without=key).shape, read().shape
    assert without.head_dim == said.head_dim
    assert torch.equal(without.rotaries[0].frequencies, said.rotaries[0].frequencies)


def test_as_many_kv_heads_as_heads_unless_the_file_says_otherwise(tmp_path: Path) -> None:
    model = TinyLlama(heads=3, kv_heads=3)
    values = {name: value for name, value in model.metadata().items() if not name.endswith("head_count_kv")}
    (tmp_path / "model.gguf").write_bytes(file_bytes(values, model.tensors()))
    assert gguf_decoder(gguf.read(tmp_path / "model.gguf")).shape.kv_heads == 3


@pytest.mark.parametrize(
    "values",
    [
        {"llama.rope.dimension_count": 32},
        {"llama.rope.scaling.type": "none"},
        {"llama.rope.freq_base": 500_000},
        {"llama.attention.key_length": 32},
        {"llama.attention.sliding_window": 0},
        {"llama.final_logit_softcapping": 0.0},
        {"llama.vocab_size": 50},
        {"general.name": "an odd one"},
    ],
)
def test_what_fits_is_taken(read: Read, values: dict[str, Value]) -> None:
    assert read(values=values).shape.hidden == 192


def test_the_head_is_the_embedding_unless_there_is_one(read: Read) -> None:
    tied = read()
    assert tied.head.tensor is tied.embedding.tensor
    own = read(tensors={"output.weight": random_tensor("Q8_0", (50, 192), np.random.default_rng(1))})
    assert own.head.tensor.kind == "Q8_0"
    assert own.embedding.tensor.kind == "Q4_1"


def test_a_layer_has_its_own_tensors(read: Read) -> None:
    model = read()
    for index in range(2):
        layer, tensors = model.layer(index), model.tensors
        names = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"]
        rows = [*layer.qkv, layer.out, layer.gate, layer.up, layer.down]
        assert [each.tensor.name for each in rows] == [f"blk.{index}.{name}.weight" for name in names]
        assert torch.equal(layer.attention_norm, dense(tensors[f"blk.{index}.attn_norm.weight"]))
        assert torch.equal(layer.ffn_norm, dense(tensors[f"blk.{index}.ffn_norm.weight"]))
    assert torch.equal(model.final_norm, dense(model.tensors["output_norm.weight"]))


def test_queries_and_keys_are_reordered_head_by_head_and_nothing_else(read: Read) -> None:
    layer = read().layer(0)
    queries, keys, values = layer.qkv
    first_head = [*range(0, 32, 2), *range(1, 32, 2)]
    for rows, num_heads in ((queries, 6), (keys, 3)):
        assert rows.order is not None
        assert rows.order.reshape(num_heads, 32).tolist() == [
            [32 * head + row for row in first_head] for head in range(num_heads)
        ]
    assert all(rows.order is None for rows in (values, layer.out, layer.gate, layer.up, layer.down))


def test_the_rotary_table_has_the_angles_of_the_paper(read: Read) -> None:
    cosine, sine = read().shape.rotaries[0].table(300)
    assert cosine.shape == sine.shape == (300, 16)
    assert cosine.is_contiguous()
    assert sine.is_contiguous()
    angles = np.arange(300)[:, None] * 10_000.0 ** (-np.arange(16) / 16)[None, :]  # arXiv:2104.09864
    assert np.allclose(cosine.numpy(), np.cos(angles), atol=3e-5)
    assert np.allclose(sine.numpy(), np.sin(angles), atol=3e-5)


def test_the_default_model_is_taken(smollm: GgufFile) -> None:
    shape = gguf_decoder(smollm).shape
    assert (shape.layers, shape.hidden, shape.heads, shape.kv_heads, shape.head_dim) == (30, 576, 9, 3, 64)
    assert (shape.ffn, shape.vocab_size, shape.context_length) == (1536, 49152, 8192)


# What is refused


@pytest.mark.parametrize("name", [*MODEL.tensors()])
def test_a_missing_tensor_is_named(read: Read, name: str) -> None:
    with pytest.raises(ModelFileError, match=rf"lacks .*{name}"):
        read(without=name)


@pytest.mark.parametrize("name", [*MODEL.tensors(), "output.weight"])
def test_a_tensor_of_another_shape_is_named(read: Read, name: str) -> None:
    with pytest.raises(ModelFileError, match=rf"{name} is \(50, 64\); the metadata promise"):
        read(tensors={name: zeros(50, 64)})


def test_a_matrix_that_lies_on_its_side_is_an_error(read: Read) -> None:
    with pytest.raises(ModelFileError, match=rf"{TENSOR} is \(192, 96\); the metadata promise \(96, 192\)"):
        read(tensors={TENSOR: zeros(192, 96)})


@pytest.mark.parametrize(
    "name",
    ["blk.0.attn_q.bias", "blk.2.attn_q.weight", "blk.0.ffn_gate_exps.weight", "blk.0.attn_q_norm.weight", "v.weight"],
)
def test_a_tensor_that_no_llama_model_has_is_named(read: Read, name: str) -> None:
    with pytest.raises(ModelFileError, match=f"no llama model has: {name}"):
        read(tensors={name: zeros(192)})


def test_an_embedding_that_is_a_vector_is_an_error(read: Read) -> None:
    with pytest.raises(ModelFileError, match=r"token_embd\.weight"):
        read(tensors={"token_embd.weight": zeros(192)})


@pytest.mark.parametrize("scaling", ["longrope", "llama3", 7])
def test_a_scaling_of_another_kind_is_refused(read: Read, scaling: Value) -> None:
    with pytest.raises(
        ModelFileError, match=rf"rope\.scaling\.type is {scaling!r}; the engine knows: linear, none, yarn"
    ):
        read(values={"llama.rope.scaling.type": scaling})


@pytest.mark.parametrize("scaling", ["linear", "yarn"])
def test_a_scaling_without_a_factor_is_an_error(read: Read, scaling: str) -> None:
    with pytest.raises(ModelFileError, match=r"must say llama\.rope\.scaling\.factor, a positive number"):
        read(values={"llama.rope.scaling.type": scaling})


def test_positions_may_be_scaled_under_the_old_name(read: Read) -> None:
    plain, scaled = read().shape.rotaries[0], read(values={"llama.rope.scale_linear": 2.0}).shape.rotaries[0]
    assert torch.equal(scaled.frequencies, plain.frequencies / 2)


def test_yarn_takes_its_settings_from_the_file(read: Read) -> None:
    settings: dict[str, Value] = {
        "llama.rope.scaling.type": "yarn",
        "llama.rope.scaling.factor": 4.0,
        "llama.rope.scaling.original_context_length": 128,
        "llama.rope.scaling.attn_factor": 0.5,
        "llama.rope.scaling.yarn_beta_fast": 16.0,
        "llama.rope.scaling.yarn_beta_slow": 2.0,
    }
    ours = read(values=settings).shape.rotaries[0]
    theirs = rotary(10_000.0, 32, YarnScaling(factor=4.0, original_context=128, beta_fast=16.0, beta_slow=2.0))
    assert torch.equal(ours.frequencies, theirs.frequencies)
    assert ours.attention_factor == 0.5 * theirs.attention_factor
    for name in ("log_multiplier", "ext_factor", "attn_factor"):
        with pytest.raises(ModelFileError, match=rf"yarn_{name} is 0\.5"):
            read(values=settings | {f"llama.rope.scaling.yarn_{name}": 0.5})


def test_frequencies_are_divided_by_the_files_own_factors(read: Read) -> None:
    factors = np.arange(1, 17, dtype=np.float32)
    ours = read(tensors={"rope_freqs.weight": tensor_of("F32", (16,), factors)}).shape.rotaries[0]
    assert torch.equal(ours.frequencies, read().shape.rotaries[0].frequencies / torch.from_numpy(factors))


@pytest.mark.parametrize(
    ("factors", "said"),
    [(np.ones(15), r"is \(15,\); the metadata promise \(16,\)"), (np.zeros(16), "no positive number")],
)
def test_factors_that_are_none_are_an_error(read: Read, factors: npt.NDArray[np.float64], said: str) -> None:
    wrong = tensor_of("F32", factors.shape, factors.astype(np.float32))
    with pytest.raises(ModelFileError, match=rf"rope_freqs\.weight {said}|rope_freqs\.weight holds what is {said}"):
        read(tensors={"rope_freqs.weight": wrong})


def test_a_window_is_every_layers(read: Read) -> None:
    assert read(values={"llama.attention.sliding_window": 128}).shape.kinds == (LayerKind(128), LayerKind(128))


@pytest.mark.parametrize("name", ["attn_logit_softcapping", "final_logit_softcapping"])
def test_capped_logits_are_refused(read: Read, name: str) -> None:
    with pytest.raises(ModelFileError, match=rf"llama\.{name} is 30\.0"):
        read(values={f"llama.{name}": 30.0})


@pytest.mark.parametrize("architecture", ["gpt2", "gemma", "", 7])
def test_another_architecture_is_refused(read: Read, architecture: Value) -> None:
    with pytest.raises(ModelFileError, match=rf"is {architecture!r}; the engine runs: gemma3, llama, qwen2, qwen3"):
        read(values={"general.architecture": architecture})


def test_a_file_that_names_no_architecture_is_refused(read: Read) -> None:
    with pytest.raises(ModelFileError, match=r"general\.architecture is None"):
        read(without="general.architecture")


NEEDED = [
    "llama.block_count",
    "llama.embedding_length",
    "llama.attention.head_count",
    "llama.feed_forward_length",
    "llama.context_length",
    "llama.attention.layer_norm_rms_epsilon",
]


@pytest.mark.parametrize("key", NEEDED)
def test_a_missing_number_is_named(read: Read, key: str) -> None:
    with pytest.raises(ModelFileError, match=f"must say {key}, a .*number.*; it says: None"):
        read(without=key)


@pytest.mark.parametrize("value", [0, -1, "2", 2.5], ids=repr)
@pytest.mark.parametrize("key", [*NEEDED[:5], "llama.attention.head_count_kv", "llama.attention.key_length"])
def test_a_count_that_is_none_is_an_error(read: Read, key: str, value: Value) -> None:
    with pytest.raises(ModelFileError, match=f"must say {key}, a number from 1 to .*; it says: {value!r}"):
        read(values={key: value})


@pytest.mark.parametrize("value", [0, -1.0, "1", float("inf"), float("nan")], ids=repr)
@pytest.mark.parametrize("key", ["llama.attention.layer_norm_rms_epsilon", "llama.rope.freq_base"])
def test_a_number_that_is_none_is_an_error(read: Read, key: str, value: Value) -> None:
    with pytest.raises(ModelFileError, match=f"must say {key}, a positive number; it says: {value!r}"):
        read(values={key: value})


@pytest.mark.parametrize(
    "values",
    [
        {"llama.attention.head_count_kv": 4},
        {"llama.attention.head_count": 5},
        {"llama.rope.dimension_count": 16},
        {"llama.attention.value_length": 16},
        {"llama.attention.head_count": 192, "llama.attention.head_count_kv": 192},
        {"llama.attention.head_count": (1 << 31) - 1},
        {"llama.embedding_length": (1 << 31) - 1},
    ],
    ids=["no groups", "no heads", "rotates a part", "other values", "heads of 1", "absurd heads", "absurd hidden size"],
)
def test_heads_that_do_not_make_the_hidden_size_are_an_error(read: Read, values: dict[str, Value]) -> None:
    with pytest.raises(
        ModelFileError, match=r"do not make a hidden size of|must be equal|must say llama\.attention\.key_length"
    ):
        read(values=values)


@pytest.mark.parametrize("ffn", [95, 192, (1 << 31) - 1])
def test_another_ffn_size_than_the_tensors_have_is_an_error(read: Read, ffn: int) -> None:
    with pytest.raises(ModelFileError, match=r"ffn_gate\.weight is \(96, 192\); the metadata promise"):
        read(values={"llama.feed_forward_length": ffn})


@pytest.mark.parametrize("layers", [3, 20])
def test_more_layers_than_there_are_tensors_for_is_an_error(read: Read, layers: int) -> None:
    with pytest.raises(ModelFileError, match=rf"lacks {9 * (layers - 2)} tensors, such as blk\.2\."):
        read(values={"llama.block_count": layers})


def test_fewer_layers_than_there_are_tensors_for_is_an_error(read: Read) -> None:
    with pytest.raises(ModelFileError, match=r"no llama model has: blk\.1\."):
        read(values={"llama.block_count": 1})


def test_absurd_promises_are_refused_before_memory_is_asked_for(read: Read) -> None:
    with pytest.raises(ModelFileError, match=r"promises 10000 layers and has \d+ tensors"):
        read(values={"llama.block_count": 10_000})
    with pytest.raises(ModelFileError, match=r"llama\.block_count, a number from 1 to 10000"):
        read(values={"llama.block_count": 10**9})
    with pytest.raises(ModelFileError, match=r"llama\.context_length, a number from 1 to 16777216"):
        read(values={"llama.context_length": 2**31 - 1})


def test_more_tokens_than_embeddings_are_refused(tmp_path: Path) -> None:
    file = gguf.read(MODEL.written(tmp_path / "model.gguf"))
    named = {"tokenizer.ggml.tokens": [str(place) for place in range(MODEL.vocab_size + 1)]}
    with pytest.raises(ModelFileError, match="has 51 tokens and embeddings of 50"):
        gguf_decoder(replace(file, metadata=file.metadata | named))


def test_heads_of_an_absurd_size_are_refused_before_anything_is_made_of_them(read: Read) -> None:
    with pytest.raises(ModelFileError, match=r"llama\.attention\.key_length, a number from 1 to 65536"):
        read(values={"llama.attention.key_length": (1 << 31) - 2})
