"""The forward pass by torch's own operations, on a processor or a GPU, with any attention over pages.

Weights are dense. Unlike the C kernels' results, torch's may differ in the last bits with the size of the batch.
"""

from collections.abc import Sequence

import torch
from torch.nn import functional

from genkan.engine.attention.gather import GatherAttention
from genkan.engine.attention.paged import PagedAttention
from genkan.engine.batch import TOKENS_PER_TILE, Batch
from genkan.engine.load.blocks import stored_values
from genkan.engine.models.decoder import Activation, Decoder, DecoderLayer, Rows
from genkan.engine.torch_batch import TorchBatch

_CPU = torch.device("cpu")


class TorchModel:
    """A Forward. Used by one thread at a time.

    ``kv`` is its KV cache, ``[layers, 2, slots, kv_heads, head_dim]``: keys, then values. A token's row of
    ``embedding`` is multiplied by ``embedding_scale``.
    """

    def __init__(
        self,
        model: Decoder,
        *,
        positions: int,
        tiles: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device = _CPU,
        attention: PagedAttention | None = None,
    ) -> None:
        """Dequantise the weights and make a KV cache of ``tiles`` tiles of 16 tokens, for windows of ``positions``.

        Weights, KV and arithmetic are in ``dtype``. ``attention`` is GatherAttention unless given. Raises
        ModelFileError.
        """
        self.shape = shape = model.shape
        self.dtype, self.device = dtype, device
        self._attention = attention or GatherAttention()
        self.embedding = self._matrix(model.embedding)
        own_head = model.head.tensor is not model.embedding.tensor
        self._head = self._matrix(model.head) if own_head else self.embedding
        self.embedding_scale = float(torch.tensor(shape.embedding_scale).to(dtype))  # rounded, as it was in training
        self._final_norm = _Norm(self._norm_weight(model.final_norm), shape.norm_epsilon)
        self._layers = [self._layer(model.layer(index)) for index in range(shape.layers)]
        self._rotaries = [
            tuple(table.to(device, dtype) for table in rotary.table(positions)) for rotary in shape.rotaries
        ]
        self.resize(tiles)

    @property
    def weight_bytes(self) -> int:
        """Weights that a decode step reads: all matrices, but for the embedding's other rows."""
        return self._head.nbytes + sum(layer.nbytes for layer in self._layers)

    def resize(self, tiles: int) -> None:
        """Another KV cache, of ``tiles`` tiles; what was in the old one is gone."""
        shape = self.shape
        slots = tiles * TOKENS_PER_TILE
        self.kv = torch.empty(0)  # the old one's memory first
        # Memory that a processor only reserves until a block is first written; zeros are real memory at once.
        self.kv = torch.empty(
            shape.layers, 2, slots, shape.kv_heads, shape.head_dim, dtype=self.dtype, device=self.device
        )

    def forward(self, batch: Batch) -> torch.Tensor:
        """See Forward."""
        return self.step(TorchBatch.of(batch, self.device)).float().cpu()

    @torch.inference_mode()
    def step(self, batch: TorchBatch) -> torch.Tensor:
        """Compute the batch's tokens and write their KV; logits ``[outputs, vocab]`` on the device, in the dtype."""
        angles = [(cosine[batch.positions, None], sine[batch.positions, None]) for cosine, sine in self._rotaries]
        x = functional.embedding(batch.ids, self.embedding)
        if self.embedding_scale != 1:
            x = x * self.embedding_scale
        for layer, kind, (keys, values) in zip(self._layers, self.shape.kinds, self.kv, strict=True):
            q, k, v = self._projected(layer, layer.attention_norm(x), *angles[kind.rotary])
            keys[batch.slots], values[batch.slots] = k, v
            attended = self._attention(
                q, keys, values, batch, scale=self.shape.attention_scale, window=kind.window
            ).flatten(1)
            x = x + layer.after_attention_norm(functional.linear(attended, layer.out))
            x = x + layer.after_ffn_norm(layer.fed_forward(layer.ffn_norm(x), self.shape.activation))
        return functional.linear(self._final_norm(x[batch.output_row]), self._head)

    def _projected(
        self, layer: "_Layer", x: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        heads, kv_heads = self.shape.heads, self.shape.kv_heads
        qkv = functional.linear(x, layer.qkv, layer.qkv_bias).view(len(x), -1, self.shape.head_dim)
        q, k, v = qkv.tensor_split((heads, heads + kv_heads), dim=1)
        return _rotated(layer.query_norm(q), cosine, sine), _rotated(layer.key_norm(k), cosine, sine), v

    def _layer(self, layer: DecoderLayer) -> "_Layer":
        return _Layer(
            qkv=self._matrix(*layer.qkv),
            qkv_bias=None if layer.qkv_bias is None else layer.qkv_bias.to(self.device, self.dtype),
            out=self._matrix(layer.out),
            gate_up=self._matrix(layer.gate, layer.up),
            down=self._matrix(layer.down),
            norms=[
                _Norm(self._norm_weight(weight), self.shape.norm_epsilon)
                for weight in (
                    layer.attention_norm, layer.query_norm, layer.key_norm, layer.after_attention_norm,
                    layer.ffn_norm, layer.after_ffn_norm,
                )
            ],
        )  # fmt: skip

    def _matrix(self, *rows: Rows) -> torch.Tensor:
        parts = []
        for tensor, order in rows:
            values = stored_values(tensor).to(self.device, self.dtype)
            parts.append(values if order is None else values[torch.from_numpy(order).to(self.device)])
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _norm_weight(self, weight: torch.Tensor | None) -> torch.Tensor | None:
        """In the dtype where that changes nothing, and torch has one operation for all of a norm; else in float32."""
        if weight is None:
            return None
        rounded = weight.to(self.dtype)
        return (rounded if torch.equal(rounded.float(), weight) else weight).to(self.device)


class _Norm:
    """An RMS norm over the last dimension; without a weight it is not there, and changes nothing."""

    def __init__(self, weight: torch.Tensor | None, epsilon: float) -> None:
        self._weight, self._epsilon = weight, epsilon

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        weight = self._weight
        if weight is None:
            return x
        normed = functional.rms_norm(x.to(weight.dtype), weight.shape, weight, self._epsilon)
        return normed.to(x.dtype)


class _Layer:
    def __init__(
        self,
        *,
        qkv: torch.Tensor,
        qkv_bias: torch.Tensor | None,
        out: torch.Tensor,
        gate_up: torch.Tensor,
        down: torch.Tensor,
        norms: Sequence[_Norm],
    ) -> None:
        self.qkv, self.qkv_bias, self.out, self.gate_up, self.down = qkv, qkv_bias, out, gate_up, down
        self.attention_norm, self.query_norm, self.key_norm, self.after_attention_norm = norms[:4]
        self.ffn_norm, self.after_ffn_norm = norms[4:]

    @property
    def nbytes(self) -> int:
        return sum(matrix.nbytes for matrix in (self.qkv, self.out, self.gate_up, self.down))

    def fed_forward(self, x: torch.Tensor, activation: Activation) -> torch.Tensor:
        gate, up = functional.linear(x, self.gate_up).chunk(2, dim=-1)
        active = functional.silu(gate) if activation == "silu" else functional.gelu(gate, approximate="tanh")
        return functional.linear(active * up, self.down)


def _rotated(x: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)
