"""Reads HTTP/1.1 answers as the benchmarks' client needs them: cheaply, and with doubt. No I/O."""

from typing import NamedTuple

_LAST_CHUNK = b"0\r\n\r\n"


class WrongAnswer(Exception):
    """An answer that is not HTTP, not complete or not the one that was asked for."""


class Answer(NamedTuple):
    """A complete answer. ``closes``: the server will end the connection."""

    status: int
    body: bytes
    closes: bool


class AnswerReader:
    """Takes what one connection brings, one answer at a time: a client that asks again before the end is not foreseen.

    Knows bodies with a content-length and chunked ones without trailers; servers send no others on connections that
    they keep.
    """

    __slots__ = ("_body_at", "_closes", "_end", "_held", "_status", "head")

    def __init__(self) -> None:
        self._held = bytearray()
        self.head = b""  # of the newest answer, in lower case, each line with its CR LF
        self._forget()

    def feed(self, data: bytes) -> Answer | None:
        """The answer, when ``data`` is its last part. Raises WrongAnswer for bytes that are none."""
        held = self._held
        held += data
        if not self._body_at and not self._read_head():
            return None
        if self._end is None:
            # Only its end is looked at until all is there, which costs a stream of small chunks far less.
            body = _unchunked(held, self._body_at) if held.endswith(_LAST_CHUNK) else None
        else:
            if len(held) > self._end:
                raise WrongAnswer("bytes after the end of the body")
            body = bytes(held[self._body_at :]) if len(held) == self._end else None
        if body is None:
            return None
        answer = Answer(self._status, body, self._closes)
        self._forget()
        return answer

    def _forget(self) -> None:
        self._held.clear()
        self._body_at = 0
        self._end: int | None = None  # None for a chunked body
        self._status = 0
        self._closes = False

    def _read_head(self) -> bool:
        at = self._held.find(b"\r\n\r\n")
        if at < 0:
            return False
        head = bytes(self._held[: at + 2]).lower()
        if not head.startswith(b"http/1.1 ") or not head[9:12].isdigit():
            raise WrongAnswer(f"no HTTP answer: {head[:40]!r}")
        self._status = int(head[9:12])
        self._body_at = at + 4
        self.head = head
        self._closes = b"\r\nconnection: close\r\n" in head
        length = _content_length(head)
        if length is not None:
            self._end = self._body_at + length
        elif b"\r\ntransfer-encoding: chunked\r\n" not in head:
            raise WrongAnswer("an answer with neither content-length nor chunks")
        return True


def _content_length(head: bytes) -> int | None:
    """What the header says; ``head`` is in lower case and ends in CR LF."""
    name = b"\r\ncontent-length:"
    at = head.find(name)
    return None if at < 0 else int(head[at + len(name) : head.index(b"\r\n", at + 2)])


def _unchunked(held: bytearray, at: int) -> bytes | None:
    """The body that begins ``at``; None when it only seems to be complete. Raises WrongAnswer."""
    parts: list[bytes] = []
    while at < len(held):
        line_end = held.find(b"\r\n", at)
        try:
            size = int(held[at:line_end], 16)
        except ValueError:
            raise WrongAnswer("a chunk without a size") from None
        begin = line_end + 2
        at = begin + size + 2
        if size == 0:
            if at != len(held):
                raise WrongAnswer("bytes after the last chunk")
            return b"".join(parts)
        parts.append(bytes(held[begin : begin + size]))
    return None
