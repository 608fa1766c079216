"""Server-sent events: bytes in, event payloads out, and back. No I/O.

Theory. An event stream is UTF-8 text of lines ended by CR LF, LF or CR; a blank line dispatches the event, whose
payload is its ``data`` lines joined by LF; a leading byte order mark is skipped; lines beginning with a colon are
comments; ``event``, ``id`` and ``retry`` lines are read and dropped, because the clients of OpenAI's API crash on
them. An event that the stream's end cuts off is never dispatched. TCP may split anywhere, also inside CR LF or a
UTF-8 character: the decoder works on bytes and looks at characters never.

Source: WHATWG HTML, section 9.2 "Server-sent events".
"""

from genkan.errors import GenkanError

DONE = b"data: [DONE]\n\n"
DONE_DATA = b"[DONE]"
MAX_EVENT_BYTES = 1 << 20
_BOM = b"\xef\xbb\xbf"


class EventTooLarge(GenkanError):
    """One event is larger than the decoder holds."""


def encode_event(data: bytes) -> bytes:
    """``data`` as one event. JSON without line breaks costs one copy."""
    if b"\n" in data or b"\r" in data:
        lines = _lines(data)
        return b"".join(b"data: %b\n" % line for line in lines) + b"\n"
    return b"data: %b\n\n" % data


def encode_events(payloads: list[bytes]) -> bytes:
    """``payloads``, none of them with a line break, as events. Cost: one copy."""
    return b"data: %b\n\n" % b"\n\ndata: ".join(payloads)


class SseDecoder:
    """Payloads of an event stream that arrives in pieces of any size.

    Holds at most one unfinished event, ``max_event_bytes`` large.
    """

    __slots__ = ("_after_cr", "_at_start", "_data", "_held", "_line", "_max_event_bytes")

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_event_bytes = max_event_bytes
        self._line = bytearray()  # the unfinished line
        self._data: list[bytes] = []  # data lines of the unfinished event
        self._held = 0  # bytes in _data
        self._after_cr = False  # the last byte was CR, so a LF now is the same line end
        self._at_start = True

    def feed(self, chunk: bytes) -> list[bytes]:
        """The payloads of the events that ``chunk`` completes. Raises EventTooLarge."""
        if not chunk:
            return []
        if chunk.startswith(b"data: ") and (plain := self._plain_events(chunk)) is not None:
            return plain
        if self._after_cr:
            chunk = chunk.removeprefix(b"\n")
        events: list[bytes] = []
        self._after_cr = chunk.endswith(b"\r")
        *complete, rest = _lines(chunk)
        for line in complete:
            if self._line:
                line = bytes(self._line) + line
                self._line.clear()
            self._take(line, events)
        self._line += rest
        self._check_size(len(self._line))
        return events

    def _plain_events(self, chunk: bytes) -> list[bytes] | None:
        """The payloads of a chunk of whole events of one data line each, as nearly all are; None for any other."""
        if self._line or self._data or self._after_cr or not chunk.endswith(b"\n\n") or b"\r" in chunk:
            return None
        events = chunk[6:-2].split(b"\n\ndata: ")
        if chunk.count(b"\n") != 2 * len(events) or len(chunk) > self._max_event_bytes:
            return None
        self._at_start = False
        return events

    def _take(self, line: bytes, events: list[bytes]) -> None:
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(_BOM)
        if not line:
            if self._data:
                events.append(b"\n".join(self._data))
                self._data = []
                self._held = 0
            return
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
            self._held += len(value) + 1
            self._check_size(0)

    def _check_size(self, more: int) -> None:
        if self._held + more > self._max_event_bytes:
            raise EventTooLarge(f"an event must be at most {self._max_event_bytes} bytes; given: more")


def _lines(text: bytes) -> list[bytes]:
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return text.split(b"\n")
