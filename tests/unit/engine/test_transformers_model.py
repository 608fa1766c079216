"""Architectures of transformers' own over our pages: what they give alone, and which are refused, and why."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from forced_runs import blocks_for, logits_at, part, token_ids
from safetensors.torch import load_file, save_file

from genkan.engine.batch import Batch
from genkan.engine.load import folder
from genkan.engine.transformers_model import AttentionShape, TransformersModel
from genkan.errors import ModelFileError

SIZES: dict[str, Any] = {
    "vocab_size": 61, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 128, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
GROUPED = {"num_key_value_heads": 2}
RUN: dict[str, dict[str, Any]] = {
    "Olmo2": GROUPED,
    "Phi3": {**GROUPED, "sliding_window": 8},  # a window
    "GPTNeoX": {},  # rotates a part of each head, adds attention and feed-forward
    "Mixtral": {**GROUPED, "num_local_experts": 4, "sliding_window": None},  # experts
}
IDS, OTHERS = token_ids(75, vocab_size=61), token_ids(20, vocab_size=61, seed=1)
TILES = 16


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Several threads that wait for each other are slower where other tests share the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def saved(name: str, directory: Path, **settings: Any) -> Any:
    """A small random model of transformers', in ``directory`` too."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**SIZES | settings)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():  # so large that every part of the model counts
            if parameter.dim() > 1:
                parameter.normal_().mul_(parameter.shape[-1] ** -0.5)
    model.save_pretrained(directory)
    return model


@pytest.mark.parametrize("name", RUN)
def test_logits_are_those_of_transformers_however_the_work_is_cut(name: str, tmp_path: Path) -> None:
    reference = saved(name, tmp_path, **RUN[name])
    ours = TransformersModel(tmp_path)
    ours.allocate(TILES)
    with torch.inference_mode():
        expected, others = (reference(torch.tensor([ids])).logits[0] for ids in (IDS, OTHERS))
    near = float(expected.abs().max()) * 4e-5

    ends = [1, 30, 31, 32, 33, 70, 75]
    in_chunks = logits_at(ours, IDS, ends, blocks_for(75, of=TILES))
    torch.testing.assert_close(in_chunks, expected[[end - 1 for end in ends]], rtol=0, atol=near)

    long, short = [0, 7, 3, 9, 11], [5, 1]
    first = ours.forward(Batch.of([part(IDS, 0, 74, long), part(OTHERS, 0, 19, short)._replace(outputs=3)]))
    torch.testing.assert_close(first, torch.cat([expected[73:74], others[16:19]]), rtol=0, atol=near)
    decodes = ours.forward(Batch.of([part(OTHERS, 19, 20, short), part(IDS, 74, 75, long)]))
    torch.testing.assert_close(decodes, torch.stack([others[19], expected[74]]), rtol=0, atol=near)


def test_it_says_what_it_is(tmp_path: Path) -> None:
    saved("Olmo2", tmp_path, **GROUPED)
    ours = TransformersModel(tmp_path, dtype=torch.bfloat16)
    assert ours.architecture == "Olmo2ForCausalLM"
    assert (ours.shape, ours.context_length, ours.vocab_size) == (AttentionShape(2, 2, 16), 128, 61)
    assert ours.digest == folder.read(tmp_path).digest
    ours.allocate(3)
    assert (ours.kv.shape, ours.kv.dtype) == ((2, 2, 48, 2, 16), torch.bfloat16)


def test_before_it_is_allocated_there_is_no_cache(tmp_path: Path) -> None:
    saved("Olmo2", tmp_path, **GROUPED)
    with pytest.raises(RuntimeError, match="no KV cache yet"):
        _ = TransformersModel(tmp_path).kv


def test_two_models_do_not_see_each_other(tmp_path: Path) -> None:
    for name in ("a", "b"):
        saved("Olmo2", tmp_path / name, **GROUPED)
    first, second = TransformersModel(tmp_path / "a"), TransformersModel(tmp_path / "b")
    first.allocate(TILES)
    before = first.forward(Batch.of([part(IDS, 0, 20, [0, 1])]))
    second.allocate(2)
    second.forward(Batch.of([part(OTHERS, 0, 20, [0, 1])]))
    after = first.forward(Batch.of([part(IDS, 20, 21, [0, 1])]))
    torch.testing.assert_close(after, logits_at(first, IDS, [21], [2, 3]), rtol=0, atol=1e-4)
    assert not torch.equal(before, after)


