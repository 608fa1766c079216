"""Encoders as Hugging Face and sentence-transformers keep them: BERT, RoBERTa, XLM-RoBERTa and their like.

A folder with ``config.json``, ``tokenizer.json`` and ``model.safetensors``; ``1_Pooling/config.json`` says how a text's
vector is made of its tokens', and is the mean if there is none. What this cannot compute is refused: other layers after
the pooling, relative positions, other activations.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from genkan.embedding.encoder import Encoder, EncoderWeights, Layer, Norm, Pooling
from genkan.embedding.linear import Gelu, Linear, linear
from genkan.embedding.model_path import CONFIG_FILE, TOKENIZER_FILE, WEIGHTS_FILE
from genkan.embedding.text_ids import TextIds, from_file
from genkan.errors import ModelFileError

#: Whether positions are counted from the one after padding's, as fairseq did.
_KINDS = {"bert": False, "roberta": True, "xlm-roberta": True, "camembert": True}
_GELU: dict[str, Gelu] = {"gelu": "none", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}
_MODULES = ("Transformer", "Pooling", "Normalize")
_POOLING: dict[str, Pooling] = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
_WORDS = "embeddings.word_embeddings.weight"


class TensorWords:
    """A table of words in memory; on the CPU it is mapped from the file, and takes what its used rows take."""

    def __init__(self, table: Tensor) -> None:
        self._table = table

    def rows(self, ids: NDArray[np.int64]) -> Tensor:
        """See WordTable."""
        return self._table[torch.from_numpy(ids).to(self._table.device)].float()


def load_folder(folder: Path, *, device: torch.device, dtype: torch.dtype, threads: int) -> tuple[Encoder, TextIds]:
    """The model and its tokenizer. Raises ModelFileError."""
    try:
        _check_modules(folder / "modules.json")
        settings = json.loads((folder / CONFIG_FILE).read_text("utf-8"))
        with safe_open(folder / WEIGHTS_FILE, framework="pt", device=str(device)) as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
        weights = _Weights(settings, tensors, device, dtype).read(_pooling(folder / "1_Pooling" / "config.json"))
    except KeyError as error:
        raise ModelFileError(f"{folder} has no {error} in its weights or {CONFIG_FILE}") from error
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        raise ModelFileError(f"{folder} has no model that can be read: {error}") from error
    return Encoder(weights, threads), from_file(folder / TOKENIZER_FILE)


class _Weights:
    """Finds a model's tensors by the names that Hugging Face's classes give them."""

    def __init__(
        self, settings: dict[str, Any], tensors: dict[str, Tensor], device: torch.device, dtype: torch.dtype
    ) -> None:
        self._settings = settings
        self._tensors = tensors
        self._device = device
        self._dtype = dtype
        # A model that was saved with a head has all of them under a name of its own.
        self._root = next((name.removesuffix(_WORDS) for name in tensors if name.endswith(_WORDS)), "")

    def read(self, pooling: Pooling) -> EncoderWeights:
        settings = self._settings
        kind = settings["model_type"]
        positions_kind = settings.get("position_embedding_type", "absolute")
        if kind not in _KINDS or positions_kind != "absolute" or settings["hidden_act"] not in _GELU:
            raise ModelFileError(
                f"a model of type {kind!r} with positions {positions_kind!r} and activation {settings['hidden_act']!r} "
                f"cannot be run; known: {', '.join(_KINDS)}, 'absolute', {', '.join(_GELU)}"
            )
        first = settings["pad_token_id"] + 1 if _KINDS[kind] else 0
        kinds = self._tensors.get(f"{self._root}embeddings.token_type_embeddings.weight")
        positions = self._vector("embeddings.position_embeddings.weight")[first:]
        return EncoderWeights(
            words=TensorWords(self._tensors[self._root + _WORDS]),
            positions=positions if kinds is None else positions + kinds[0].float(),
            norm=self._norm("embeddings.LayerNorm"),
            layers=[self._layer(f"encoder.layer.{number}") for number in range(settings["num_hidden_layers"])],
            heads=settings["num_attention_heads"],
            eps=settings["layer_norm_eps"],
            pooling=pooling,
        )

    def _layer(self, at: str) -> Layer:
        parts = [f"{at}.attention.self.{part}" for part in ("query", "key", "value")]
        return Layer(
            qkv=self._linear(*parts),
            out=self._linear(f"{at}.attention.output.dense"),
            attention_norm=self._norm(f"{at}.attention.output.LayerNorm"),
            up=self._linear(f"{at}.intermediate.dense", gelu=_GELU[self._settings["hidden_act"]]),
            down=self._linear(f"{at}.output.dense"),
            output_norm=self._norm(f"{at}.output.LayerNorm"),
        )

    def _linear(self, *names: str, gelu: Gelu | None = None) -> Linear:
        weight = torch.cat([self._tensors[f"{self._root}{name}.weight"] for name in names])
        bias = torch.cat([self._tensors[f"{self._root}{name}.bias"] for name in names])
        return linear(weight.to(self._device, self._dtype), bias, gelu)

    def _norm(self, name: str) -> Norm:
        return Norm(self._vector(f"{name}.weight"), self._vector(f"{name}.bias"))

    def _vector(self, name: str) -> Tensor:
        return self._tensors[self._root + name].to(self._device, torch.float32, copy=True)


def _check_modules(path: Path) -> None:
    """Raises ModelFileError where sentence-transformers would compute something after the pooling."""
    if path.is_file():
        kinds = [module["type"].rpartition(".")[2] for module in json.loads(path.read_text("utf-8"))]
        if others := [kind for kind in kinds if kind not in _MODULES]:
            raise ModelFileError(f"{path} asks for {', '.join(others)}, which is not known")


def _pooling(path: Path) -> Pooling:
    if not path.is_file():
        return "mean"
    settings = json.loads(path.read_text("utf-8"))
    modes = [name for name, value in settings.items() if name.startswith("pooling_mode_") and value is True]
    if len(modes) != 1 or modes[0] not in _POOLING:
        raise ModelFileError(f"{path} asks for {' and '.join(modes) or 'nothing'}; known: {', '.join(_POOLING)}")
    return _POOLING[modes[0]]
