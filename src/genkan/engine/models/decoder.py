"""A decoder-only transformer as the engine runs it, whatever kind of file it came from.

All families are one model here: rotary attention with grouped keys, a gated feed-forward, RMS norms. What tells them
apart is data: biases or none, norms on queries and keys or none, norms after attention and feed-forward or none, how
far a layer looks back, which rotary embedding it has.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch

from genkan.engine.load.gguf import GgufTensor

Activation = Literal["silu", "gelu_tanh"]


class Rows(NamedTuple):
    """Some rows of a product's weight matrix: a tensor of the file, and the order its rows are to be in."""

    tensor: GgufTensor
    order: npt.NDArray[np.int64] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Rotary:
    """A rotary embedding by halves: ``frequencies`` float32 ``[head_dim / 2]``, radians a position.

    Both cosines and sines are multiplied by ``attention_factor`` (YaRN's temperature).
    """

    frequencies: torch.Tensor
    attention_factor: float = 1.0

    def table(self, positions: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines, float32 ``[positions, head_dim / 2]``, computed as transformers does."""
        angles = torch.arange(positions).float()[:, None] * self.frequencies[None, :]
        return angles.cos() * self.attention_factor, angles.sin() * self.attention_factor


class LayerKind(NamedTuple):
    """How a layer attends: a token sees ``window`` tokens, itself among them (None: all); ``rotary`` is an index."""

    window: int | None = None
    rotary: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderShape:
    """The sizes of a model, and what else its layers have in common.

    ``context_length`` is the longest window it was trained for, in tokens. Queries times keys are multiplied by
    ``attention_scale``, embeddings by ``embedding_scale``. ``kinds`` has an entry for each layer.
    """

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab_size: int
    context_length: int
    norm_epsilon: float
    attention_scale: float
    kinds: Sequence[LayerKind]
    rotaries: Sequence[Rotary]
    embedding_scale: float = 1.0
    activation: Activation = "silu"


class DecoderLayer(NamedTuple):
    """One layer's weights. ``gate`` and ``up`` have the same shape; a matrix is ``[outputs, inputs]``.

    Vectors are float32. Norm weights are those that multiply. ``qkv_bias`` is in the order of the ``qkv`` rows.
    ``query_norm`` and ``key_norm``, ``[head_dim]``, apply to each head before the rotary embedding;
    ``after_attention_norm`` and ``after_ffn_norm``, ``[hidden]``, before the sum with the residual.
    """

    attention_norm: torch.Tensor
    qkv: Sequence[Rows]
    out: Rows
    ffn_norm: torch.Tensor
    gate: Rows
    up: Rows
    down: Rows
    qkv_bias: torch.Tensor | None = None
    query_norm: torch.Tensor | None = None
    key_norm: torch.Tensor | None = None
    after_attention_norm: torch.Tensor | None = None
    after_ffn_norm: torch.Tensor | None = None


class Decoder(Protocol):
    """A model file, checked: every tensor is there, in the shape that its description promises."""

    @property
    def shape(self) -> DecoderShape: ...

    @property
    def digest(self) -> str:
        """SHA-256 in hex of what the model is: its weights and its description."""

    @property
    def embedding(self) -> Rows: ...

    @property
    def head(self) -> Rows:
        """The output projection; the same tensor object as the embedding's where they are tied."""

    @property
    def final_norm(self) -> torch.Tensor: ...

    def layer(self, index: int) -> DecoderLayer: ...
