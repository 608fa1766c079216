"""What a decoder computes, spelt out: a prompt at a time, in float64, without a cache; for others to be compared with.

The values of the weights and of the rotary tables are those that the decoder says, in float32.
"""

from collections.abc import Sequence

import torch
from torch.nn import functional

from genkan.engine.load.blocks import dense
from genkan.engine.models.decoder import Decoder, DecoderLayer, DecoderShape, LayerKind, Rows


def plain_logits(decoder: Decoder, ids: Sequence[int]) -> torch.Tensor:
    """The logits after each of ``ids``, float64 ``[len(ids), vocab]``."""
    shape = decoder.shape
    x = _matrix(decoder.embedding)[list(ids)] * shape.embedding_scale
    for index, kind in enumerate(shape.kinds):
        layer = decoder.layer(index)
        attended = _attention(shape, layer, kind, _norm(shape, x, layer.attention_norm))
        x = x + _norm(shape, attended, layer.after_attention_norm)
        x = x + _norm(shape, _feed_forward(shape, layer, _norm(shape, x, layer.ffn_norm)), layer.after_ffn_norm)
    return _norm(shape, x, decoder.final_norm) @ _matrix(decoder.head).T


def _matrix(*parts: Rows) -> torch.Tensor:
    values = [dense(part.tensor).double() for part in parts]
    return torch.cat([
        each if part.order is None else each[torch.from_numpy(part.order)]
        for part, each in zip(parts, values, strict=True)
    ])  # fmt: skip


def _norm(shape: DecoderShape, x: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    if weight is None:
        return x
    return x / (x.square().mean(dim=-1, keepdim=True) + shape.norm_epsilon).sqrt() * weight.double()


def _feed_forward(shape: DecoderShape, layer: DecoderLayer, x: torch.Tensor) -> torch.Tensor:
    gate, up = x @ _matrix(layer.gate).T, x @ _matrix(layer.up).T
    active = functional.silu(gate) if shape.activation == "silu" else functional.gelu(gate, approximate="tanh")
    return (active * up) @ _matrix(layer.down).T


def _attention(shape: DecoderShape, layer: DecoderLayer, kind: LayerKind, x: torch.Tensor) -> torch.Tensor:
    qkv = x @ _matrix(*layer.qkv).T
    if layer.qkv_bias is not None:
        qkv = qkv + layer.qkv_bias.double()
    heads = qkv.view(len(x), -1, shape.head_dim).transpose(0, 1)
    queries, keys, values = heads.tensor_split((shape.heads, shape.heads + shape.kv_heads))
    queries = _rotated(shape, kind, _norm(shape, queries, layer.query_norm))
    keys = _rotated(shape, kind, _norm(shape, keys, layer.key_norm))
    group = shape.heads // shape.kv_heads
    scores = queries @ keys.repeat_interleave(group, dim=0).transpose(1, 2) * shape.attention_scale
    distance = torch.arange(len(x))[:, None] - torch.arange(len(x))[None, :]
    seen = (distance >= 0) & (distance < (kind.window or len(x)))
    weights: torch.Tensor = scores.masked_fill(~seen, -torch.inf).softmax(dim=-1)
    attended = weights @ values.repeat_interleave(group, dim=0)
    return attended.transpose(0, 1).flatten(1) @ _matrix(layer.out).T


def _rotated(shape: DecoderShape, kind: LayerKind, x: torch.Tensor) -> torch.Tensor:
    cosine, sine = (table.double() for table in shape.rotaries[kind.rotary].table(x.shape[1]))
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)
