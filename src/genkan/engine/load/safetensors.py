"""Safetensors files: their tensors as the bytes that the file holds.

A file is mapped, not read: only its header is parsed, which is JSON and cannot run anything. A file comes from
anywhere, so the header is bounded, every offset is held against the file, and the tensors must fill it without a gap.

Source: the format's description in the safetensors repository, and what its own reader refuses.
"""

import hashlib
import json
import math
import mmap
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from genkan.engine.load.gguf import GgufTensor
from genkan.errors import ModelFileError

MAX_HEADER_BYTES = 100_000_000  # the format's own limit
_MAX_DIMS = 8
_VALUE_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "F8_E8M0": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4, "F64": 8, "I64": 8, "U64": 8,
}  # fmt: skip


class SafetensorsFile(NamedTuple):
    """``tensors`` by name, in the order of their data; ``digest`` is the SHA-256 of the file in hex.

    The file stays mapped while one of its tensors lives, and must not be cut short until then.
    """

    tensors: dict[str, GgufTensor]
    digest: str


def read(path: Path) -> SafetensorsFile:
    """The tensors in ``path``. Raises ModelFileError when it cannot be read or is malformed anywhere.

    A tensor's ``kind`` is the format's name of its type: ``F32``, ``F16`` and ``BF16`` are those of GGUF too. Cost:
    that of the digest, about 1 s for each gigabyte.
    """
    if path.is_fifo():  # to open one waits for who writes to it
        raise ModelFileError(f"{path} is no file")
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return SafetensorsFile(_tensors(mapped), hashlib.sha256(mapped).hexdigest())
    except (ValueError, RecursionError) as error:  # a ValueError for bad JSON and bad UTF-8 as well
        raise ModelFileError(f"{path} is not a readable safetensors file: {error}") from error
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror}") from error


def _tensors(mapped: mmap.mmap) -> dict[str, GgufTensor]:
    if len(mapped) < 8:
        raise ValueError("it ends within the length of its header")
    header_bytes = int.from_bytes(mapped[:8], "little")
    if header_bytes > min(MAX_HEADER_BYTES, len(mapped) - 8):
        raise ValueError(f"its header of {header_bytes} bytes goes beyond its end, or is longer than any")
    header = json.loads(str(mapped[8 : 8 + header_bytes], "utf-8"), object_pairs_hook=_without_repetition)
    if not isinstance(header, dict):
        raise ValueError("its header is no object")
    header.pop("__metadata__", None)
    data = np.frombuffer(mapped, dtype=np.uint8)[8 + header_bytes :]
    entries = sorted((_entry(name, said) for name, said in header.items()), key=lambda entry: (entry.begin, entry.end))
    at = 0
    for entry in entries:
        if entry.begin != at:
            raise ValueError(f"the tensor {entry.name!r} begins at byte {entry.begin} of the data and not at {at}")
        at = entry.end
    if at != len(data):
        raise ValueError(f"its tensors take {at} bytes, and it has {len(data)} for them")
    return {entry.name: _tensor(entry, data) for entry in entries}


class _Entry(NamedTuple):
    name: str
    kind: str
    shape: tuple[int, ...]
    begin: int
    end: int


def _entry(name: str, said: Any) -> _Entry:
    if not name.isprintable():  # it may be half a character, which nothing could be written with that names it
        raise ValueError(f"the name {name!r} is no text")
    if not isinstance(said, dict) or said.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"the tensor {name!r} is not described by a type, a shape and offsets")
    kind, shape, offsets = said["dtype"], said["shape"], said["data_offsets"]
    if not isinstance(kind, str) or kind not in _VALUE_BYTES:
        raise ValueError(f"the tensor {name!r} is of the unknown type {kind!r}")
    if not _are_counts(shape) or not _are_counts(offsets) or len(offsets) != 2 or len(shape) > _MAX_DIMS:
        raise ValueError(f"the tensor {name!r} has a shape or offsets that are no numbers: {shape!r}, {offsets!r}")
    begin, end = offsets
    if 0 in shape:
        raise ValueError(f"the tensor {name!r} is empty")
    if end - begin != math.prod(shape) * _VALUE_BYTES[kind]:
        raise ValueError(f"the tensor {name!r} is {kind} of {shape} in {end - begin} bytes, which do not fit")
    return _Entry(name, kind, tuple(shape), begin, end)


def _tensor(entry: _Entry, data: npt.NDArray[np.uint8]) -> GgufTensor:
    rows = math.prod(entry.shape[:-1])
    return GgufTensor(entry.name, entry.kind, entry.shape, data[entry.begin : entry.end].reshape(rows, -1))


def _are_counts(values: object) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 1 << 62 for value in values)


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("it has a name twice")
    return values
