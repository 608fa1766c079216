"""Small random checkpoints of the families, made by transformers: as it saves them, and as llama.cpp converts them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import torch
import transformers
from quantised import tensor_of
from tiny_llama import Value, file_bytes

from genkan.engine.load.gguf import GgufTensor

_Floats = npt.NDArray[np.float32]

SIZES: dict[str, Any] = {
    "vocab_size": 61, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 256, "rms_norm_eps": 1e-5,
    "pad_token_id": None, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
SCALINGS: dict[str, dict[str, Any]] = {
    "linear": {"rope_type": "linear", "factor": 4.0},
    "llama3": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
}  # fmt: skip
WINDOW = 8
_CLASSES = {
    "llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3", "gemma3": "Gemma3Text",
}  # fmt: skip
_ARCHITECTURES = {
    "llama": gguf.MODEL_ARCH.LLAMA, "mistral": gguf.MODEL_ARCH.LLAMA, "qwen2": gguf.MODEL_ARCH.QWEN2,
    "qwen3": gguf.MODEL_ARCH.QWEN3, "gemma3": gguf.MODEL_ARCH.GEMMA3,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TinyCheckpoint:
    """What a model is to be. ``settings`` go before ``SIZES``; ``scaling`` is one of ``SCALINGS``."""

    family: str
    scaling: str | None = None
    windows: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0

    def config(self) -> Any:
        settings: dict[str, Any] = {**SIZES, "rope_parameters": self._rope(), **self.settings}
        if self.family == "qwen2":
            settings["hidden_size"] = settings["num_attention_heads"] * settings.pop("head_dim")
        if self.family == "mistral":
            settings["sliding_window"] = WINDOW if self.windows else None
        elif self.family == "gemma3":  # which has windows in any case; of seven layers the sixth has none
            settings |= {
                "num_hidden_layers": 7,
                "sliding_window": WINDOW,
                "query_pre_attn_scalar": settings["head_dim"],
            }
        elif self.windows:
            settings |= {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1}
        return getattr(transformers, f"{_CLASSES[self.family]}Config")(**settings)

    def model(self) -> Any:
        """In float32, with attention in plain sums; norms and biases are of any value, as training leaves them."""
        config = self.config()
        torch.manual_seed(self.seed)
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "norm" in name:
                    parameter.uniform_(-0.5, 0.5).add_(0.0 if self.family == "gemma3" else 1.0)
                elif name.endswith("bias") or "embed" in name:
                    parameter.normal_()
                else:
                    parameter.normal_().mul_(1.5 * parameter.shape[-1] ** -0.5)
        return model

    def _rope(self) -> dict[str, Any]:
        scaled = SCALINGS[self.scaling] if self.scaling else {"rope_type": "default"}
        if self.family != "gemma3":
            return {"rope_theta": 5_000.0, **scaled}
        return {
            "full_attention": {"rope_theta": 50_000.0, **scaled},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
        }


def write_gguf(model: Any, family: str, path: Path) -> Path:
    """``model`` as llama.cpp's converter writes it, in float32."""
    path.write_bytes(file_bytes(_metadata(model.config, family), _tensors(model, family)))
    return path


def _metadata(config: Any, family: str) -> dict[str, Value]:
    arch = gguf.MODEL_ARCH_NAMES[_ARCHITECTURES[family]]
    rope = config.rope_parameters.get("full_attention", config.rope_parameters)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    values: dict[str, Value] = {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": head_dim,
        "attention.value_length": head_dim,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "rope.freq_base": rope["rope_theta"],
    }
    if family in ("llama", "mistral"):
        values["rope.dimension_count"] = head_dim
    if family in ("gemma3", "mistral") and config.sliding_window:
        values["attention.sliding_window"] = config.sliding_window
    if rope["rope_type"] in ("linear", "yarn"):
        values |= {"rope.scaling.type": rope["rope_type"], "rope.scaling.factor": rope["factor"]}
    if rope["rope_type"] == "yarn":
        values["rope.scaling.original_context_length"] = rope["original_max_position_embeddings"]
    return {"general.architecture": arch, **{f"{arch}.{name}": value for name, value in values.items()}}


def _tensors(model: Any, family: str) -> dict[str, GgufTensor]:
    config = model.config
    names = gguf.get_tensor_name_map(_ARCHITECTURES[family], config.num_hidden_layers)
    tensors = {}
    for name, parameter in model.state_dict().items():
        values = parameter.detach().float().numpy()
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        if family in ("llama", "mistral") and name.endswith(("q_proj.weight", "k_proj.weight")):
            is_query = name.endswith("q_proj.weight")
            values = _interleaved(values, config.num_attention_heads if is_query else config.num_key_value_heads)
        if family == "gemma3" and name.endswith("norm.weight"):
            values = values + 1
        stored = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert stored is not None, name
        tensors[stored] = tensor_of("F32", values.shape, values)
    rope = config.rope_parameters
    if rope.get("rope_type") == "llama3":
        factors = _llama3_factors(rope, config.head_dim)
        tensors["rope_freqs.weight"] = tensor_of("F32", factors.shape, factors)
    return tensors


def _interleaved(values: _Floats, heads: int) -> _Floats:
    """As ``LlamaModel.permute`` of the converter does it."""
    return values.reshape(heads, 2, -1, values.shape[1]).swapaxes(1, 2).reshape(values.shape)


def _llama3_factors(rope: Mapping[str, Any], head_dim: int) -> _Floats:
    """As ``LlamaModel.generate_extra_tensors`` of the converter does it."""
    low, high, old = rope["low_freq_factor"], rope["high_freq_factor"], rope["original_max_position_embeddings"]
    factors = []
    for index in range(0, head_dim, 2):
        wavelength = 2 * math.pi * rope["rope_theta"] ** (index / head_dim)
        if wavelength < old / high:
            factors.append(1.0)
        elif wavelength > old / low:
            factors.append(rope["factor"])
        else:
            smooth = (old / wavelength - low) / (high - low)
            factors.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(factors, dtype=np.float32)
