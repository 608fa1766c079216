"""The model's forward pass for one sequence, over transformers' llama.

At this stage the engine runs one sequence at a time; the KV cache is transformers' own and lives as long as the
sequence.
"""

import logging
import os
import time
from pathlib import Path
from typing import Any

import torch

from genkan.engine.config import EngineConfig
from genkan.engine.load import gguf
from genkan.engine.load.source import locate
from genkan.errors import ModelFileError

_log = logging.getLogger("genkan.engine")


class ModelRunner:
    """A loaded model. Used by one thread at a time."""

    def __init__(self, config: EngineConfig) -> None:
        """Load it. Raises ModelFileError. Cost: seconds; it blocks."""
        torch.set_num_threads(config.threads or len(os.sched_getaffinity(0)))
        self.dtype = _dtype(config.dtype)
        began = time.monotonic()
        file = gguf.load(locate(config.model), self.dtype, cache_dir(config))
        self.metadata = file.metadata
        self.digest = file.digest
        self._model = _build(file)
        self.max_model_len = _max_model_len(config, file.metadata)
        _log.info("loaded %s in %.1f s (%s)", config.model, time.monotonic() - began, self.dtype)

    def forward(self, ids: list[int], kv: Any) -> tuple[torch.Tensor, Any]:
        """Run ``ids`` after what ``kv`` holds.

        Returns the logits after the last id (``[vocab]``) and the KV cache: ``kv`` grown in place, or a new one when
        ``kv`` is None.
        """
        with torch.inference_mode():
            out = self._model(torch.tensor([ids]), past_key_values=kv, use_cache=True, logits_to_keep=1)
        return out.logits[0, -1], out.past_key_values

    def check(self) -> None:
        """Answer one token, which also makes the first request quick. Raises ModelFileError for what are no numbers."""
        logits, _ = self.forward([0], None)
        if not torch.isfinite(logits).all():
            raise ModelFileError("the model's weights are damaged: its first logits are not numbers")


def cache_dir(config: EngineConfig) -> Path:
    """Where converted weights are kept."""
    if config.cache_dir is not None:
        return config.cache_dir.expanduser()
    return Path(os.environ.get("GENKAN_CACHE_DIR") or Path.home() / ".cache" / "genkan")


def _dtype(name: str) -> torch.dtype:
    if name == "auto":
        # Without these instructions bfloat16 is emulated and slower than float32.
        name = "bfloat16" if torch.cpu._is_avx512_bf16_supported() else "float32"
    return torch.bfloat16 if name == "bfloat16" else torch.float32


def _max_model_len(config: EngineConfig, metadata: dict[str, Any]) -> int:
    own = int(metadata["llama.context_length"])
    wanted = config.max_model_len or own
    if wanted > own:
        raise ModelFileError(f"engine.max_model_len must be at most the model's own {own}; given: {wanted}")
    return wanted


def _build(file: gguf.ModelFile) -> Any:
    scaling = file.metadata.get("llama.rope.scaling.type", "none")
    if scaling != "none":
        raise ModelFileError(f"the model scales its rotary embedding ({scaling}), which the engine does not do yet")
    try:
        return _assembled(file)
    except KeyError as error:
        raise ModelFileError(f"the model file does not say {error}") from error
    except (RuntimeError, ValueError) as error:
        raise ModelFileError(f"the model file's tensors do not fit its metadata: {error}") from error


def _assembled(file: gguf.ModelFile) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    read = file.metadata
    config = LlamaConfig(
        vocab_size=file.tensors["model.embed_tokens.weight"].shape[0],
        hidden_size=read["llama.embedding_length"],
        intermediate_size=read["llama.feed_forward_length"],
        num_hidden_layers=read["llama.block_count"],
        num_attention_heads=read["llama.attention.head_count"],
        num_key_value_heads=read["llama.attention.head_count_kv"],
        max_position_embeddings=read["llama.context_length"],
        rms_norm_eps=read["llama.attention.layer_norm_rms_epsilon"],
        rope_theta=read["llama.rope.freq_base"],
        tie_word_embeddings="lm_head.weight" not in file.tensors,
        attn_implementation="sdpa",
    )
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    tensors = dict(file.tensors)
    if config.tie_word_embeddings:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    missing, unexpected = model.load_state_dict(tensors, strict=False, assign=True)
    if missing or unexpected:
        raise ModelFileError(f"the model file lacks {missing} and has {unexpected} too many")
    rotary = model.model.rotary_emb  # its buffers are computed, not stored, and were left on the meta device
    model.model.rotary_emb = type(rotary)(config=config)
    return model.eval()
