"""The ledger's rows in memory, oldest first."""

from collections.abc import Iterator
from typing import NamedTuple


class _Row(NamedTuple):
    at_ms: int
    row: bytes


class MemoryRows:
    """At most ``keep_rows`` rows, each for ``keep_s``. Cursors look like Redis' (``milliseconds-number``).

    Every row has the next number, so that a cursor finds its place at once, also when its row is long gone.
    """

    def __init__(self, *, keep_rows: int, keep_s: float) -> None:
        self._keep_rows = keep_rows
        self._keep_ms = round(keep_s * 1000)
        self._rows: dict[int, _Row] = {}
        self._next = 1

    def __len__(self) -> int:
        return len(self._rows)

    def append(self, row: bytes, unix_s: float) -> None:
        """Add a row, drop those that are too many or too old. O(1), amortised."""
        now_ms = int(unix_s * 1000)
        self._rows[self._next] = _Row(now_ms, row)
        self._next += 1
        first = self._next - len(self._rows)
        while len(self._rows) > self._keep_rows or self._rows[first].at_ms <= now_ms - self._keep_ms:
            del self._rows[first]
            first += 1

    def after(self, cursor: str, at_most: int) -> list[tuple[str, bytes]]:
        """The rows after ``cursor``, each with its own. ValueError if it is none of ours."""
        first = self._next - len(self._rows)
        start = max(first, int(cursor.partition("-")[2]) + 1 if cursor else 0)
        numbers = range(start, min(self._next, start + at_most))
        return [(f"{self._rows[number].at_ms}-{number}", self._rows[number].row) for number in numbers]

    def since(self, unix_s: float) -> Iterator[bytes]:
        """Rows from then on, newest first, as long as the clock did not run backwards meanwhile."""
        since_ms = int(unix_s * 1000)
        for number in range(self._next - 1, self._next - 1 - len(self._rows), -1):
            at_ms, row = self._rows[number]
            if at_ms < since_ms:
                return
            yield row
