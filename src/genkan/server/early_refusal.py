"""Refuses requests of an overloaded worker as soon as their headers are read, before there is a task for them.

Where the processor is what lacks, a refusal must cost next to nothing beside an answer: at twice the load a worker
makes as many refusals as answers, and what they take is lost to answers. Through ASGI there are a task, a request
object and a log line to it; here it is a write of bytes that are known beforehand.

BentoML leaves no way to choose uvicorn's protocol class, so two of its methods are replaced, as in `http_protocol.py`.
The connection stays as it is, and the body of what was refused is read past by uvicorn's own means.

Source: uvicorn 0.54, `HttpToolsProtocol`; RFC 9112, section 9.6.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from genkan.api.exchange import new_request_id
from genkan.gateway.overload import ServerOverloaded
from genkan.server.shedding import Shedding
from genkan.wire.error_body import error_body

#: How long the body of what was refused may take to come; up to twice as long, as it is looked at once in that time.
BODY_S: Final = 30.0


class _Refused:
    """Stands where uvicorn has the request that a connection is at: its answer is complete, its body may not be.

    A connection that is to be closed stays open until the body has come, or some time has passed: bytes that come to a
    closed one have the kernel reset it, and the client loses the answer with it.
    """

    __slots__ = ("_awaited", "_keeps", "protocol")

    response_complete = True
    disconnected = False

    def __init__(self, protocol: HttpToolsProtocol, awaited: "_Awaited", *, keeps: bool) -> None:
        self.protocol = protocol
        self._keeps = keeps
        self._awaited = awaited
        awaited.add(self)

    @property
    def message_event(self) -> "_Refused":
        """uvicorn's way to say that the connection is lost."""
        return self

    def set(self) -> None:
        self._awaited.discard(self)

    def body_has_ended(self) -> None:
        self._awaited.discard(self)
        if self._keeps:
            self.protocol.on_response_complete()
        else:
            self.protocol.transport.close()


class _Awaited:
    """What was refused and whose body has not ended: nearly always for no longer than it takes to read the request.

    So there is no timer for each, but one for all that closes the connections of those that it sees a second time.
    """

    def __init__(self) -> None:
        self._new: set[_Refused] = set()
        self._seen: set[_Refused] = set()
        self._looks = False

    def add(self, refused: _Refused) -> None:
        self._new.add(refused)
        if not self._looks:
            self._looks = True
            self._look_later(refused.protocol.loop)

    def discard(self, refused: _Refused) -> None:
        self._new.discard(refused)
        self._seen.discard(refused)

    def _look_later(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_later(BODY_S, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        late, self._seen, self._new = self._seen, self._new, set()
        for refused in late:
            refused.protocol.transport.close()
        self._looks = bool(self._seen)
        if self._looks:
            self._look_later(loop)


_BODY: Final = error_body(ServerOverloaded())
_HEAD: Final = b"content-type: application/json\r\ncontent-length: %d\r\nretry-after: %d\r\nx-request-id: " % (
    len(_BODY),
    ServerOverloaded.retry_after_s,
)


def install(shedding: Shedding) -> None:
    """From now on, in this process."""
    headers, message = on_headers_complete(shedding), on_message_complete()
    HttpToolsProtocol.on_headers_complete = headers  # type: ignore[method-assign, assignment]
    HttpToolsProtocol.on_message_complete = message  # type: ignore[method-assign, assignment]


def on_headers_complete(shedding: Shedding) -> Callable[[HttpToolsProtocol], None]:
    """uvicorn's method of that name, but for what is refused."""
    uvicorns, overload, awaited = HttpToolsProtocol.on_headers_complete, shedding.overload, _Awaited()

    def complete(self: HttpToolsProtocol) -> None:
        if overload.sheds:
            if self.transport.is_closing():  # after a refusal; uvicorn would begin with what is sent behind it
                return
            self._unset_keepalive_if_required()  # set by a refusal in the same piece of data
            if _may_be_refused(self) and shedding.refuses(self.url):
                shedding.refused(self.url, _refuse(self, awaited))
                return
        uvicorns(self)

    return complete


def on_message_complete() -> Callable[[HttpToolsProtocol], None]:
    """uvicorn's method of that name, but for what was refused."""
    uvicorns = HttpToolsProtocol.on_message_complete

    def complete(self: HttpToolsProtocol) -> None:
        cycle: Any = self.cycle
        if type(cycle) is _Refused:
            cycle.body_has_ended()
        else:
            uvicorns(self)

    return complete


def _may_be_refused(protocol: HttpToolsProtocol) -> bool:
    """Whether it is a POST, the connection is at nothing else, and its client takes the answers that it gets."""
    before, parser = protocol.cycle, protocol.parser
    return (
        (before is None or before.response_complete)
        and not protocol.flow.write_paused
        and parser.get_method() == b"POST"
        and not parser.should_upgrade()
    )


def _refuse(protocol: HttpToolsProtocol, awaited: _Awaited) -> str:
    """The id under which it was refused."""
    parser, request_id = protocol.parser, new_request_id()
    # A client that waits to be told to go on will not send its body now, so what comes next could not be told from it.
    waits = protocol.expect_100_continue
    keeps = parser.should_keep_alive() and parser.get_http_version() != "1.0" and not waits
    parts = [b"HTTP/1.1 503 Service Unavailable\r\n"]
    for name, value in protocol.server_state.default_headers:
        if name == b"connection":  # of a server that drains, to close it
            keeps = False
        else:
            parts += (name, b": ", value, b"\r\n")
    parts += (_HEAD, request_id.encode(), b"\r\n\r\n" if keeps else b"\r\nconnection: close\r\n\r\n", _BODY)
    refused: Any = _Refused(protocol, awaited, keeps=keeps)
    protocol.cycle = refused
    protocol.transport.write(b"".join(parts))
    if waits:
        protocol.transport.close()
    return request_id
