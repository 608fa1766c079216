"""GGUF files of the llama family: metadata, and weights as dense tensors under transformers' names.

Reading and dequantising a file takes seconds, so the result is kept beside others in a cache folder, one entry per
file content and dtype: ``weights.safetensors`` (memory-mapped when read again) and ``metadata.json``, which also holds
the checksum of the weights.

llama.cpp stores the rows of the query and key projections in the order of its interleaved rotary embedding; they are
put back into the half-split order that transformers rotates. Keys have fewer heads than queries, and are permuted by
their own number.

Source: GGUF specification; ``LlamaModel.permute`` in llama.cpp's converter for the row order.
"""

import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from genkan.errors import ModelFileError

CONVERTER_VERSION = 2  # raise it when the meaning of a cached entry changes
ARCHITECTURES = ("llama",)

_WEIGHTS = "weights.safetensors"
_PROGRESS_S = 2.0
_log = logging.getLogger("genkan.engine")
_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_BLOCK_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


@dataclass(frozen=True)
class ModelFile:
    """A converted model file.

    ``digest`` is the SHA-256 of the GGUF file. ``metadata`` holds its key-values under GGUF's names. ``tensors`` are
    on the CPU, in the dtype asked for, possibly backed by a memory-mapped file.
    """

    digest: str
    metadata: dict[str, Any]
    tensors: dict[str, torch.Tensor]


def load(path: Path, dtype: torch.dtype, cache_dir: Path) -> ModelFile:
    """The model in ``path``, from the cache if it was converted before.

    A cache folder that cannot be written costs a warning and the conversion at each start. Raises ModelFileError.
    Cost for 135 M parameters on 2 cores: about 4 s the first time, 0.6 s from the cache.
    """
    digest = _sha256(path)
    entry = cache_dir / f"{digest[:16]}-{str(dtype).removeprefix('torch.')}-v{CONVERTER_VERSION}"
    if (cached := _read_entry(entry, digest)) is not None:
        return cached
    _log.info("converting %s to %s, once", path.name, dtype)
    began = time.monotonic()
    model = _convert(path, dtype, digest)
    _log.info("converted in %.1f s", time.monotonic() - began)
    try:
        _write_entry(entry, model)
    except (OSError, SafetensorError) as error:  # safetensors reports a full disk as an error of its own
        _log.warning("converted weights are not kept, the next start converts again: %s", error)
    return model


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_entry(entry: Path, digest: str) -> ModelFile | None:
    if not entry.exists():
        return None
    try:
        written = json.loads((entry / "metadata.json").read_bytes())
        if _sha256(entry / _WEIGHTS) != written["weights_sha256"]:
            raise ModelFileError("its checksum is wrong")
        metadata, tensors = written["gguf"], load_file(entry / _WEIGHTS)
    except Exception as error:  # noqa: BLE001 - a damaged entry, in whatever way: it can be made again
        _log.warning("the cache entry %s is damaged and will be replaced: %s", entry, error)
        shutil.rmtree(entry, ignore_errors=True)
        return None
    return ModelFile(digest, metadata, tensors)


def _write_entry(entry: Path, model: ModelFile) -> None:
    # Written aside and renamed, so that a reader sees a whole entry or none, whoever is killed when.
    entry.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=".writing-", dir=entry.parent))
    try:
        save_file(model.tensors, aside / _WEIGHTS)
        written = {"weights_sha256": _sha256(aside / _WEIGHTS), "gguf": model.metadata}
        (aside / "metadata.json").write_text(json.dumps(written), encoding="utf-8")
        os.replace(aside, entry)
    except OSError:
        if not entry.exists():  # else another process was first, with the same content
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _convert(path: Path, dtype: torch.dtype, digest: str) -> ModelFile:
    from gguf import GGUFReader  # here, because a cached start does not need it

    try:
        reader = GGUFReader(path)
        metadata = {name: field.contents() for name, field in reader.fields.items()}
    except (ValueError, KeyError, IndexError, OverflowError) as error:
        raise ModelFileError(f"{path} is not a readable GGUF file: {error}") from error
    architecture = metadata.get("general.architecture")
    if architecture not in ARCHITECTURES:
        raise ModelFileError(
            f"{path} holds a model of architecture {architecture!r}; the engine runs: {', '.join(ARCHITECTURES)}"
        )
    tensors, said = {}, time.monotonic()
    for number, tensor in enumerate(reader.tensors):
        if time.monotonic() - said > _PROGRESS_S:
            said = time.monotonic()
            _log.info("converted %d of %d tensors", number, len(reader.tensors))
        name = _name_of(tensor.name, path)
        try:
            tensors[name] = _dense(tensor, metadata).to(dtype)
        except (KeyError, RuntimeError, ValueError, NotImplementedError) as error:  # the last: a quantisation
            raise ModelFileError(f"{path}: the tensor {tensor.name} cannot be read: {error}") from error
    return ModelFile(digest, metadata, tensors)


def _name_of(gguf_name: str, path: Path) -> str:
    if gguf_name == "rope_freqs.weight":
        raise ModelFileError(f"{path} scales its rotary embedding (rope_freqs), which the engine does not do yet")
    if gguf_name in _NAMES:
        return _NAMES[gguf_name]
    block, index, part, kind = (*gguf_name.split("."), "", "", "")[:4]
    if block != "blk" or part not in _BLOCK_NAMES or kind != "weight":
        raise ModelFileError(f"{path} holds a tensor that no llama model has: {gguf_name}")
    return f"model.layers.{index}.{_BLOCK_NAMES[part]}.weight"


def _dense(tensor: Any, metadata: dict[str, Any]) -> torch.Tensor:
    from gguf import dequantize

    values = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
    heads = {
        "attn_q": "llama.attention.head_count",
        "attn_k": "llama.attention.head_count_kv",
    }.get(tensor.name.split(".")[-2])
    return values if heads is None else _half_split(values, metadata[heads])


def _half_split(rows: torch.Tensor, num_heads: int) -> torch.Tensor:
    """Rows from interleaved to half-split rotary order; ``[num_heads * d, k]`` in and out."""
    head_dim = rows.shape[0] // num_heads
    return rows.view(num_heads, head_dim // 2, 2, -1).transpose(1, 2).reshape(rows.shape).contiguous()
