"""Which KV blocks are free. Numbers only: the memory behind them belongs to the model runner."""

from collections.abc import Iterable


class BlockPool:
    """The free ones of ``num_blocks`` KV blocks, numbered from 0."""

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self._free = list(range(num_blocks))[::-1]  # a stack, lowest number on top
        self._is_free = bytearray(b"\1") * num_blocks

    @property
    def num_free(self) -> int:
        return len(self._free)

    def is_free(self, block: int) -> bool:
        return bool(self._is_free[block])

    def peek(self) -> int | None:
        """The block that ``take`` would give first; None if none is free."""
        return self._free[-1] if self._free else None

    def take(self, count: int) -> list[int]:
        """``count`` free blocks, those that were given back last first: their memory is the likeliest to be warm.

        The caller has checked that ``count`` are free. Cost: O(count).
        """
        assert 0 <= count <= len(self._free), f"{count} blocks wanted of {len(self._free)} free"
        cut = len(self._free) - count
        taken = self._free[cut:][::-1]
        del self._free[cut:]
        for block in taken:
            self._is_free[block] = False
        return taken

    def give_back(self, blocks: Iterable[int]) -> None:
        """Make ``blocks`` free again. Raises ValueError for one that is free already or is not of this pool.

        Either is a bug of the caller, and two sequences would write to one block if it passed. Cost: O(len(blocks)).
        """
        for block in blocks:
            if not 0 <= block < self.num_blocks or self._is_free[block]:
                raise ValueError(f"block {block} of {self.num_blocks} is not taken")
            self._is_free[block] = True
            self._free.append(block)
