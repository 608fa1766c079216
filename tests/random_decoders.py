"""Small models of random weights, with any of the things that families differ in."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from quantised import random_tensor

from genkan.engine.models.decoder import Activation, DecoderLayer, DecoderShape, LayerKind, Rotary, Rows


@dataclass(frozen=True, kw_only=True, eq=False)
class RandomDecoder:
    """A Decoder. ``kinds`` gives a product another kind than ``kind``: q, k, v, out, gate, up, down, embedding, head.

    ``layer_kinds`` are taken in turn; their rotary embeddings have the bases ``rotary_bases``. With ``reordered``, the
    rows of queries and keys are to be in another order than that of their tensors.
    """

    heads: int = 2
    kv_heads: int = 1
    head_dim: int = 32
    own_hidden: int | None = None  # otherwise heads times head_dim
    ffn: int = 96
    layers: int = 2
    vocab_size: int = 50
    kind: str = "Q4_1"
    kinds: Mapping[str, str] = field(default_factory=dict)
    own_head: bool = False
    reordered: bool = False
    biases: bool = False
    head_norms: bool = False
    norms_after: bool = False
    layer_kinds: Sequence[LayerKind] = (LayerKind(),)
    rotary_bases: Sequence[float] = (10_000.0,)
    attention_factor: float = 1.0
    attention_scale: float | None = None
    embedding_scale: float = 1.0
    activation: Activation = "silu"
    digest: str = "random"

    @property
    def hidden(self) -> int:
        return self.own_hidden or self.heads * self.head_dim

    @property
    def shape(self) -> DecoderShape:
        return DecoderShape(
            layers=self.layers, hidden=self.hidden, heads=self.heads, kv_heads=self.kv_heads, head_dim=self.head_dim,
            ffn=self.ffn, vocab_size=self.vocab_size, context_length=512, norm_epsilon=1e-5,
            attention_scale=self.attention_scale or self.head_dim**-0.5,
            kinds=[self.layer_kinds[index % len(self.layer_kinds)] for index in range(self.layers)],
            rotaries=[Rotary(self._frequencies(base), self.attention_factor) for base in self.rotary_bases],
            embedding_scale=self.embedding_scale, activation=self.activation,
        )  # fmt: skip

    @cached_property
    def embedding(self) -> Rows:
        return self._product("embedding", self.vocab_size, self.hidden, spread=1.0)

    @cached_property
    def head(self) -> Rows:
        return self._product("head", self.vocab_size, self.hidden) if self.own_head else self.embedding

    @property
    def final_norm(self) -> torch.Tensor:
        return self._vector("final_norm", self.hidden)

    def layer(self, index: int) -> DecoderLayer:
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        name = f"{index}.{{}}".format
        return DecoderLayer(
            attention_norm=self._vector(name("attention_norm"), self.hidden),
            qkv=(
                self._reordered(self._product(name("q"), queries, self.hidden)),
                self._reordered(self._product(name("k"), keys, self.hidden)),
                self._product(name("v"), keys, self.hidden),
            ),
            out=self._product(name("out"), self.hidden, queries),
            ffn_norm=self._vector(name("ffn_norm"), self.hidden),
            gate=self._product(name("gate"), self.ffn, self.hidden),
            up=self._product(name("up"), self.ffn, self.hidden),
            down=self._product(name("down"), self.hidden, self.ffn),
            qkv_bias=self._vector(name("bias"), queries + 2 * keys) - 1 if self.biases else None,
            query_norm=self._vector(name("query_norm"), self.head_dim) if self.head_norms else None,
            key_norm=self._vector(name("key_norm"), self.head_dim) if self.head_norms else None,
            after_attention_norm=self._vector(name("after_attention"), self.hidden) if self.norms_after else None,
            after_ffn_norm=self._vector(name("after_ffn"), self.hidden) if self.norms_after else None,
        )

    def _product(self, name: str, outputs: int, inputs: int, *, spread: float | None = None) -> Rows:
        """Values of a size that keeps every layer's activations near 1."""
        kind = self.kinds.get(name.split(".")[-1], self.kind)
        return Rows(random_tensor(kind, (outputs, inputs), _random(name), spread=spread or inputs**-0.5))

    def _reordered(self, rows: Rows) -> Rows:
        order = np.random.default_rng(1).permutation(rows.tensor.shape[0])
        return rows._replace(order=order) if self.reordered else rows

    def _vector(self, name: str, size: int) -> torch.Tensor:
        return torch.from_numpy(_random(name).uniform(0.5, 1.5, size).astype(np.float32))

    def _frequencies(self, base: float) -> torch.Tensor:
        return base ** -(torch.arange(0, self.head_dim, 2) / self.head_dim)


def _random(name: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(name.encode()))
