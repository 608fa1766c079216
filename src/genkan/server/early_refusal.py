"""Refuses requests of an overloaded worker as soon as their headers are read, before there is a task for them.

Where the processor is what lacks, a refusal must cost next to nothing beside an answer: at twice the load a worker
makes as many refusals as answers, and what they take is lost to answers. Through ASGI there are a task, a request
object and a log line to it; here it is a write of bytes that are known beforehand.

BentoML leaves no way to choose uvicorn's protocol class, so a method of it is replaced, as in `http_protocol.py`. The
connection stays as it is, and the body of what was refused is read past by uvicorn's own means.
"""

from collections.abc import Callable
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from genkan.api.exchange import new_request_id
from genkan.gateway.overload import ServerOverloaded
from genkan.server.shedding import Shedding
from genkan.wire.error_body import error_body


class _NoEvent:
    def set(self) -> None:
        """Nobody waits for it."""


class _Answered:
    """Stands where uvicorn has the request that a connection is at: one whose answer is complete."""

    response_complete = True
    disconnected = False
    message_event = _NoEvent()


_ANSWERED: Final[Any] = _Answered()
_BODY: Final = error_body(ServerOverloaded())
_HEAD: Final = b"content-type: application/json\r\ncontent-length: %d\r\nretry-after: %d\r\nx-request-id: " % (
    len(_BODY),
    ServerOverloaded.retry_after_s,
)


def install(shedding: Shedding) -> None:
    """From now on, in this process."""
    HttpToolsProtocol.on_headers_complete = on_headers_complete(shedding)  # type: ignore[method-assign, assignment]


def on_headers_complete(shedding: Shedding) -> Callable[[HttpToolsProtocol], None]:
    """uvicorn's method of that name, but for what is refused."""
    uvicorns, overload = HttpToolsProtocol.on_headers_complete, shedding.overload

    def complete(self: HttpToolsProtocol) -> None:
        if overload.sheds and _may_be_refused(self) and shedding.refuses(self.url):
            _refuse(self)
        else:
            uvicorns(self)

    return complete


def _may_be_refused(protocol: HttpToolsProtocol) -> bool:
    """Whether it is a POST, and the connection is at nothing else."""
    before, parser = protocol.cycle, protocol.parser
    return (before is None or before.response_complete) and parser.get_method() == b"POST" and not (
        parser.should_upgrade()
    )  # fmt: skip


def _refuse(protocol: HttpToolsProtocol) -> None:
    parser = protocol.parser
    # A client that waits to be told to go on will not send its body now, so what comes next could not be told from it.
    keeps = parser.should_keep_alive() and parser.get_http_version() != "1.0" and not protocol.expect_100_continue
    parts = [b"HTTP/1.1 503 Service Unavailable\r\n"]
    for name, value in protocol.server_state.default_headers:
        if name == b"connection":  # of a server that drains, to close it
            keeps = False
        else:
            parts += (name, b": ", value, b"\r\n")
    parts += (_HEAD, new_request_id().encode(), b"\r\n\r\n" if keeps else b"\r\nconnection: close\r\n\r\n", _BODY)
    protocol.cycle = _ANSWERED
    protocol.transport.write(b"".join(parts))
    if not keeps:
        protocol.transport.close()
    protocol.on_response_complete()
