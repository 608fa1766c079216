"""The text part of a multimodal model: what transformers computes without images, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from forced_runs import logits_at, token_ids
from safetensors.torch import load_file, save_file
from tiny_checkpoints import SIZES

from genkan.engine.models.opened import opened
from genkan.engine.torch_model import TorchModel
from genkan.errors import ModelFileError

IDS = token_ids(40, vocab_size=61)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    saved(tmp_path)
    return tmp_path


def saved(directory: Path) -> Any:
    torch.manual_seed(0)
    config = transformers.Gemma3Config(
        text_config={**SIZES, "sliding_window": 8, "query_pre_attn_scalar": 16},
        vision_config={
            "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
            "image_size": 28, "patch_size": 14,
        },
        mm_tokens_per_image=4,
    )  # fmt: skip
    model = transformers.Gemma3ForConditionalGeneration._from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.model.language_model.parameters():
            parameter.normal_().mul_(parameter.shape[-1] ** -0.5)
    model.save_pretrained(directory)
    return model


@pytest.mark.parametrize("prefix", ["language_model.model.", "model.language_model."])
def test_text_alone_gives_what_transformers_gives(prefix: str, tmp_path: Path) -> None:
    """By the names of tensors that published files have, and by those of later ones."""
    model = saved(tmp_path)
    with torch.inference_mode():
        expected = model(input_ids=torch.tensor([IDS]), token_type_ids=torch.zeros(1, len(IDS), dtype=torch.long))
    tensors = load_file(tmp_path / "model.safetensors")
    renamed = {name.replace("language_model.model.", prefix): tensor for name, tensor in tensors.items()}
    assert any(name.startswith(prefix) for name in renamed)
    save_file(renamed, tmp_path / "model.safetensors")
    decoder, _ = opened(tmp_path)
    assert decoder is not None
    ends = [9, 10, 40]
    ours = logits_at(TorchModel(decoder, positions=64, tiles=4), IDS, ends, [2, 0, 3])
    torch.testing.assert_close(ours, expected.logits[0, [end - 1 for end in ends]], rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"text_config": None}, "has no text_config"), ({"text_config": {"hidden_size": 7}}, "lacks 312 tensors")],
)
def test_a_configuration_that_does_not_fit_is_refused(folder: Path, changes: dict[str, Any], said: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(ModelFileError, match=said):
        opened(folder)


def test_a_tensor_of_no_known_part_is_named(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {"audio_tower.x": torch.ones(2)}, folder / "model.safetensors")
    with pytest.raises(ModelFileError, match=r"of no known part: audio_tower\.x"):
        opened(folder)
