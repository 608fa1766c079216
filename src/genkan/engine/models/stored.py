"""A model whose weights are a file's tensors: checked against its shape, and put together layer by layer.

A layer's projections are joined here where one product can do the work of several: queries, keys and values; gate and
up. llama.cpp stores the rows of the llama family's query and key projections in the order of its interleaved rotary
embedding; the order that half-split rotation needs is given beside each tensor.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from genkan.engine.load.blocks import dense, half_split_order
from genkan.engine.load.gguf import GgufTensor
from genkan.engine.models.decoder import DecoderLayer, DecoderShape, Rows
from genkan.engine.models.family import Family
from genkan.errors import ModelFileError

_Order = npt.NDArray[np.int64] | None


@dataclass(frozen=True, slots=True)
class Naming:
    """What a kind of file calls the tensors that GGUF calls ``token_embd.weight`` or ``blk.3.attn_q.bias``.

    ``names`` gives, without the ends ``.weight`` and ``.bias``, the names that are others than GGUF's.
    """

    layer_prefix: str = "blk"
    names: Mapping[str, str] = field(default_factory=dict)

    def of(self, part: str, layer: int | None = None) -> str:
        name, _, end = part.rpartition(".")
        spelled = f"{self.names.get(name, name)}.{end}"
        return spelled if layer is None else f"{self.layer_prefix}.{layer}.{spelled}"


class StoredDecoder:
    """A Decoder of a file's tensors."""

    def __init__(
        self,
        family: Family,
        shape: DecoderShape,
        tensors: Mapping[str, GgufTensor],
        digest: str,
        *,
        naming: Naming,
        tied: bool,
        interleaved: bool = False,
        norm_offset: float = 0.0,
    ) -> None:
        """``tied``: the head is the embedding. ``interleaved``: rows of queries and keys are in llama.cpp's order.

        ``norm_offset`` is added to the weights of norms. Raises ModelFileError where ``tensors`` are not exactly those
        of a model of that shape.
        """
        self.shape, self.digest, self.family, self.tensors = shape, digest, family, tensors
        self._naming, self._tied, self._interleaved, self._norm_offset = naming, tied, interleaved, norm_offset
        self._check_tensors()

    @property
    def embedding(self) -> Rows:
        return Rows(self._tensor("token_embd.weight"))

    @property
    def head(self) -> Rows:
        return self.embedding if self._tied else Rows(self._tensor("output.weight"))

    @property
    def final_norm(self) -> torch.Tensor:
        return self._norm("output_norm.weight")

    def layer(self, index: int) -> DecoderLayer:
        def rows(part: str, order: _Order = None) -> Rows:
            return Rows(self._tensor(f"{part}.weight", index), order)

        family = self.family
        query_order, key_order = self._order(self.shape.heads), self._order(self.shape.kv_heads)
        return DecoderLayer(
            attention_norm=self._norm("attn_norm.weight", index),
            qkv=(rows("attn_q", query_order), rows("attn_k", key_order), rows("attn_v")),
            qkv_bias=self._bias(index) if family.qkv_bias else None,
            query_norm=self._norm("attn_q_norm.weight", index) if family.head_norms else None,
            key_norm=self._norm("attn_k_norm.weight", index) if family.head_norms else None,
            out=rows("attn_output"),
            after_attention_norm=self._norm("post_attention_norm.weight", index) if family.after_norms else None,
            ffn_norm=self._norm("ffn_norm.weight", index),
            gate=rows("ffn_gate"),
            up=rows("ffn_up"),
            down=rows("ffn_down"),
            after_ffn_norm=self._norm("post_ffw_norm.weight", index) if family.after_norms else None,
        )

    def _tensor(self, part: str, layer: int | None = None) -> GgufTensor:
        return self.tensors[self._naming.of(part, layer)]

    def _norm(self, part: str, layer: int | None = None) -> torch.Tensor:
        return dense(self._tensor(part, layer)) + self._norm_offset

    def _bias(self, layer: int) -> torch.Tensor:
        return torch.cat([dense(self._tensor(f"attn_{part}.bias", layer)) for part in "qkv"])

    def _order(self, heads: int) -> _Order:
        return half_split_order(heads * self.shape.head_dim, heads) if self._interleaved else None

    def _check_tensors(self) -> None:
        tensors, layers = self.tensors, self.shape.layers
        if layers > len(tensors):  # before there is a list of all that they should have
            raise ModelFileError(f"the model file promises {layers} layers and has {len(tensors)} tensors")
        expected = self._expected_shapes()
        if missing := [name for name in expected if name not in tensors]:
            raise ModelFileError(f"the model file lacks {len(missing)} tensors, such as {missing[0]}")
        if unknown := [name for name in tensors if name not in expected]:
            raise ModelFileError(f"the model file holds a tensor that no {self.family.name} model has: {unknown[0]}")
        for name, tensor in tensors.items():
            if tensor.shape != expected[name]:
                raise ModelFileError(f"the tensor {name} is {tensor.shape}; the metadata promise {expected[name]}")

    def _expected_shapes(self) -> dict[str, tuple[int, ...]]:
        shape, name = self.shape, self._naming.of
        parts, sizes = self.family.layer_parts(), _part_shapes(shape)
        expected: dict[str, tuple[int, ...]] = {
            name("token_embd.weight"): (shape.vocab_size, shape.hidden),
            name("output_norm.weight"): (shape.hidden,),
        }
        if not self._tied:
            expected[name("output.weight")] = (shape.vocab_size, shape.hidden)
        for layer in range(shape.layers):
            expected |= {name(part, layer): sizes[part] for part in parts}
        return expected


def _part_shapes(shape: DecoderShape) -> dict[str, tuple[int, ...]]:
    hidden, queries, keys = shape.hidden, shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    return {
        "attn_norm.weight": (hidden,),
        "attn_q.weight": (queries, hidden),
        "attn_k.weight": (keys, hidden),
        "attn_v.weight": (keys, hidden),
        "attn_q.bias": (queries,),
        "attn_k.bias": (keys,),
        "attn_v.bias": (keys,),
        "attn_q_norm.weight": (shape.head_dim,),
        "attn_k_norm.weight": (shape.head_dim,),
        "attn_output.weight": (hidden, queries),
        "post_attention_norm.weight": (hidden,),
        "ffn_norm.weight": (hidden,),
        "ffn_gate.weight": (shape.ffn, hidden),
        "ffn_up.weight": (shape.ffn, hidden),
        "ffn_down.weight": (hidden, shape.ffn),
        "post_ffw_norm.weight": (hidden,),
    }
