"""Quantised tensors as 8-bit codes: every kind whose codes have at most 8 bits, with nothing rounded.

A kind of 5 bits is the kind of 4 bits of the same name, with the fifth bit of each code kept apart. Q6_K is the one
whose scales are for 16 values.

Source: ``ggml-quants.c`` of llama.cpp.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from genkan.engine.load.blocks import int4_groups, int8_groups
from genkan.engine.load.gguf import GgufTensor
from genkan.errors import ModelFileError

_Floats = npt.NDArray[np.float32]
_Bytes = npt.NDArray[np.uint8]


class ByteGroups(NamedTuple):
    """A matrix of 8-bit codes; a value is ``scale * code + minimum`` of its group.

    ``codes``: int8 ``[rows, cols]``. ``scale``: float32 ``[rows, groups of a row]``, finite. ``minimum``: likewise, or
    None where nothing is added. A group is 32 values, of Q6_K 16.
    """

    codes: npt.NDArray[np.int8]
    scale: _Floats
    minimum: _Floats | None


class _FiveBits(NamedTuple):
    """How a block's bytes follow each other: those that the 4-bit kind has too, fifth bits, codes of 4 bits."""

    four_bits: str
    block_bytes: int
    scale_bytes: int
    fifth_bytes: int


_FIVE_BITS = {
    "Q5_0": _FiveBits("Q4_0", 22, 2, 4),
    "Q5_1": _FiveBits("Q4_1", 24, 4, 4),
    "Q5_K": _FiveBits("Q4_K", 176, 16, 32),
}


def byte_groups(tensor: GgufTensor) -> ByteGroups:
    """The codes and scales of a tensor of kind Q8_0, Q6_K, Q5_0, Q5_1, Q5_K, Q4_0, Q4_1 or Q4_K, in memory of its own.

    ``scale * code + minimum`` in float32 is what gguf's ``dequantize`` gives, bit for bit but for the sign of a zero.
    Raises ModelFileError for other kinds, and when a scale is not finite.
    """
    match tensor.kind:
        case "Q8_0":
            return ByteGroups(*int8_groups(tensor), minimum=None)
        case "Q6_K":
            return _q6_k_groups(tensor)
        case "Q5_0" | "Q5_1" | "Q5_K":
            return _five_bit_groups(tensor, _FIVE_BITS[tensor.kind])
        case "Q4_0" | "Q4_1" | "Q4_K":
            codes, scale, minimum = int4_groups(tensor)
            return ByteGroups(codes.view(np.int8), scale, minimum)
    raise ModelFileError(f"the tensor {tensor.name} is {tensor.kind}, which has no codes of 8 bits")


def _five_bit_groups(tensor: GgufTensor, kind: _FiveBits) -> ByteGroups:
    blocks = tensor.data.reshape(len(tensor.data), -1, kind.block_bytes)
    scales, fifth, nibbles = np.split(blocks, [kind.scale_bytes, kind.scale_bytes + kind.fifth_bytes], axis=-1)
    four_bits = np.concatenate([scales, nibbles], axis=-1).reshape(len(blocks), -1)
    low, scale, minimum = int4_groups(replace(tensor, kind=kind.four_bits, data=four_bits))
    codes = (low | _fifth_bits(fifth).reshape(low.shape) << 4).view(np.int8)
    if tensor.kind == "Q5_0":
        return ByteGroups(codes - np.int8(16), scale, None)
    return ByteGroups(codes, scale, minimum)


def _fifth_bits(packed: _Bytes) -> _Bytes:
    """0 or 1 for every value of the blocks: four bytes are a bit for each of 32 values; of 32, each bit is a group."""
    bits = np.unpackbits(packed[..., None], axis=-1, bitorder="little")
    return bits if packed.shape[-1] == 4 else bits.swapaxes(-1, -2)


def _q6_k_groups(tensor: GgufTensor) -> ByteGroups:
    # A block is two halves of 128 values: four runs of 32, whose low four bits are the nibbles of 64 bytes (two runs of
    # low ones, then two of high ones), and whose high two bits are the four pairs of 32 bytes.
    blocks = tensor.data.reshape(len(tensor.data), -1, 210)
    low, high, scales, unit = np.split(blocks, [128, 192, 208], axis=-1)
    low, high = low.reshape(*blocks.shape[:2], 2, 1, 64), high.reshape(*blocks.shape[:2], 2, 1, 32)
    nibbles = (low >> np.array([[0], [4]], dtype=np.uint8) & 0x0F).reshape(*blocks.shape[:2], 2, 4, 32)
    pairs = high >> np.array([[0], [2], [4], [6]], dtype=np.uint8) & 0x03
    codes = (nibbles | pairs << 4).view(np.int8) - np.int8(32)
    units = unit.copy().view("<f2").astype(np.float32)
    if not np.isfinite(units).all():
        raise ModelFileError(f"the tensor {tensor.name} is damaged: it has a scale that is not a finite number")
    scale = units * scales.copy().view(np.int8)
    return ByteGroups(codes.reshape(len(blocks), -1), scale.reshape(len(blocks), -1), None)
