"""The part of a multimodal model that reads and writes text: its configuration and its tensors, as of a model of text.

Source: ``Gemma3TextConfig`` of transformers, for what is meant where a file says nothing; published ones say little.
"""

from dataclasses import replace
from typing import Any

from genkan.engine.load.folder import ModelFolder
from genkan.errors import ModelFileError

#: A multimodal architecture: that of its text part.
TEXT_PARTS = {"Gemma3ForConditionalGeneration": "Gemma3ForCausalLM"}

_GEMMA3: dict[str, Any] = {
    "vocab_size": 262_208, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
    "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "max_position_embeddings": 131_072,
}  # fmt: skip
_PREFIXES = {"language_model.": "", "model.language_model.": "model.", "lm_head.": "lm_head."}
_OTHER_PARTS = ("vision_tower.", "multi_modal_projector.", "model.vision_tower.", "model.multi_modal_projector.")


def text_part(folder: ModelFolder, architecture: str) -> ModelFolder:
    """``folder`` as one of ``TEXT_PARTS[architecture]``. Raises ModelFileError for a tensor of no known part."""
    own = folder.config.get("text_config")
    if not isinstance(own, dict):
        raise ModelFileError(f"{folder.path} has no text_config in its config.json")
    config = {**_GEMMA3, **own, "architectures": [TEXT_PARTS[architecture]]}
    tensors = {_name(name): tensor for name, tensor in folder.tensors.items() if not name.startswith(_OTHER_PARTS)}
    return replace(folder, config=config, tensors=tensors)


def _name(name: str) -> str:
    for prefix, instead in _PREFIXES.items():
        if name.startswith(prefix):
            return instead + name.removeprefix(prefix)
    raise ModelFileError(f"the model file holds a tensor that is of no known part: {name}")
