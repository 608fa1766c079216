"""The llama family as a GGUF file describes it: shape, rotary table, and the tensors of each layer.

A layer's projections are joined here where one product can do the work of several: queries, keys and values; gate and
up. llama.cpp stores the rows of the query and key projections in the order of its interleaved rotary embedding; the
order that half-split rotation needs is given beside each tensor.
"""

from typing import Any

import torch

from genkan.engine.load.blocks import dense, half_split_order
from genkan.engine.load.gguf import GgufFile
from genkan.engine.models.decoder import DecoderLayer, DecoderShape, LayerKind, Rotary, Rows
from genkan.errors import ModelFileError

ARCHITECTURE = "llama"
MAX_LAYERS = 10_000
MAX_CONTEXT = 1 << 24  # tokens; a file that promises more is damaged
_LAYER_PARTS = (
    "attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down",
)  # fmt: skip


class LlamaFile:
    """A model file of the family, checked: every tensor is there, in the shape that the metadata promise."""

    def __init__(self, file: GgufFile) -> None:
        """Raises ModelFileError for another architecture, for what is missing, and for what does not fit."""
        self.file = file
        self.shape = _shape(file)
        self._check_tensors()

    @property
    def digest(self) -> str:
        return self.file.digest

    @property
    def embedding(self) -> Rows:
        return Rows(self.file.tensors["token_embd.weight"])

    @property
    def head(self) -> Rows:
        """The output projection, which is the embedding where the file has none of its own."""
        return Rows(self.file.tensors.get("output.weight", self.embedding.tensor))

    @property
    def final_norm(self) -> torch.Tensor:
        return dense(self.file.tensors["output_norm.weight"])

    def layer(self, index: int) -> DecoderLayer:
        parts = {part: self.file.tensors[f"blk.{index}.{part}.weight"] for part in _LAYER_PARTS}
        queries, keys = parts["attn_q"], parts["attn_k"]
        return DecoderLayer(
            attention_norm=dense(parts["attn_norm"]),
            qkv=(
                Rows(queries, half_split_order(queries.shape[0], self.shape.heads)),
                Rows(keys, half_split_order(keys.shape[0], self.shape.kv_heads)),
                Rows(parts["attn_v"]),
            ),
            out=Rows(parts["attn_output"]),
            ffn_norm=dense(parts["ffn_norm"]),
            gate=Rows(parts["ffn_gate"]),
            up=Rows(parts["ffn_up"]),
            down=Rows(parts["ffn_down"]),
        )

    def _check_tensors(self) -> None:
        tensors = self.file.tensors
        if self.shape.layers > len(tensors):  # before there is a list of all that they should have
            raise ModelFileError(f"the model file promises {self.shape.layers} layers and has {len(tensors)} tensors")
        expected = _expected_shapes(self.shape)
        if "rope_freqs.weight" in tensors:
            raise ModelFileError("the model scales its rotary embedding (rope_freqs), which the engine does not do yet")
        if missing := [name for name in expected if name not in tensors and name != "output.weight"]:
            raise ModelFileError(f"the model file lacks {len(missing)} tensors, such as {missing[0]}")
        if unknown := [name for name in tensors if name not in expected]:
            raise ModelFileError(f"the model file holds a tensor that no llama model has: {unknown[0]}")
        for name, tensor in tensors.items():
            if tensor.shape != expected[name]:
                raise ModelFileError(f"the tensor {name} is {tensor.shape}; the metadata promise {expected[name]}")


def _shape(file: GgufFile) -> DecoderShape:
    read = _Metadata(file.metadata)
    read.must_be("general.architecture", ARCHITECTURE)
    read.must_be("llama.rope.scaling.type", "none", default="none")
    heads, hidden = read.count("llama.attention.head_count"), read.count("llama.embedding_length")
    kv_heads = read.count("llama.attention.head_count_kv", default=heads)
    head_dim = read.count("llama.rope.dimension_count", default=hidden // heads)
    if heads % kv_heads or head_dim * heads != hidden or head_dim % 2:
        raise ModelFileError(
            f"{heads} attention heads and {kv_heads} KV heads of {head_dim} do not make a hidden size of {hidden}"
        )
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2:
        raise ModelFileError("the model file lacks the tensor token_embd.weight")
    layers = read.count("llama.block_count", most=MAX_LAYERS)
    return DecoderShape(
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        ffn=read.count("llama.feed_forward_length"),
        vocab_size=embedding.shape[0],
        context_length=read.count("llama.context_length", most=MAX_CONTEXT),
        norm_epsilon=read.number("llama.attention.layer_norm_rms_epsilon"),
        attention_scale=head_dim**-0.5,
        kinds=(LayerKind(),) * layers,
        rotaries=(Rotary(_frequencies(read.number("llama.rope.freq_base", default=10_000.0), head_dim)),),
    )


def _frequencies(base: float, dim: int) -> torch.Tensor:
    return 1.0 / (base ** (torch.arange(0, dim, 2, dtype=torch.int64).float() / dim))


def _expected_shapes(shape: DecoderShape) -> dict[str, tuple[int, ...]]:
    hidden, kv = shape.hidden, shape.kv_heads * shape.head_dim
    parts: dict[str, tuple[int, ...]] = {
        "attn_norm": (hidden,),
        "attn_q": (hidden, hidden),
        "attn_k": (kv, hidden),
        "attn_v": (kv, hidden),
        "attn_output": (hidden, hidden),
        "ffn_norm": (hidden,),
        "ffn_gate": (shape.ffn, hidden),
        "ffn_up": (shape.ffn, hidden),
        "ffn_down": (hidden, shape.ffn),
    }
    expected: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (shape.vocab_size, hidden),
        "output_norm.weight": (hidden,),
        "output.weight": (shape.vocab_size, hidden),
    }
    for index in range(shape.layers):
        expected |= {f"blk.{index}.{part}.weight": parts[part] for part in _LAYER_PARTS}
    return expected


class _Metadata:
    """Typed reading of a file's key-values; ModelFileError names what is missing or of another kind."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    def must_be(self, name: str, wanted: str, *, default: str | None = None) -> None:
        given = self._values.get(name, default)
        if given != wanted:
            raise ModelFileError(f"the model's {name} is {given!r}; the engine runs: {wanted}")

    def count(self, name: str, *, default: int | None = None, most: int = (1 << 31) - 1) -> int:
        value = self._values.get(name, default)
        if type(value) is not int or not 0 < value <= most:
            raise ModelFileError(f"the model file must say {name}, a number from 1 to {most}; it says: {value!r}")
        return value

    def number(self, name: str, *, default: float | None = None) -> float:
        value = self._values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise ModelFileError(f"the model file must say {name}, a positive number; it says: {value!r}")
        return float(value)
