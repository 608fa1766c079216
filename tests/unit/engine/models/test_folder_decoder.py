"""What a ``config.json`` says of a model: the same in the forms of transformers 4 and 5; and what is refused."""

import json
from pathlib import Path
from typing import Any, Protocol

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_checkpoints import SCALINGS, WINDOW, TinyCheckpoint

from genkan.engine.load import folder
from genkan.engine.load.blocks import dense
from genkan.engine.models.decoder import Decoder, DecoderShape, LayerKind
from genkan.engine.models.folder_decoder import folder_decoder
from genkan.errors import ModelFileError

FAMILIES = ["llama", "mistral", "qwen2", "qwen3", "gemma3"]


class Read(Protocol):
    def __call__(self, checkpoint: TinyCheckpoint, *, without: tuple[str, ...] = (), **changes: Any) -> Decoder: ...


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Saves a checkpoint and reads it, with other entries in its ``config.json``, and without some."""

    def read(checkpoint: TinyCheckpoint, *, without: tuple[str, ...] = (), **changes: Any) -> Decoder:
        checkpoint.model().save_pretrained(tmp_path)
        config = json.loads((tmp_path / "config.json").read_text()) | changes
        (tmp_path / "config.json").write_text(json.dumps({k: v for k, v in config.items() if k not in without}))
        return folder_decoder(folder.read(tmp_path))

    return read


def frequencies(shape: DecoderShape) -> list[list[float]]:
    return [rotary.frequencies.tolist() for rotary in shape.rotaries]


# The forms of version 4


@pytest.mark.parametrize("name", ["type", "rope_type"])
@pytest.mark.parametrize("scaling", [None, *SCALINGS])
@pytest.mark.parametrize("family", FAMILIES)
def test_rotary_embeddings_of_version_4_are_those_of_version_5(
    read: Read, family: str, scaling: str | None, name: str
) -> None:
    checkpoint = TinyCheckpoint(family=family, scaling=scaling)
    new = read(checkpoint).shape
    settings = None
    if scaling is not None:
        settings = {name if key == "rope_type" else key: value for key, value in SCALINGS[scaling].items()}
    is_gemma = family == "gemma3"
    base = {"rope_theta": 50_000.0, "rope_local_base_freq": 10_000.0} if is_gemma else {"rope_theta": 5_000.0}
    old = read(checkpoint, without=("rope_parameters",), rope_scaling=settings, **base).shape
    assert frequencies(old) == frequencies(new)
    assert [each.attention_factor for each in old.rotaries] == [each.attention_factor for each in new.rotaries]


def test_a_base_that_is_not_said_is_the_familys(read: Read) -> None:
    shape = read(TinyCheckpoint(family="gemma3"), without=("rope_parameters",)).shape
    assert [1 / row[1] for row in frequencies(shape)] == pytest.approx([1e6 ** (1 / 8), 1e4 ** (1 / 8)])
    shape = read(TinyCheckpoint(family="llama"), without=("rope_parameters",)).shape
    assert 1 / frequencies(shape)[0][1] == pytest.approx(1e4 ** (1 / 8))


def test_gemmas_pattern_may_be_a_number(read: Read) -> None:
    gemma = TinyCheckpoint(family="gemma3")
    local, everywhere = LayerKind(WINDOW, 1), LayerKind()
    six = (*[local] * 5, everywhere, local)
    assert read(gemma).shape.kinds == six
    assert read(gemma, without=("layer_types",)).shape.kinds == six
    three = read(gemma, without=("layer_types",), sliding_window_pattern=3).shape.kinds
    assert three == (local, local, everywhere, local, local, everywhere, local)


@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
def test_qwens_windows_begin_at_a_layer_and_only_if_they_are_used(read: Read, family: str) -> None:
    checkpoint = TinyCheckpoint(family=family, windows=True)
    first_whole = (LayerKind(), LayerKind(WINDOW))
    assert read(checkpoint).shape.kinds == first_whole
    assert read(checkpoint, without=("layer_types",)).shape.kinds == first_whole
    assert read(checkpoint, without=("layer_types",), max_window_layers=0).shape.kinds == (LayerKind(WINDOW),) * 2
    assert read(checkpoint, without=("layer_types",), use_sliding_window=False).shape.kinds == (LayerKind(),) * 2


def test_mistral_has_a_window_unless_it_says_that_it_has_none(read: Read) -> None:
    mistral = TinyCheckpoint(family="mistral")
    assert read(mistral).shape.kinds == (LayerKind(),) * 2
    assert read(mistral, without=("sliding_window",)).shape.kinds == (LayerKind(4096),) * 2
    assert read(mistral, sliding_window=3).shape.kinds == (LayerKind(3),) * 2


def test_the_size_of_a_head_follows_from_the_others_where_it_is_not_said(read: Read) -> None:
    settings = {"head_dim": 12}
    assert read(TinyCheckpoint(family="llama", settings=settings), without=("head_dim",)).shape.head_dim == 12
    assert read(TinyCheckpoint(family="llama", settings=settings), head_dim=None).shape.head_dim == 12


def test_gemmas_norms_count_from_one_and_its_embeddings_are_scaled(read: Read, tmp_path: Path) -> None:
    gemma = read(TinyCheckpoint(family="gemma3"))
    saved = load_file(tmp_path / "model.safetensors")
    assert torch.equal(gemma.final_norm, saved["model.norm.weight"] + 1)
    assert torch.equal(gemma.layer(0).ffn_norm, saved["model.layers.0.pre_feedforward_layernorm.weight"] + 1)
    assert (gemma.shape.embedding_scale, gemma.shape.activation) == (48**0.5, "gelu_tanh")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_are_what_was_saved_in_any_type(read: Read, tmp_path: Path, dtype: torch.dtype) -> None:
    read(TinyCheckpoint(family="llama"))
    saved = {name: tensor.to(dtype) for name, tensor in load_file(tmp_path / "model.safetensors").items()}
    save_file(saved, tmp_path / "model.safetensors")
    model = folder_decoder(folder.read(tmp_path))
    assert torch.equal(dense(model.layer(1).down.tensor), saved["model.layers.1.mlp.down_proj.weight"].float())


def test_a_model_in_many_files_is_the_same(read: Read, tmp_path: Path) -> None:
    one = read(TinyCheckpoint(family="qwen3"))
    TinyCheckpoint(family="qwen3").model().save_pretrained(tmp_path / "many", max_shard_size="20KB")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 3
    many = folder_decoder(folder.read(tmp_path / "many"))
    assert many.shape.vocab_size == one.shape.vocab_size
    for index in range(2):
        assert torch.equal(dense(many.layer(index).gate.tensor), dense(one.layer(index).gate.tensor))


# Heads


def test_a_tied_head_is_the_embedding_even_if_there_is_another(read: Read, tmp_path: Path) -> None:
    tied = read(TinyCheckpoint(family="llama"), tie_word_embeddings=True)
    assert "lm_head.weight" in load_file(tmp_path / "model.safetensors")
    assert tied.head.tensor is tied.embedding.tensor


def test_an_untied_head_that_is_missing_is_named(read: Read) -> None:
    with pytest.raises(ModelFileError, match=r"lacks 1 tensors, such as lm_head\.weight"):
        read(TinyCheckpoint(family="llama", settings={"tie_word_embeddings": True}), tie_word_embeddings=False)


def test_frequencies_that_old_versions_saved_are_passed_over(read: Read, tmp_path: Path) -> None:
    read(TinyCheckpoint(family="llama"))
    saved = load_file(tmp_path / "model.safetensors")
    save_file(saved | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)}, tmp_path / "model.safetensors")
    assert folder_decoder(folder.read(tmp_path)).shape.layers == 2


# What is refused

YARN = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4}


def test_a_tensor_that_no_such_model_has_is_named(read: Read, tmp_path: Path) -> None:
    read(TinyCheckpoint(family="llama"))
    saved = load_file(tmp_path / "model.safetensors")
    save_file(saved | {"model.layers.0.self_attn.o_proj.bias": torch.ones(48)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelFileError, match=r"no llama model has: model\.layers\.0\.self_attn\.o_proj\.bias"):
        folder_decoder(folder.read(tmp_path))


@pytest.mark.parametrize("kind", ["dynamic", "longrope", "su", 7])
@pytest.mark.parametrize("name", ["rope_parameters", "rope_scaling"])
def test_a_scaling_that_the_engine_does_not_do_is_named(read: Read, kind: object, name: str) -> None:
    settings = {"rope_type": kind, "factor": 2.0, "rope_theta": 1e4}
    without = ("rope_parameters",) if name == "rope_scaling" else ()
    with pytest.raises(ModelFileError, match=rf"scaled by {kind!r}; the engine knows: default, linear, llama3, yarn"):
        read(TinyCheckpoint(family="llama"), without=without, **{name: settings})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"architectures": ["LlamaForCausalLM", "Other"]}, "must name one architecture"),
        ({"architectures": None}, "must name one architecture"),
        ({"architectures": ["OtherForCausalLM"]}, "is OtherForCausalLM; the engine runs: LlamaForCausalLM"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantised by another library"),
        ({"attention_bias": True}, "attention_bias is True; the engine runs: False"),
        ({"mlp_bias": True}, "mlp_bias is True"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu'; the engine runs: silu"),
        ({"final_logit_softcapping": 30.0}, "final_logit_softcapping, which the engine does not do"),
        ({"partial_rotary_factor": 0.5}, "rotates a part of each head"),
        ({"rope_parameters": 7}, "rope_parameters must be an object"),
        ({"num_attention_heads": 3}, "do not share"),
        ({"num_hidden_layers": 0}, "must say num_hidden_layers, a number from 1"),
        ({"num_hidden_layers": 1000}, "promises 1000 layers"),
        ({"hidden_size": "48"}, "must say hidden_size, a number"),
        ({"vocab_size": 62}, r"lm_head\.weight is \(61, 48\); the metadata promise \(62, 48\)"),
        ({"rms_norm_eps": 0}, "must say rms_norm_eps, a positive number"),
        ({"tie_word_embeddings": 1}, "must say tie_word_embeddings, true or false"),
        ({"max_position_embeddings": 1 << 40}, "must say max_position_embeddings"),
        ({"head_dim": (1 << 31) - 2}, "must say head_dim, a number from 1 to 65536"),
        ({"rms_norm_eps": 10**400}, "must say rms_norm_eps, a positive number"),
        ({"rope_parameters": YARN | {"rope_theta": 1.0}}, "cannot be computed: float division by zero"),
        ({"rope_parameters": YARN | {"beta_fast": 5e-324}}, "rotary embedding cannot be computed"),
        ({"rope_parameters": {"rope_theta": 1e-300}}, "rotary embedding has frequencies that are no numbers"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(read: Read, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelFileError, match=said):
        read(TinyCheckpoint(family="llama"), **changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"layer_types": ["full_attention"]}, "must say for each of 2 layers how far it sees"),
        ({"layer_types": ["full_attention", "linear_attention"]}, "must say for each of 2 layers how far it sees"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "use_sliding_window is False"),
        ({"layer_types": None, "max_window_layers": "1"}, "max_window_layers is no number: '1'"),
        ({"layer_types": None, "use_sliding_window": 1}, "must say use_sliding_window, true or false"),
    ],
)
def test_windows_that_do_not_fit_are_refused(read: Read, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelFileError, match=said):
        read(TinyCheckpoint(family="qwen3"), **changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden_activation": "gelu"}, "hidden_activation is 'gelu'"),
        ({"attn_logit_softcapping": 50.0}, "attn_logit_softcapping, which the engine does not do"),
        ({"use_bidirectional_attention": True}, "use_bidirectional_attention is True"),
        ({"sliding_window": 0}, "must say sliding_window, a number from 1"),
    ],
)
def test_variants_of_gemma_are_refused(read: Read, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelFileError, match=said):
        read(TinyCheckpoint(family="gemma3"), **changes)
