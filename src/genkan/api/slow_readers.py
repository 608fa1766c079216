"""Ends the connections of clients that take nothing of what was written for them.

ASGI knows no limit for this: a server lets `send` wait as long as its client likes, and what is still unread after an
answer's last byte keeps the connection, and with it the server's end, waiting as well. So every connection that is
being answered is looked at four times a second. Aborting it is enough: the server then tells whoever sends or watches
that the client has gone.
"""

import asyncio
import fcntl
import termios
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

LOOK_EVERY_S = 0.25
_INT_BYTES = 4


class Response(Protocol):
    """What is being sent: whether all of it was handed over, how long it may lie unread, and what the log shows."""

    complete: bool
    fields: dict[str, object]
    send_timeout_s: float


class SlowReaders:
    """The connections that are being answered, for one event loop at a time. Cost: half a microsecond an answer."""

    def __init__(self) -> None:
        self._watched: dict[asyncio.WriteTransport, _Watched] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def watch(self, response: Response, transport: asyncio.WriteTransport) -> None:
        """Abort ``transport`` once nothing was taken from it for ``send_timeout_s``, also after ``response``.

        The response's ``fields`` then say that the client has gone.
        """
        watched = self._watched.get(transport)
        if watched is not None:
            watched.response = response  # the next one on a connection, on which the last may still lie unread
            return
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._watched.clear()  # the connections of a loop that has ended
            self._loop = loop
            loop.call_later(LOOK_EVERY_S, self._look_again, loop)
        self._watched[transport] = _Watched(response)

    def look(self, now_s: float) -> None:
        """Abort those that have not moved for too long, and forget those from which all was taken."""
        for transport, watched in list(self._watched.items()):
            if watched.is_over(transport):
                del self._watched[transport]
            elif watched.unmoved_s(transport, now_s) >= watched.response.send_timeout_s:
                watched.response.fields["client_gone"] = True
                transport.abort()
                del self._watched[transport]

    def _look_again(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            self.look(loop.time())
        finally:
            if self._watched:
                loop.call_later(LOOK_EVERY_S, self._look_again, loop)
            else:
                self._loop = None


class _Watched:
    __slots__ = ("_since_s", "_unread_bytes", "response")

    def __init__(self, response: Response) -> None:
        self.response = response
        self._unread_bytes = 0
        self._since_s = 0.0

    def is_over(self, transport: asyncio.WriteTransport) -> bool:
        return transport.get_write_buffer_size() == 0 and (self.response.complete or transport.is_closing())

    def unmoved_s(self, transport: asyncio.WriteTransport, now_s: float) -> float:
        unread_bytes = _unread_bytes(transport)
        if unread_bytes == 0 or unread_bytes != self._unread_bytes:
            self._unread_bytes, self._since_s = unread_bytes, now_s
        return now_s - self._since_s


def _unread_bytes(transport: asyncio.WriteTransport) -> int:
    waiting = transport.get_write_buffer_size()
    if waiting and (connection := transport.get_extra_info("socket")) is not None:
        # The kernel asks for more only when a good part of its own buffer is free, so a slow reader shows there first.
        with suppress(OSError, ValueError):  # closed meanwhile
            queued = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(_INT_BYTES))
            waiting += int.from_bytes(queued, "little")
    return waiting


def transport_of(send: Callable[..., Any]) -> asyncio.WriteTransport | None:
    """The connection that ``send`` writes to; None where it does not show.

    ASGI has no name for it. uvicorn's ``send`` is a method of an object that holds it as ``transport``, and neither
    BentoML nor uvicorn's own middleware wraps that method.
    """
    return getattr(getattr(send, "__self__", None), "transport", None)


slow_readers = SlowReaders()  # of this process
