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
        self._num_known = 0  # of the held characters, the first: they were shown elsewhere
        self.found = False

    def go_on_from(self, text: str) -> None:
        """``text`` was shown before the first piece. A stop string may begin in it, and then ends what is shown here.

        One that lies in ``text`` altogether is not looked for. To be called before the first ``push``.
        """
        if self._stops:
            self._num_known = self._held_chars(text)
            self._held = text[len(text) - self._num_known :]

    def push(self, piece: str) -> str:
        """The text that is safe to show after ``piece``. Once a stop string was found, always ''."""
        if not self._stops:
            return piece
        if self.found:
            return ""
        text, known = self._held + piece, self._num_known
        places = [
            (start, start + len(stop))
            for stop in self._stops
            if (start := text.find(stop, max(0, known - len(stop) + 1))) >= 0
        ]
        if places:
            self.found = True
            self._held = ""
            start, end = min(places)
            return text[known : end if self._shown else start]
        safe = len(text) - self._held_chars(text)
        self._held, self._num_known = text[safe:], max(0, known - safe)
        return text[known:safe]

    def flush(self) -> str:
        """What was held back, when no more text comes."""
        held, self._held = self._held[self._num_known :], ""
        return held

    def _held_chars(self, text: str) -> int:
        """How long the longest end of ``text`` is that begins a stop string."""
        longest = min(len(text), max(map(len, self._stops)) - 1)
        for size in range(longest, 0, -1):
            end = text[len(text) - size :]
            if any(stop.startswith(end) for stop in self._stops):
                return size
        return 0
