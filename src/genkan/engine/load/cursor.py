"""Values one after the other in a mapped file that may be damaged.

Numbers are little-endian; a string is its length in eight bytes, and that many bytes of UTF-8. A count or a length is
held against the bytes that are left before anything is made of it.
"""

import mmap
import struct
from typing import Any


class Cursor:
    """A place in a mapped file, which moves on as values are taken.

    ``mapped`` is the file, ``at`` the place in bytes. Everything raises ValueError where the file ends too soon.
    """

    def __init__(self, mapped: mmap.mmap) -> None:
        """Stands at the beginning of ``mapped``."""
        self.mapped = mapped
        self.size_bytes = len(mapped)
        self.at = 0

    def scalar(self, code: str) -> Any:
        """The next value of ``struct``'s type ``code``."""
        return self.scalars(code, 1)[0]

    def scalars(self, code: str, count: int) -> tuple[Any, ...]:
        """The next ``count`` values of one type."""
        self._expect(count, struct.calcsize(f"<{code}"))
        layout = struct.Struct(f"<{count}{code}")
        values = layout.unpack_from(self.mapped, self.at)
        self.at += layout.size
        return values

    def string(self) -> str:
        """The next string, which must be UTF-8."""
        return self.strings(1)[0]

    def strings(self, count: int) -> list[str]:
        """The next ``count`` strings. A vocabulary has 100 000 of them, hence one loop without calls of ours."""
        self._expect(count, 8)
        mapped, size_bytes, at, length_of = self.mapped, self.size_bytes, self.at, struct.Struct("<Q").unpack_from
        strings = []
        for _ in range(count):
            start = at + 8
            if start > size_bytes:
                raise ValueError(f"it ends within a string at byte {at}")
            at = start + length_of(mapped, at)[0]
            if at > size_bytes:
                raise ValueError(f"the string at byte {start} goes beyond its end")
            strings.append(str(mapped[start:at], "utf-8"))
        self.at = at
        return strings

    def _expect(self, count: int, least_bytes: int) -> None:
        # Before memory is taken for them: a damaged count may be anything.
        if count * least_bytes > self.size_bytes - self.at:
            raise ValueError(f"it ends at byte {self.size_bytes}, within what begins at {self.at}")
