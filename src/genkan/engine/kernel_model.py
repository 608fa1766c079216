"""The forward pass by the C kernels: weights and KV cache in their layouts, one call a step."""

import ctypes
import weakref
from collections.abc import Sequence

import torch

from genkan.engine.batch import TOKENS_PER_TILE, Batch
from genkan.engine.kernels import library as c
from genkan.engine.linear import PANEL_ROWS, PackedLinear, aligned_zeros, can_pack, stored_alike
from genkan.engine.load.blocks import GROUP_VALUES
from genkan.engine.models.decoder import Decoder, DecoderLayer, DecoderShape, LayerKind, Rows

MAX_HEAD_DIM = 256
MAX_LAYERS = 500  # a step has eight phases a layer, and the threads can count 4,096


class KernelModel:
    """A Forward. Used by one thread at a time."""

    def __init__(
        self, library: ctypes.CDLL, model: Decoder, *, bf16: bool, positions: int, tiles: int, threads: int
    ) -> None:
        """Pack the weights and make a KV cache of ``tiles`` tiles of 16 tokens, for windows of ``positions`` tokens.

        ``bf16``: products and KV in bfloat16, sums in float32; else everything in float32. Raises ModelFileError,
        MemoryError. Cost: about a second for 135 M parameters.
        """
        self._library = library
        self._keep: list[object] = []  # what the structures below point to
        self._vocab_size = model.shape.vocab_size
        self._bf16 = bf16
        self._logits = torch.empty(0, self._vocab_size)
        self._model = self._structure(model, positions, tiles)
        workspace = library.workspace_create(threads)
        if not workspace:
            raise MemoryError(f"the engine's {threads} compute threads cannot be started")
        self._workspace = workspace
        # Not at exit: another thread may be in a step then, and the memory goes with the process anyway.
        weakref.finalize(self, library.workspace_destroy, workspace).atexit = False

    def forward(self, batch: Batch) -> torch.Tensor:
        """See Forward. Raises MemoryError, and then nothing was computed."""
        logits = self._room_for_logits(len(batch.output_row))
        arrays = (batch.ids, batch.first_row, batch.position, batch.tables, batch.table_at)
        view = c.Batch(
            len(batch.position),
            len(batch.ids),
            *(array.ctypes.data for array in arrays),
            len(batch.output_row),
            batch.output_row.ctypes.data,
            logits.data_ptr(),
        )
        if self._library.step_run(self._model, view, self._workspace):
            raise MemoryError(f"a step of {len(batch.ids)} tokens does not fit into memory")
        return logits

    def _room_for_logits(self, outputs: int) -> torch.Tensor:
        """Memory that is kept: fresh pages for each step would cost as much as the sampling."""
        if outputs > len(self._logits):
            self._logits = torch.empty(outputs, self._vocab_size)
        return self._logits[:outputs]

    def _structure(self, model: Decoder, positions: int, tiles: int) -> c.Model:
        shape = model.shape
        self._rotaries = [tuple(map(self._kept, rotary.table(positions))) for rotary in shape.rotaries]
        cache_bytes = tiles * shape.kv_heads * shape.head_dim * TOKENS_PER_TILE * (2 if self._bf16 else 4)
        head = self._packed([model.head])
        embedding = head if model.head.tensor is model.embedding.tensor else self._packed([model.embedding])
        layers = (c.Layer * shape.layers)(*map(self._layer, map(model.layer, range(shape.layers)), shape.kinds))
        return c.Model(
            layers=shape.layers,
            hidden=shape.hidden,
            heads=shape.heads,
            kv_heads=shape.kv_heads,
            head_dim=shape.head_dim,
            ffn=shape.ffn,
            bf16=self._bf16,
            gelu=shape.activation == "gelu_tanh",
            norm_epsilon=shape.norm_epsilon,
            attention_scale=shape.attention_scale,
            embedding_scale=self._embedding_scale(shape),
            layer=layers,
            embedding=embedding,
            head=head,
            final_norm=self._kept(model.final_norm),
            keys=self._cache(shape.layers * cache_bytes),
            values=self._cache(shape.layers * cache_bytes),
            cache_bytes=cache_bytes,
        )

    def _embedding_scale(self, shape: DecoderShape) -> float:
        """As transformers has it: a number of the precision that embeddings are in."""
        scale = torch.tensor(shape.embedding_scale)
        return float(scale.bfloat16() if self._bf16 else scale)

    def _layer(self, layer: DecoderLayer, kind: LayerKind) -> c.Layer:
        products = [layer.qkv] if stored_alike(layer.qkv) else [[part] for part in layer.qkv]
        cosine, sine = self._rotaries[kind.rotary]
        return c.Layer(
            qkv=(c.Linear * c.QKV_PARTS)(*map(self._packed, products)),
            out=self._packed([layer.out]),
            gate_up=self._packed([layer.gate, layer.up], interleave=True),
            down=self._packed([layer.down]),
            attention_norm=self._kept(layer.attention_norm),
            ffn_norm=self._kept(layer.ffn_norm),
            qkv_bias=self._kept(layer.qkv_bias),
            query_norm=self._kept(layer.query_norm),
            key_norm=self._kept(layer.key_norm),
            after_attention_norm=self._kept(layer.after_attention_norm),
            after_ffn_norm=self._kept(layer.after_ffn_norm),
            cosine=cosine,
            sine=sine,
            window=kind.window or 0,
        )

    def _packed(self, rows: Sequence[Rows], *, interleave: bool = False) -> c.Linear:
        packed = PackedLinear(self._library, rows, bf16=self._bf16, interleave=interleave)
        self._keep.append(packed)
        return packed.view

    def _kept(self, tensor: torch.Tensor | None) -> int | None:
        """Where a vector lies that the kernels read; None for one that the model does not have."""
        if tensor is None:
            return None
        values = tensor.float().contiguous()
        self._keep.append(values)
        return values.data_ptr()

    def _cache(self, num_bytes: int) -> int:
        memory = aligned_zeros(num_bytes)
        self._keep.append(memory)
        return int(memory.ctypes.data)


def fits_kernels(model: Decoder) -> bool:
    """Whether the kernels are written for such a model; ``misfit`` says what is in the way."""
    return misfit(model) is None


def misfit(model: Decoder) -> str | None:
    """What of the model the kernels are not written for, in words that follow "the model has"; None when they are."""
    shape, layer = model.shape, model.layer(0)
    products = (layer.qkv, [layer.out], [layer.gate], [layer.up], [layer.down], [model.head], [model.embedding])
    if shape.head_dim % PANEL_ROWS or shape.head_dim > MAX_HEAD_DIM:
        return f"heads of {shape.head_dim} values, not a multiple of {PANEL_ROWS} up to {MAX_HEAD_DIM}"
    if shape.layers > MAX_LAYERS:
        return f"{shape.layers} layers, more than {MAX_LAYERS}"
    if shape.ffn % PANEL_ROWS:
        return f"a feed-forward of {shape.ffn} values, not a multiple of {PANEL_ROWS}"
    odd = next((rows for rows in products if not can_pack(rows)), None)
    if odd is not None:
        return f"a product of {odd[0].tensor.shape[1]} inputs, not a multiple of {GROUP_VALUES}"
    return None
