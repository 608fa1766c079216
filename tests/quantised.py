"""Weight matrices as a GGUF file stores them, of random codes and scales."""

import numpy as np
import numpy.typing as npt
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from genkan.engine.load.gguf import GgufTensor

Random = np.random.Generator
_Bytes = npt.NDArray[np.uint8]

# Of a value, in units of its block's scale. K kinds have scales of their own within: 6 bits, of Q6_K 8 and a sign.
CODE_SPREAD = {
    "Q4_0": 4.6, "Q4_1": 4.6, "Q4_K": 4.6 * 36, "Q5_0": 9.2, "Q5_1": 9.2, "Q5_K": 9.2 * 36, "Q6_K": 18.5 * 74,
    "Q8_0": 74.0,
}  # fmt: skip
CODE_MIDDLE = {"Q4_1": 7.5, "Q4_K": 7.5, "Q5_1": 15.5, "Q5_K": 15.5}  # what a minimum takes away, in the same units


def random_tensor(kind: str, shape: tuple[int, int], random: Random, *, spread: float = 1.0) -> GgufTensor:
    """A matrix of ``shape`` whose values have about the standard deviation ``spread``, and every code."""
    return tensor_of(kind, shape, _stored(kind, shape, random, spread))


def tensor_of(kind: str, shape: tuple[int, ...], data: npt.NDArray[np.generic]) -> GgufTensor:
    """``data`` as a mapped file would give it: bytes, ``[rows, bytes of a row]``, read-only."""
    rows = shape[0] if len(shape) > 1 else 1
    stored = np.ascontiguousarray(data).view(np.uint8).reshape(rows, -1)
    stored.setflags(write=False)
    return GgufTensor("w", kind, shape, stored)


def _stored(kind: str, shape: tuple[int, int], random: Random, spread: float) -> npt.NDArray[np.generic]:
    if kind in CODE_SPREAD:
        return _blocks(kind, shape, random, spread / CODE_SPREAD[kind])
    values = (spread * random.standard_normal(shape)).astype(np.float32)
    match kind:
        case "F32":
            return values
        case "F16":
            return values.astype(np.float16)
        case "BF16":
            return (values.view(np.uint32) >> 16).astype(np.uint16)
    raise ValueError(kind)


def _blocks(kind: str, shape: tuple[int, int], random: Random, scale: float) -> _Bytes:
    rows, cols = shape
    block_values, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    num_blocks = cols // block_values
    blocks = random.integers(0, 256, (rows, num_blocks, block_bytes), dtype=np.uint8)
    scales = scale * random.uniform(0.5, 1.5, (rows, num_blocks))
    at = block_bytes - 2 if kind == "Q6_K" else 0
    blocks[..., at : at + 2] = _halves(scales)
    if kind in CODE_MIDDLE:  # the K kinds subtract their minimums, the others add them
        blocks[..., 2:4] = _halves(scales * CODE_MIDDLE[kind] * (1 if kind.endswith("_K") else -1))
    return blocks


def _halves(values: npt.NDArray[np.float64]) -> _Bytes:
    return values.astype(np.float16)[..., None].view(np.uint8)
