"""The compiled kernels as Python sees them: structures, signatures, and nothing else.

The structures repeat those of ``linear.h`` and ``step.c`` field by field. Whoever fills one keeps the arrays it points
to alive for as long as it is used.
"""

import ctypes
from ctypes import POINTER, Structure, c_float, c_int32, c_int64, c_void_p
from enum import IntEnum
from pathlib import Path


class WeightKind(IntEnum):
    """How a packed weight matrix is stored; see ``linear.h``."""

    Q4 = 0
    Q4_WIDE = 1
    Q8 = 2
    BF16 = 3
    F32 = 4
    Q8_WIDE = 5
    Q8_FINE = 6


QKV_PARTS = 3


class Linear(Structure):
    _fields_ = (
        ("kind", c_int32),
        ("outputs", c_int32),
        ("inputs", c_int32),
        ("panels", c_int32),
        ("data", c_void_p),
    )


class Layer(Structure):
    _fields_ = (
        ("qkv", Linear * QKV_PARTS),
        ("out", Linear),
        ("gate_up", Linear),
        ("down", Linear),
        ("attention_norm", c_void_p),
        ("ffn_norm", c_void_p),
        ("qkv_bias", c_void_p),
        ("query_norm", c_void_p),
        ("key_norm", c_void_p),
        ("after_attention_norm", c_void_p),
        ("after_ffn_norm", c_void_p),
        ("cosine", c_void_p),
        ("sine", c_void_p),
        ("window", c_int32),
    )


class Model(Structure):
    _fields_ = (
        ("layers", c_int32),
        ("hidden", c_int32),
        ("heads", c_int32),
        ("kv_heads", c_int32),
        ("head_dim", c_int32),
        ("ffn", c_int32),
        ("bf16", c_int32),
        ("gelu", c_int32),
        ("norm_epsilon", c_float),
        ("attention_scale", c_float),
        ("embedding_scale", c_float),
        ("layer", POINTER(Layer)),
        ("embedding", Linear),
        ("head", Linear),
        ("final_norm", c_void_p),
        ("keys", c_void_p),
        ("values", c_void_p),
        ("cache_bytes", c_int64),
    )


class Batch(Structure):
    _fields_ = (
        ("sequences", c_int32),
        ("rows", c_int32),
        ("ids", c_void_p),
        ("first_row", c_void_p),
        ("position", c_void_p),
        ("tables", c_void_p),
        ("table_at", c_void_p),
        ("outputs", c_int32),
        ("output_row", c_void_p),
        ("logits", c_void_p),
    )


def load(path: Path) -> ctypes.CDLL:
    """The library at ``path`` with its signatures set. Calls release the GIL. Raises OSError."""
    library = ctypes.CDLL(str(path))
    pointer, number = c_void_p, c_int32
    signatures: dict[str, tuple[object, list[object]]] = {
        "panel_bytes": (c_int64, [number, number]),
        "pack_q4": (None, [pointer, pointer, pointer, number, number, number, number, pointer]),
        "pack_q8": (None, [pointer, pointer, pointer, number, number, number, number, pointer]),
        "pack_dense": (None, [pointer, number, number, number, number, pointer]),
        "workspace_create": (pointer, [number]),
        "workspace_destroy": (None, [pointer]),
        "step_run": (number, [POINTER(Model), POINTER(Batch), pointer]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
