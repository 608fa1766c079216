"""GGUF files written by hand, byte by byte, so that they can be wrong."""

import struct
from collections.abc import Sequence

UINT8, UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY, UINT64, FLOAT64 = 0, 4, 5, 6, 7, 8, 9, 10, 12
F32, Q4_1, Q8_0 = 0, 3, 8


def u32(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}I", *values)


def u64(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}Q", *values)


def text(value: str | bytes) -> bytes:
    """A string: its length and itself."""
    raw = value.encode() if isinstance(value, str) else value
    return u64(len(raw)) + raw


def pair(name: str | bytes, value_type: int, value: bytes) -> bytes:
    """A key-value."""
    return text(name) + u32(value_type) + value


def array(name: str, item_type: int, count: int, items: bytes) -> bytes:
    """A key-value whose value is an array."""
    return pair(name, ARRAY, u32(item_type) + u64(count) + items)


def entry(name: str | bytes, dims: Sequence[int], kind: int = F32, offset: int = 0) -> bytes:
    """What the header says of a tensor; ``dims`` are in the file's order, the length of a row first."""
    return text(name) + u32(len(dims)) + u64(*dims) + u32(kind) + u64(offset)


def gguf_bytes(
    pairs: Sequence[bytes] = (),
    entries: Sequence[bytes] = (),
    data: bytes = b"",
    *,
    alignment: int = 32,
    num_pairs: int | None = None,
    num_tensors: int | None = None,
) -> bytes:
    """A file of version 3. The counts are right unless given."""
    header = b"GGUF" + u32(3)
    header += u64(len(entries) if num_tensors is None else num_tensors)
    header += u64(len(pairs) if num_pairs is None else num_pairs)
    header += b"".join([*pairs, *entries])
    return header + (b"\0" * (-len(header) % alignment) + data if entries else b"")
