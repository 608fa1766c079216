"""The forward pass by torch's own operations: for machines without a compiler, and for the tests to compare with.

Weights are dense. Attention gathers a sequence's KV out of its tiles and leaves the rest to torch's scaled dot product.
Unlike the kernels' results, torch's may differ in the last bits with the size of the batch.
"""

import torch
from torch.nn import functional

from genkan.engine.batch import TOKENS_PER_TILE, Batch
from genkan.engine.load.blocks import dense
from genkan.engine.models.decoder import Decoder, DecoderLayer, Rows


class TorchModel:
    """A Forward. Used by one thread at a time."""

    def __init__(self, model: Decoder, *, bf16: bool, positions: int, tiles: int) -> None:
        """Dequantise the weights and make a KV cache of ``tiles`` tiles of 16 tokens.

        ``bf16``: weights, KV and arithmetic in bfloat16, else in float32. Raises ModelFileError.
        """
        self._shape = shape = model.shape
        self._dtype = torch.bfloat16 if bf16 else torch.float32
        self._embedding = self._matrix(model.embedding)
        own_head = model.head.tensor is not model.embedding.tensor
        self._head = self._matrix(model.head) if own_head else self._embedding
        self._final_norm = model.final_norm.to(self._dtype)
        self._layers = [self._layer(model.layer(index)) for index in range(shape.layers)]
        self._rotary = tuple(table.to(self._dtype) for table in model.shape.rotaries[0].table(positions))
        slots = tiles * TOKENS_PER_TILE
        # Memory that is only reserved until a block is first written; zeros are real memory at once.
        self._kv = torch.empty(shape.layers, 2, slots, shape.kv_heads, shape.head_dim, dtype=self._dtype)

    @torch.inference_mode()
    def forward(self, batch: Batch) -> torch.Tensor:
        """See Forward."""
        sequences = [_Slots(batch, index) for index in range(len(batch.position))]
        written = torch.cat([sequence.slots[sequence.position :] for sequence in sequences])
        positions = torch.cat([torch.arange(each.position, len(each.slots)) for each in sequences])
        cosine, sine = (table[positions][:, None, :] for table in self._rotary)
        x = functional.embedding(torch.from_numpy(batch.ids.astype("int64")), self._embedding)
        for layer, kv in zip(self._layers, self._kv, strict=True):
            x = x + self._attention(layer, kv, self._norm(x, layer.attention_norm), sequences, written, cosine, sine)
            gate, up = functional.linear(self._norm(x, layer.ffn_norm), layer.gate_up).chunk(2, dim=-1)
            x = x + functional.linear(functional.silu(gate) * up, layer.down)
        x = self._norm(x[torch.from_numpy(batch.output_row.astype("int64"))], self._final_norm)
        return functional.linear(x, self._head).float()

    def _attention(
        self,
        layer: "_Layer",
        kv: torch.Tensor,
        x: torch.Tensor,
        sequences: list["_Slots"],
        written: torch.Tensor,
        cosine: torch.Tensor,
        sine: torch.Tensor,
    ) -> torch.Tensor:
        shape = self._shape
        qkv = functional.linear(x, layer.qkv).view(len(x), -1, shape.head_dim)
        q, k, v = qkv.tensor_split((shape.heads, shape.heads + shape.kv_heads), dim=1)
        q, k = _rotated(q, cosine, sine), _rotated(k, cosine, sine)
        kv[0, written], kv[1, written] = k, v
        out = torch.empty_like(q)
        for sequence in sequences:
            keys, values = (kv[part, sequence.slots].transpose(0, 1)[None] for part in (0, 1))
            queries = q[sequence.rows].transpose(0, 1)[None]
            mask = sequence.mask()
            attended = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, enable_gqa=True)
            out[sequence.rows] = attended[0].transpose(0, 1)
        return functional.linear(out.flatten(1), layer.out)

    def _norm(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return functional.rms_norm(x, weight.shape, weight, self._shape.norm_epsilon)

    def _matrix(self, *rows: Rows) -> torch.Tensor:
        parts = []
        for tensor, order in rows:
            values = dense(tensor).to(self._dtype)
            parts.append(values if order is None else values[torch.from_numpy(order)])
        return torch.cat(parts)

    def _layer(self, layer: DecoderLayer) -> "_Layer":
        return _Layer(
            qkv=self._matrix(*layer.qkv),
            out=self._matrix(layer.out),
            gate_up=self._matrix(layer.gate, layer.up),
            down=self._matrix(layer.down),
            attention_norm=layer.attention_norm.to(self._dtype),
            ffn_norm=layer.ffn_norm.to(self._dtype),
        )


class _Layer:
    def __init__(self, **weights: torch.Tensor) -> None:
        self.qkv, self.out = weights["qkv"], weights["out"]
        self.gate_up, self.down = weights["gate_up"], weights["down"]
        self.attention_norm, self.ffn_norm = weights["attention_norm"], weights["ffn_norm"]


class _Slots:
    """Where one sequence of a batch has its rows, and its KV from the first token on."""

    def __init__(self, batch: Batch, index: int) -> None:
        first, end = int(batch.first_row[index]), int(batch.first_row[index + 1])
        self.rows = slice(first, end)
        self.position = int(batch.position[index])
        length = self.position + end - first
        at = int(batch.table_at[index])
        num_tiles = -(-length // TOKENS_PER_TILE)
        tiles = torch.from_numpy(batch.tables[at : at + num_tiles].astype("int64"))
        offsets = torch.arange(TOKENS_PER_TILE)
        self.slots = (tiles[:, None] * TOKENS_PER_TILE + offsets).flatten()[:length]

    def mask(self) -> torch.Tensor | None:
        """Which of its tokens each row sees; None for a single one, which sees all."""
        count = len(self.slots) - self.position
        if count == 1:
            return None
        return torch.ones(count, len(self.slots), dtype=torch.bool).tril(self.position)


def _rotated(x: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)