# What is refused

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("Gemma2", {**GROUPED, "head_dim": 16}, "it wants softcap"),
    ("GptOss", {**GROUPED, "head_dim": 16, "num_local_experts": 4, "rope_parameters": None}, "it wants s_aux"),
    ("Mamba", {}, "it keeps a state of its own between tokens"),
    ("Bloom", {}, "it takes no positions"),
    ("Lfm2", {**GROUPED, "layer_types": ["full_attention", "conv"]}, "1 of its 2 layers attend"),
    ("Llama4Text", {**GROUPED, "num_local_experts": 2}, "its attention is cut into chunks"),
    ("Olmo2", {**GROUPED, "rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}, "'dynamic'"),
]


@pytest.mark.parametrize(("name", "settings", "why"), REFUSED, ids=[name for name, _, _ in REFUSED])
def test_what_cannot_run_over_pages_is_refused_by_name(
    name: str, settings: dict[str, Any], why: str, tmp_path: Path
) -> None:
    saved(name, tmp_path, **settings)
    with pytest.raises(
        ModelFileError, match=rf"^{name.removesuffix('Text')}\w+ cannot run with paged attention: .*{why}"
    ):
        TransformersModel(tmp_path)


def test_a_model_that_mixes_tokens_elsewhere_is_found_by_trying(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a model as does not say so: here each token takes a part of the one before it in the row."""
    from transformers.models.olmo2.modeling_olmo2 import Olmo2MLP

    saved("Olmo2", tmp_path, **GROUPED)
    plain = Olmo2MLP.forward
    monkeypatch.setattr(Olmo2MLP, "forward", lambda self, x: plain(self, x) + 0.1 * x.roll(1, dims=1))
    with pytest.raises(ModelFileError, match="so tokens mix elsewhere too"):
        TransformersModel(tmp_path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"architectures": None}, "must name one architecture"),
        ({"architectures": ["NoSuchForCausalLM"], "model_type": "no-such"}, "transformers cannot load it"),
        ({"architectures": ["Olmo2ForSequenceClassification"]}, "which generates no text"),
        ({"is_encoder_decoder": True}, "it has an encoder"),
        ({"vision_config": {"a": 1}}, "it is multimodal"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantised by another library"),
        ({"max_position_embeddings": None}, "must say max_position_embeddings"),
        ({"vocab_size": 1 << 24}, r"describes \d+ weights, and its files have \d+"),
        ({"max_position_embeddings": 1}, "its window is a single token"),
        ({"num_hidden_layers": 2_000_000_000}, "must say num_hidden_layers, a number from 1 to"),
        ({"rope_scaling": {"rope_type": ["yarn"]}}, r"is scaled by \['yarn'\]"),
        ({"rope_parameters": [1]}, "transformers cannot load it"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    saved("Olmo2", tmp_path, **GROUPED)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(ModelFileError, match=said):
        TransformersModel(tmp_path)


def test_a_tensor_that_is_missing_is_named_and_not_made_up(tmp_path: Path) -> None:
    saved("Olmo2", tmp_path, **GROUPED)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors.pop("model.layers.1.mlp.up_proj.weight")
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelFileError, match=r"lacks 1 tensors, such as model\.layers\.1\.mlp\.up_proj\.weight"):
        TransformersModel(tmp_path)


def test_code_that_a_folder_brings_is_never_run(tmp_path: Path) -> None:
    saved("Olmo2", tmp_path, **GROUPED)
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    config = json.loads((tmp_path / "config.json").read_text())
    own = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}
    changes = {"model_type": "own", "architectures": ["OwnForCausalLM"], "auto_map": own}
    (tmp_path / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(ModelFileError, match="OwnForCausalLM is none of the engine's, and transformers cannot load it"):
        TransformersModel(tmp_path)
    assert not (tmp_path / "ran").exists()
