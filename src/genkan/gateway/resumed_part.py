"""One attempt's answer as it goes on in the place of another's: what of it is new, and what it comes to. No I/O."""

from collections.abc import Sequence
from typing import Any

from genkan.gateway.resumed_usage import Part, resumed_usage
from genkan.upstream.base import Answer, Way
from genkan.upstream.going_on import beginning
from genkan.wire.said import Said
from genkan.wire.seam import Seam, with_usage

_USAGE = b'"usage":{'  # as the seam writes it; inside a string its quotes would be escaped


class ResumedPart:
    """Joins ``other`` to what an answer has said. ``has_more`` as soon as the client has got something of it."""

    __slots__ = ("_had_bytes", "_had_pieces", "_had_tokens", "_repeated", "_seam", "_whole", "has_more", "other", "way")

    def __init__(self, whole: Answer, said: Said, other: Answer, way: Way, mark: dict[str, Any] | None) -> None:
        """``whole`` is the client's, which has ``said`` so much. It is kept right: what was given, once, and its usage.

        ``mark`` goes with the first chunk.
        """
        self.other = other
        self.way = way
        self.has_more = False
        self._whole = whole
        self._seam = Seam(said, way, mark=mark, echoes=other.repeats)
        self._repeated = 0  # chunks
        self._had_pieces, self._had_bytes = whole.pieces, whole.text_bytes
        self._had_tokens = 0  # of those that it was given
        if way != "replay":
            on = beginning(said, way)
            self._had_tokens = on.tokens
            self._had_bytes -= said.size_bytes - len(on.text.encode())

    def take(self, batch: list[bytes]) -> list[bytes]:
        """What of it is new to the client. Raises Diverged."""
        was_joined = self._seam.joined
        new = self._seam.take(batch)
        if not was_joined:
            self._repeated += len(batch) - len(new)
        self.has_more = self.has_more or bool(new)
        return new

    def end(self) -> None:
        """All of it has come. Raises Diverged if it has not said as much."""
        self._seam.end()

    def said(self) -> Said | None:
        """What the client has, after it has failed; None if that is not known."""
        return None if self.other.said is None else self._seam.now(self.other.said)

    def count(self, parts: Sequence[Part]) -> None:
        """Have the client's answer say what it is now; ``parts`` are those that had a part in it, this one included."""
        whole, other = self._whole, self.other
        if self.way == "replay" or other.repeats:
            whole.pieces = max(self._had_pieces + other.pieces - self._repeated, other.pieces)
            whole.text_bytes = max(self._had_bytes, other.text_bytes)
        else:
            whole.pieces, whole.text_bytes = self._had_pieces + other.pieces, self._had_bytes + other.text_bytes
        whole.finish_reason = other.finish_reason
        raw = other.usage
        whole.usage = None if raw is None else resumed_usage(raw, self.way, self._had_tokens, parts)

    def with_usage(self, payloads: list[bytes]) -> list[bytes]:
        """``payloads`` with the whole answer's usage, where they have any."""
        if (usage := self._whole.usage) is None:
            return payloads
        return [with_usage(payload, usage) if _USAGE in payload else payload for payload in payloads]
