"""Vectors of one partition, row by row, as they came. No I/O; the clock is passed in.

A row never moves: one that is forgotten is only struck out. Rows expire about in the order in which they came, so what
is struck out goes block by block from the front, and there are at most as many rows as came within one entry's life,
and a block. Rows are numbered from the first that ever was, so a number stays what it is.

A block has at most `_BLOCK_ELEMENTS` numbers. So growing never copies more than that, and no product is so large that
OpenBLAS spreads it over threads, which would spin on other cores for milliseconds after each (it begins to at 460,800
numbers).
"""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from genkan.cache.index.base import Matrix, Near, Vector

_BLOCK_ELEMENTS = 512 * 384
_FIRST_ROWS = 8
_STRUCK = -np.inf


class Found(NamedTuple):
    """An entry, and how near it is."""

    cosine: float
    key: bytes
    text: str


class _Block:
    """Up to ``limit`` rows. Its arrays are as large as is needed now; they double."""

    __slots__ = ("expires_s", "keys", "living", "texts", "vectors")

    def __init__(self, dim: int, limit: int) -> None:
        rows = min(_FIRST_ROWS, limit)
        self.vectors: Matrix = np.empty((rows, dim), np.float32)
        self.expires_s: NDArray[np.float64] = np.empty(rows)
        self.keys: list[bytes] = []
        self.texts: list[str] = []
        self.living = 0

    def append(self, key: bytes, text: str, vector: Vector, expires_s: float, limit: int) -> None:
        row = len(self.keys)
        if row == len(self.vectors):
            more = min(row, limit - row)
            self.vectors = np.concatenate([self.vectors, np.empty((more, vector.shape[0]), np.float32)])
            self.expires_s = np.concatenate([self.expires_s, np.empty(more)])
        self.vectors[row] = vector
        self.expires_s[row] = expires_s
        self.keys.append(key)
        self.texts.append(text)
        self.living += 1

    def found(self, row: int, cosine: float) -> Found:
        return Found(cosine, self.keys[row], self.texts[row])


class Rows:
    """Rows of ``dim`` numbers, unit length, each with when it expires. One whose time is over is not found."""

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self._limit = max(1, _BLOCK_ELEMENTS // dim)
        self._blocks: deque[_Block] = deque()
        self._first_block = 0  # how many have gone from the front
        self._row_of: dict[bytes, int] = {}

    def __len__(self) -> int:
        """Entries, those among them whose time is over and that nobody has forgotten yet."""
        return len(self._row_of)

    def __contains__(self, key: bytes) -> bool:
        return key in self._row_of

    @property
    def first(self) -> int:
        """The number of the first row that there is."""
        return self._first_block * self._limit

    @property
    def end(self) -> int:
        """The number that the next row gets."""
        return self.first + sum(len(block.keys) for block in self._blocks)

    @property
    def held_bytes(self) -> int:
        """Of vectors."""
        return sum(block.vectors.nbytes for block in self._blocks)

    def is_same(self, key: bytes, text: str, expires_s: float) -> bool:
        """Whether the entry ``key`` is there, with that text and that end."""
        row = self._row_of.get(key)
        if row is None:
            return False
        block, place = self._at(row)
        return bool(block.expires_s[place] == expires_s) and block.texts[place] == text

    def add(self, key: bytes, text: str, vector: Vector, expires_s: float) -> None:
        """Append a row; ``key`` must not be there. Cost: 2 µs, but for a growing block's copy."""
        if not self._blocks or len(self._blocks[-1].keys) == self._limit:
            self._blocks.append(_Block(self.dim, self._limit))
        block = self._blocks[-1]
        self._row_of[key] = (self._first_block + len(self._blocks) - 1) * self._limit + len(block.keys)
        block.append(key, text, vector, expires_s, self._limit)

    def remove(self, key: bytes) -> None:
        """Strike the entry's row out; ``key`` must be there."""
        block, place = self._at(self._row_of.pop(key))
        block.expires_s[place] = _STRUCK
        block.texts[place] = ""
        block.living -= 1
        while self._blocks and not self._blocks[0].living and self._blocks[0] is not self._blocks[-1]:
            self._blocks.popleft()
            self._first_block += 1

    def drain(self) -> Iterator[list[bytes]]:
        """Give everything up, block by block: the keys of each, those of rows that were struck out too."""
        while self._blocks:
            keys = self._blocks.popleft().keys
            self._first_block += 1
            for key in keys:
                self._row_of.pop(key, None)
            yield keys

    def expired(self, now_s: float, most: int) -> list[bytes]:
        """Keys of the entries whose time is over, the oldest ``most`` of them. Cost: 2 µs a block."""
        keys: list[bytes] = []
        for block in self._blocks:
            expires_s = block.expires_s[: len(block.keys)]
            over = np.flatnonzero((expires_s <= now_s) & (expires_s > _STRUCK))
            keys += [block.keys[row] for row in over[: most - len(keys)].tolist()]
            if len(keys) == most:
                break
        return keys

    def blocks_from(self, row: int) -> range:
        """Numbers for ``nearest``, of the blocks with that row and all later ones."""
        return range(max(row // self._limit, self._first_block), self._first_block + len(self._blocks))

    def nearest(self, number: int, query: Vector, k: int, now_s: float) -> list[Found]:
        """The best ``k`` of a block, best first; nothing if the block has gone.

        Cost: 20 µs for 512 rows of 384 that are in the CPU's cache, 60 for others.
        """
        if not 0 <= number - self._first_block < len(self._blocks):
            return []
        block = self._blocks[number - self._first_block]
        rows = len(block.keys)
        cosines = block.vectors[:rows] @ query
        cosines[block.expires_s[:rows] <= now_s] = _STRUCK
        best = np.argpartition(cosines, rows - k)[-k:] if k < rows else np.arange(rows)
        best = best[np.argsort(-cosines[best], kind="stable")]
        return [block.found(row, cosine) for row in best.tolist() if (cosine := float(cosines[row])) > _STRUCK]

    def among(self, rows: Iterable[int], query: Vector, now_s: float) -> list[Found]:
        """Those of ``rows`` that are there and have not expired, in their order, with their cosines."""
        found = []
        for row in rows:
            if self.first <= row:
                block, place = self._at(row)
                if block.expires_s[place] > now_s:
                    found.append(block.found(place, float(block.vectors[place] @ query)))
        return found

    def living(self, first: int, end: int) -> tuple[NDArray[np.uint64], Matrix]:
        """Numbers and vectors of what is not struck out in one range, as they are now; copies."""
        rows = [row for row in range(max(first, self.first), end) if self._is_living(row)]
        vectors = np.empty((len(rows), self.dim), np.float32)
        for place, row in enumerate(rows):
            block, there = self._at(row)
            vectors[place] = block.vectors[there]
        return np.array(rows, np.uint64), vectors

    def _is_living(self, row: int) -> bool:
        block, place = self._at(row)
        return bool(block.expires_s[place] > _STRUCK)

    def _at(self, row: int) -> tuple[_Block, int]:
        number, place = divmod(row, self._limit)
        return self._blocks[number - self._first_block], place


def best(found: Iterable[Found], k: int) -> list[Near]:
    """The ``k`` nearest of what several searches found, each once, best first."""
    nearest = {one.key: one for one in sorted(found)}  # the last of a key stays: its greatest cosine
    ordered = sorted(nearest.values(), reverse=True)[:k]
    return [Near(one.key, one.text, min(one.cosine, 1.0)) for one in ordered]
