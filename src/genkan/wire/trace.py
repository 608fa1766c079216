"""Where the trace of a request is told what becomes of it. No I/O."""

import re
from typing import Final, Protocol

from genkan.wire.usage import Usage

#: Version, trace, parent, flags. Source: W3C Trace Context, section 3.2.
_TRACEPARENT: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


class RequestTrace(Protocol):
    """The trace of one request. ``call`` is the id of one of its attempts."""

    def attempt_begun(self, call: str, deployment: str) -> bytes:
        """One is about to be sent to ``deployment``; the ``traceparent`` that it is sent with."""

    def attempt_ended(self, call: str, state: str, usage: Usage | None) -> None:
        """It ended in ``state``: "ok", or a word of ours for what was the matter."""


def read_traceparent(value: bytes | None) -> tuple[int, int, int] | None:
    """The ids of a trace and of a span in it, and its flags; None for what is not of the form, or all zero."""
    found = None if value is None else _TRACEPARENT.fullmatch(value.strip())
    if found is None or found[1] == b"ff" or (found[1] == b"00" and found[5] is not None):
        return None
    trace, span = int(found[2], 16), int(found[3], 16)
    return (trace, span, int(found[4], 16)) if trace and span else None
