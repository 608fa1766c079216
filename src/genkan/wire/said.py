"""What a stream has said so far: enough to go on with it elsewhere, and to find the place again where it broke off.

Kept of every stream that may have to be gone on with, so it costs next to nothing: bytes of UTF-8 at the end of a
buffer, which a ChunkTemplate puts there by itself. What is not plain text is only noted, chunk by chunk, and taken to
pieces when somebody asks, which is seldom. Then all stands there as *runs*: so many bytes of one track (see
wire/pieces.py), then some of another. How a stream was divided into chunks is not kept.
"""

from collections.abc import Iterable
from typing import Any

from genkan.wire.pieces import OF_A_CHOICE, REASONING, TEXT, Track, UnknownPiece, pieces_of

#: What says whose chunk it is; the same in all chunks of a stream.
IDENTITY = ("id", "object", "created", "model", "system_fingerprint")
_MAX_RUNS = 1024  # an answer goes from one track to another a few times
_MOST_NOTED = 16  # chunks; parsed, each takes a kilobyte


class Said:
    """All that one stream with one choice has said to its client.

    ``runs`` are the tracks in the order in which they were said, each with its bytes; no two neighbours are of one
    track. ``head`` is what of `IDENTITY` the first chunk had, ``pieces`` how many chunks said something, ``calls`` the
    tool calls whose id has been given, ``reasoning_names`` the fields in which reasoning came, ``has_role`` whether a
    role was given, and ``has_ended`` whether a finish_reason was. All of that is true once it is ``settled``.
    """

    __slots__ = ("_is_odd", "_noted", "calls", "has_ended", "has_role", "head", "pieces", "reasoning_names", "runs")

    def __init__(self) -> None:
        self.head: dict[str, Any] = {}
        self.runs: list[tuple[Track, bytearray]] = []
        self.pieces = 0
        self.calls: set[int] = set()
        self.reasoning_names: tuple[str, ...] = ()
        self.has_role = False
        self.has_ended = False
        self._is_odd = False
        self._noted: list[dict[str, Any] | tuple[Track, bytearray]] = []  # in the order in which they came

    @property
    def is_known(self) -> bool:
        """Whether the answer can be gone on with at all: all that was said is here, and it has not ended."""
        return not (self._is_odd or self.has_ended)

    @property
    def is_text(self) -> bool:
        """Whether nothing was said but ``text``: no reasoning, no refusal, no call."""
        return self.is_known and all(track == TEXT for track, _ in self.runs)

    @property
    def text(self) -> str:
        """All of the answer's text: a chat's ``content``, or a completion's ``text``. Cost: one copy."""
        return b"".join(run for track, run in self.runs if track == TEXT).decode()

    @property
    def open_text(self) -> str:
        """``text`` without the whitespace at its end, which no chat template cuts off."""
        return self.text.rstrip()

    @property
    def size_bytes(self) -> int:
        """How much is kept."""
        return sum(len(run) for _, run in self.runs)

    def ends_within(self, stops: Iterable[str]) -> bool:
        """Whether the text ends with the beginning of one of ``stops``, which whoever goes on would not see."""
        text = self.text
        return any(text.endswith(stop[:length]) for stop in stops for length in range(1, len(stop)))

    def note(self, chunk: dict[str, Any]) -> None:
        """Keep what a chunk says that is passed on. It must not be changed. What `more` gave is at its end."""
        if not self._is_odd:
            self._noted.append(chunk)
            if len(self._noted) >= _MOST_NOTED:
                self.settled()

    def note_text(self, choice: dict[str, Any], text: bytes) -> bool:
        """``note`` at once what nearly all chunks are: more text after text, in a ``choice`` that says only that.

        Returns False, and has done nothing, if that is not known.
        """
        if not self._noted or not choice.keys() <= OF_A_CHOICE or choice.get("text"):
            return False
        last = self._noted[-1]
        if isinstance(last, dict) or last[0] is not TEXT:
            return False
        last[1].extend(text)
        return True

    def more(self, track: Track) -> bytearray | None:
        """To whose end more of ``track`` may be put, until the next `note` or `settled`; None where nothing is kept."""
        if self._is_odd:
            return None
        if self._noted and not isinstance(last := self._noted[-1], dict) and last[0] is track:
            return last[1]
        run = bytearray()
        self._noted.append((track, run))
        return run

    def settled(self) -> "Said":
        """Itself, with all that was noted in its place. What `more` gave is at its end."""
        noted, self._noted = self._noted, []
        for each in noted:
            if isinstance(each, dict):
                self.hear(each)
            elif each[1] and not self._is_odd:
                self._hear_run(*each)
        return self

    def hear(self, chunk: dict[str, Any]) -> None:
        """Keep what a chunk says that is passed on, at once.

        Something nobody knows makes it all unknown, and what was kept is let go.
        """
        if self._is_odd or not (choices := chunk.get("choices")):
            return
        if not self.head:
            self.head = {name: chunk[name] for name in IDENTITY if name in chunk}
        try:
            for choice in choices:
                self._hear_choice(choice)
        except UnknownPiece:
            self.forget()

    def forget(self) -> None:
        """Let go of all that is kept; from now on nothing is known."""
        self.runs, self._noted = [], []
        self._is_odd = True

    def extended(self, other: "Said", *, again_bytes: int = 0) -> "Said":
        """What the client has after ``other`` went on from here, which said the last ``again_bytes`` again.

        Cost: one copy.
        """
        runs = self.runs
        if again_bytes:
            *runs, (track, last) = runs
            runs.append((track, last[:-again_bytes]))
        return self._went_on([*runs, *other.runs], self.pieces + other.pieces, other)

    def replayed(self, other: "Said") -> "Said":
        """What the client has after ``other`` said all this again, and then went on. Cost: one copy."""
        return self._went_on(other.runs, max(self.pieces, other.pieces), other)

    def _hear_choice(self, choice: dict[str, Any]) -> None:
        for track, text, places in pieces_of(choice, self.calls):
            if track == REASONING and not self.reasoning_names:
                self.reasoning_names = tuple(key for _, key in places)
            self._run_of(track).extend(text.encode())
        if choice.get("finish_reason"):
            self.has_ended = True
        if not self.has_role and (choice.get("delta") or {}).get("role"):
            self.has_role = True

    def _hear_run(self, track: Track, run: bytearray) -> None:
        try:
            self._run_of(track).extend(run)
        except UnknownPiece:
            self.forget()

    def _run_of(self, track: Track) -> bytearray:
        """The last run, or a new one if that is of another track. Raises UnknownPiece."""
        if self.runs and self.runs[-1][0] == track:
            return self.runs[-1][1]
        if len(self.runs) == _MAX_RUNS:
            raise UnknownPiece
        if track[-1] == "name" and any(track == earlier for earlier, _ in self.runs):
            raise UnknownPiece  # another call with the same number, or its name once more: nobody can tell
        run = bytearray()
        self.runs.append((track, run))
        return run

    def _went_on(self, runs: list[tuple[Track, bytearray]], pieces: int, other: "Said") -> "Said":
        made = Said()
        made.head, made.pieces, made.calls = self.head, pieces, self.calls | other.calls
        made.reasoning_names = self.reasoning_names or other.reasoning_names
        made.has_role = self.has_role or other.has_role
        made.has_ended = other.has_ended
        try:
            for track, run in runs:
                made._run_of(track).extend(run)
        except UnknownPiece:
            made.forget()
        if self._is_odd or other._is_odd:
            made.forget()
        return made
