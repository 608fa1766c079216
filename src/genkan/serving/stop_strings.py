"""Finds stop strings in text that arrives in pieces. Pure; no I/O.

A stop string may begin in one piece and end in a later one, so text that could be the beginning of a stop string is
held back until it is clear. What is held is never longer than the longest stop string less one character.
"""

from collections.abc import Sequence


class StopStrings:
    """Cuts a text where the first of ``stops`` begins."""

    def __init__(self, stops: Sequence[str], *, shown: bool = False) -> None:
        """``stops`` are not empty strings; no stops at all is fine and holds nothing back.

        ``shown``: cut where it ends instead; of two that begin together the shorter one counts.
        """
        self._stops = tuple(stops)
        self._shown = shown
        self._held = ""
        self.found = False

    def push(self, piece: str) -> str:
        """The text that is safe to show after ``piece``. Once a stop string was found, always ''."""
        if not self._stops:
            return piece
        if self.found:
            return ""
        text = self._held + piece
        places = [(start, start + len(stop)) for stop in self._stops if (start := text.find(stop)) >= 0]
        if places:
            self.found = True
            self._held = ""
            start, end = min(places)
            return text[: end if self._shown else start]
        keep = self._held_chars(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """What was held back, when no more text comes."""
        held, self._held = self._held, ""
        return held

    def _held_chars(self, text: str) -> int:
        """How long the longest end of ``text`` is that begins a stop string."""
        longest = min(len(text), max(map(len, self._stops)) - 1)
        for size in range(longest, 0, -1):
            end = text[len(text) - size :]
            if any(stop.startswith(end) for stop in self._stops):
                return size
        return 0
