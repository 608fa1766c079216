"""Things that are each kept for the same while. In memory; pure, the clock is passed in."""

import sys
from collections import OrderedDict
from itertools import islice
from typing import Generic, TypeVar

T = TypeVar("T")


class Expiring(Generic[T]):
    """Values by id, each for ``kept_us`` from when it was put. All costs are O(1), amortised over what ran out.

    Times must not run backwards. What ran out stays here until `due` hands it over or `forget` drops it.
    """

    __slots__ = ("_entries", "kept_us")

    def __init__(self, kept_us: int) -> None:
        self.kept_us = kept_us
        self._entries: OrderedDict[str, tuple[int, T]] = OrderedDict()  # by when they run out, as all take equally long

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, entry_id: str) -> bool:
        """Whether it is still here, be it that it ran out."""
        return entry_id in self._entries

    def put(self, entry_id: str, now_us: int, value: T) -> None:
        """Keep it from now on, also if it was kept before."""
        self._entries[entry_id] = (now_us + self.kept_us, value)
        self._entries.move_to_end(entry_id)

    def get(self, entry_id: str, now_us: int) -> T | None:
        """Its value; None if it ran out or was not put."""
        entry = self._entries.get(entry_id)
        return entry[1] if entry is not None and entry[0] > now_us else None

    def renew(self, entry_id: str, now_us: int) -> bool:
        """Keep it for another while, if it is still here, be it that it ran out; whether it was."""
        entry = self._entries.get(entry_id)
        if entry is not None:
            self.put(entry_id, now_us, entry[1])
        return entry is not None

    def pop(self, entry_id: str) -> bool:
        """Drop it, be it that it ran out; whether it was still here."""
        return self._entries.pop(entry_id, None) is not None

    def due(self, now_us: int) -> tuple[str, T] | None:
        """Take out the one that ran out first, if one did."""
        for entry_id, (until_us, value) in self._entries.items():
            if until_us <= now_us:
                del self._entries[entry_id]
                return entry_id, value
            break
        return None

    def forget(self, now_us: int, at_most: int = sys.maxsize) -> int:
        """Drop what ran out, or the first of it; how many."""
        dropped = 0
        while dropped < at_most and self.due(now_us) is not None:
            dropped += 1
        return dropped

    def fewer_us(self, now_us: int, fewer: int) -> int:
        """Until so many have run out, which must be here and at least 1, if none is put or renewed. O(fewer)."""
        until_us, _ = next(islice(self._entries.values(), fewer - 1, None))
        return max(0, until_us - now_us)

    def last_us(self, now_us: int) -> int:
        """Until all have run out, if none is put or renewed. O(1)."""
        return max(0, next(reversed(self._entries.values()))[0] - now_us) if self._entries else 0
