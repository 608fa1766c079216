"""What the blocks of a quantised tensor mean: codes and scales as they are stored, or float32 values.

A quantised row is a run of blocks; each has its scales, in float16, and a code of 4 or 8 bits for every value. The
groups here are of 32 values, with a scale each: a block of Q4_0, Q4_1 and Q8_0, an eighth of one of Q4_K.

A code times its scale needs at most 21 bits and is exact in float32, so ``scale * code + minimum`` is rounded once,
and is the same number whether or not the two operations are fused.

Source: ``ggml-quants.c`` of llama.cpp for the layouts; ``LlamaModel.permute`` of its converter for the row order.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from genkan.engine.load.gguf import GgufTensor
from genkan.errors import ModelFileError

GROUP_VALUES = 32

_Bytes = npt.NDArray[np.uint8]
_Floats = npt.NDArray[np.float32]


class Int4Groups(NamedTuple):
    """A matrix of 4-bit codes; a value is ``scale * code + minimum`` of its group.

    ``codes``: uint8 ``[rows, cols]``, 0 to 15. ``scale`` and ``minimum``: float32 ``[rows, cols // 32]``, finite.
    """

    codes: npt.NDArray[np.uint8]
    scale: _Floats
    minimum: _Floats


class Int8Groups(NamedTuple):
    """A matrix of 8-bit codes; a value is ``scale * code`` of its group.

    ``codes``: int8 ``[rows, cols]``. ``scale``: float32 ``[rows, cols // 32]``, finite.
    """

    codes: npt.NDArray[np.int8]
    scale: _Floats


def dense(tensor: GgufTensor) -> torch.Tensor:
    """The values of ``tensor`` in float32, in its shape, in memory of their own.

    They are those of gguf's ``dequantize``, bit for bit. Raises ModelFileError for a kind that gguf cannot turn into
    values either, and when a scale is not finite.
    """
    match tensor.kind:
        case "F32":
            values = tensor.data.view("<f4").astype(np.float32)
        case "F16":
            values = tensor.data.view("<f2").astype(np.float32)
        case "BF16":
            values = (tensor.data.view("<u2").astype(np.uint32) << 16).view(np.float32)
        case "Q4_0" | "Q4_1" | "Q4_K":
            values = _dense_int4(tensor)
        case "Q8_0":
            codes, scale = int8_groups(tensor)
            values = _grouped(codes) * scale[..., None]
        case _:
            values = _dense_by_gguf(tensor)
    return torch.from_numpy(values.reshape(tensor.shape))


def stored_values(tensor: GgufTensor) -> torch.Tensor:
    """The values of ``tensor`` in the type that it is stored in, or in float32 where it is quantised; a copy.

    Raises ModelFileError, as ``dense`` does.
    """
    match tensor.kind:
        case "F16":
            values = torch.from_numpy(tensor.data.view("<f2").copy())
        case "BF16":
            values = torch.from_numpy(tensor.data.view("<i2").copy()).view(torch.bfloat16)
        case _:
            return dense(tensor)
    return values.reshape(tensor.shape)


def int4_groups(tensor: GgufTensor) -> Int4Groups:
    """The codes and scales of a tensor of kind Q4_0, Q4_1 or Q4_K, in memory of their own.

    ``scale * code + minimum`` in float32 is what gguf's ``dequantize`` gives, bit for bit; but where Q4_0 has -0, for
    code 8 with a negative scale, it is +0. Raises ModelFileError for other kinds, and when a scale is not finite.
    """
    match tensor.kind:
        case "Q4_0":
            blocks = _blocks(tensor, 18)
            scale = _halves(tensor, blocks[..., :2])
            return Int4Groups(_nibbles(blocks[..., 2:]), scale, -8 * scale)
        case "Q4_1":
            blocks = _blocks(tensor, 20)
            scale, minimum = _halves(tensor, blocks[..., :2]), _halves(tensor, blocks[..., 2:4])
            return Int4Groups(_nibbles(blocks[..., 4:]), scale, minimum)
        case "Q4_K":
            return _q4_k_groups(tensor)
    raise ModelFileError(f"the tensor {tensor.name} is {tensor.kind}, which has no 4-bit groups")


def int8_groups(tensor: GgufTensor) -> Int8Groups:
    """The codes and scales of a tensor of kind Q8_0, in memory of their own.

    ``scale * code`` in float32 is what gguf's ``dequantize`` gives, bit for bit. Raises ModelFileError for other
    kinds, and when a scale is not finite.
    """
    if tensor.kind != "Q8_0":
        raise ModelFileError(f"the tensor {tensor.name} is {tensor.kind}, which has no 8-bit groups")
    blocks = _blocks(tensor, 34)
    codes = blocks[..., 2:].copy().reshape(len(blocks), -1).view(np.int8)  # a reshape alone may be a view of the file
    return Int8Groups(codes, _halves(tensor, blocks[..., :2]))


def half_split_order(rows: int, num_heads: int) -> npt.NDArray[np.int64]:
    """The order that puts the rows of a query or key projection where half-split rotary embedding wants them.

    llama.cpp stores them in the order of its interleaved one: the rows of a pair are neighbours. ``matrix[order]`` has
    the first of every pair in the first half of its head, the second in the second. Keys have fewer heads than queries
    and are ordered by their own number. Raises ModelFileError when ``rows`` are not heads of an even size.
    """
    if num_heads < 1 or rows % (2 * num_heads):
        raise ModelFileError(f"{rows} rows cannot be {num_heads} attention heads of an even size")
    return np.arange(rows, dtype=np.int64).reshape(num_heads, -1, 2).swapaxes(1, 2).reshape(rows)


def _blocks(tensor: GgufTensor, block_bytes: int) -> _Bytes:
    """``[rows, blocks of a row, block_bytes]``"""
    return tensor.data.reshape(len(tensor.data), -1, block_bytes)


def _halves(tensor: GgufTensor, data: _Bytes) -> _Floats:
    """One float16 of each block, as float32 ``[rows, blocks of a row]``."""
    values = data.view("<f2")[..., 0].astype(np.float32)
    if not np.isfinite(values).all():
        raise ModelFileError(f"the tensor {tensor.name} is damaged: it has a scale that is not a finite number")
    return values


def _nibbles(packed: _Bytes) -> _Bytes:
    """Codes ``[rows, cols]`` from bytes ``[rows, runs of a row, n]``: a run's low nibbles, then its high ones."""
    num_rows, num_runs, run_bytes = packed.shape
    codes = np.empty((num_rows, num_runs, 2, run_bytes), dtype=np.uint8)
    np.bitwise_and(packed, 0x0F, out=codes[:, :, 0])
    np.right_shift(packed, 4, out=codes[:, :, 1])
    return codes.reshape(num_rows, -1)


def _q4_k_groups(tensor: GgufTensor) -> Int4Groups:
    # A block has eight groups. Their scales and minimums are 6-bit numbers, of which the block has the unit of each.
    blocks = _blocks(tensor, 144)
    num_rows, num_blocks, _ = blocks.shape
    scale_unit, minimum_unit = _halves(tensor, blocks[..., :2]), _halves(tensor, blocks[..., 2:4])
    first, second, rest = (blocks[..., at : at + 4] for at in (4, 8, 12))
    scales = np.concatenate([first & 0x3F, rest & 0x0F | first >> 2 & 0x30], axis=-1)
    minimums = np.concatenate([second & 0x3F, rest >> 4 | second >> 2 & 0x30], axis=-1)
    codes = _nibbles(blocks[..., 16:].reshape(num_rows, num_blocks * 4, 32))
    scale = (scale_unit[..., None] * scales).reshape(num_rows, -1)
    minimum = -(minimum_unit[..., None] * minimums).reshape(num_rows, -1)
    return Int4Groups(codes, scale, minimum)


def _grouped(codes: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return codes.reshape(len(codes), -1, GROUP_VALUES)


def _dense_int4(tensor: GgufTensor) -> _Floats:
    codes, scale, minimum = int4_groups(tensor)
    if tensor.kind == "Q4_0":  # as gguf does it, for the sign of its zeros
        return (_grouped(codes).astype(np.int8) - 8) * scale[..., None]
    values = _grouped(codes) * scale[..., None]
    values += minimum[..., None]
    return values


def _dense_by_gguf(tensor: GgufTensor) -> _Floats:
    from gguf import GGMLQuantizationType, dequantize  # here, because the usual kinds do not need it

    try:
        with np.errstate(all="ignore"):  # it warns of numbers that are not finite
            values: _Floats = dequantize(tensor.data, GGMLQuantizationType[tensor.kind])
    except (NotImplementedError, KeyError, ValueError) as error:
        raise ModelFileError(f"the tensor {tensor.name} is {tensor.kind}, which cannot be read: {error}") from error
    return values
