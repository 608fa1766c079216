"""Small random llama models as the bytes of a GGUF file, whole or wrong in one place."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType
from gguf_bytes import FLOAT32, INT32, STRING, entry, gguf_bytes, pair, text, u32
from quantised import random_tensor, tensor_of

from genkan.engine.load import gguf
from genkan.engine.load.gguf import GgufTensor
from genkan.engine.models.gguf_decoder import gguf_decoder
from genkan.engine.models.stored import StoredDecoder

Value = int | float | str


@dataclass(frozen=True, kw_only=True)
class TinyLlama:
    """What a model is to be. ``kinds`` gives, by the end of a tensor's name, another kind than ``kind``."""

    heads: int = 2
    kv_heads: int = 1
    head_dim: int = 32
    ffn: int = 96
    layers: int = 2
    vocab_size: int = 50
    context_length: int = 512
    kind: str = "Q4_1"
    kinds: Mapping[str, str] = field(default_factory=dict)
    own_head: bool = False
    seed: int = 0

    @property
    def hidden(self) -> int:
        return self.heads * self.head_dim

    def metadata(self) -> dict[str, Value]:
        return {
            "general.architecture": "llama",
            "llama.block_count": self.layers,
            "llama.embedding_length": self.hidden,
            "llama.attention.head_count": self.heads,
            "llama.attention.head_count_kv": self.kv_heads,
            "llama.feed_forward_length": self.ffn,
            "llama.context_length": self.context_length,
            "llama.attention.layer_norm_rms_epsilon": 1e-5,
            "llama.rope.freq_base": 10_000.0,
        }

    def tensors(self) -> dict[str, GgufTensor]:
        """By name; values are of a size that keeps every layer's activations near 1."""
        random = np.random.default_rng(self.seed)
        tensors = {}
        for name, shape in self._shapes().items():
            if len(shape) == 1:
                weights = random.uniform(0.5, 1.5, shape).astype(np.float32)
                tensors[name] = tensor_of("F32", shape, weights)
            else:
                kind = next((kind for end, kind in self.kinds.items() if name.endswith(end)), self.kind)
                spread = 1.0 if name == "token_embd.weight" else shape[1] ** -0.5
                tensors[name] = random_tensor(kind, (shape[0], shape[1]), random, spread=spread)
        return tensors

    def written(self, path: Path) -> Path:
        """The model as a file at ``path``."""
        path.write_bytes(file_bytes(self.metadata(), self.tensors()))
        return path

    def read(self, directory: Path) -> StoredDecoder:
        """The model as the engine reads it, from a file in ``directory``."""
        return gguf_decoder(gguf.read(self.written(directory / f"{self.seed}.gguf")))

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        hidden, kv = self.hidden, self.kv_heads * self.head_dim
        shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (self.vocab_size, hidden)}
        for index in range(self.layers):
            layer = {
                "attn_norm": (hidden,), "attn_q": (hidden, hidden), "attn_k": (kv, hidden), "attn_v": (kv, hidden),
                "attn_output": (hidden, hidden), "ffn_norm": (hidden,), "ffn_gate": (self.ffn, hidden),
                "ffn_up": (self.ffn, hidden), "ffn_down": (hidden, self.ffn),
            }  # fmt: skip
            shapes |= {f"blk.{index}.{part}.weight": shape for part, shape in layer.items()}
        shapes["output_norm.weight"] = (hidden,)
        if self.own_head:
            shapes["output.weight"] = (self.vocab_size, hidden)
        return shapes


def file_bytes(metadata: Mapping[str, Value], tensors: Mapping[str, GgufTensor]) -> bytes:
    """A GGUF file of these key-values and tensors."""
    entries, data = [], bytearray()
    for name, tensor in tensors.items():
        data += b"\0" * (-len(data) % 32)
        entries.append(entry(name, tensor.shape[::-1], GGMLQuantizationType[tensor.kind], len(data)))
        data += tensor.data.tobytes()
    return gguf_bytes([_pair(name, value) for name, value in metadata.items()], entries, bytes(data))


def _pair(name: str, value: Value) -> bytes:
    match value:
        case str():
            return pair(name, STRING, text(value))
        case int():
            return pair(name, INT32, u32(value & 0xFFFF_FFFF))
        case float():
            return pair(name, FLOAT32, struct.pack("<f", value))
