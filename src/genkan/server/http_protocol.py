"""What we do otherwise than uvicorn on its connections.

BentoML leaves no way to choose the protocol class, so two of its methods are replaced:

* Bytes that are not HTTP uvicorn answers itself, in plain text, before any application is asked. Here too they get
  OpenAI's error body.
* A response's head and body uvicorn writes by two calls of the system, after it has looked at each header with two
  regular expressions; with OpenAI's headers and ours that costs as much as a tenth of a small request. Here the head
  waits for the first piece of the body, as ASGI allows, and all headers are checked at once. What is on the wire is the
  same, byte for byte, and so is what is refused; but of a response that is refused, or given up, before the first piece
  of its body nothing has gone out yet.

Source: ASGI's HTTP specification, "Response Start"; RFC 9112; uvicorn 0.54, `RequestResponseCycle.send`.
"""

from collections.abc import Iterable

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http.httptools_impl import HEADER_RE, STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from genkan.api.exchange import new_request_id
from genkan.errors import InvalidRequest
from genkan.wire.error_body import error_body

_CONTROL = bytes([*range(9), *range(10, 32), 127])  # all that may not be in a header's value, CR and LF among it
_CONNECTION, _LENGTH, _CODING = b"connection: ", b"content-length: ", b"transfer-encoding: "
_FRAMING = frozenset({_CONNECTION, _LENGTH, _CODING})
_JOINED_BYTES = 64 << 10  # a longer body is not copied to stand behind its head
_MOST_NAMES = 1000
_names: dict[bytes, bytes] = {}  # a header's name as it is given, and as its line begins

_uvicorns_send = RequestResponseCycle.send


def install() -> None:
    """From now on, in this process."""
    HttpToolsProtocol.send_400_response = _send_400_response  # type: ignore[method-assign]
    RequestResponseCycle.send = _send  # type: ignore[method-assign]


def _send_400_response(self: HttpToolsProtocol, msg: str) -> None:
    body = error_body(InvalidRequest(msg))
    head = (
        "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\nx-request-id: {new_request_id()}\r\nconnection: close\r\n\r\n"
    )
    self.transport.write(head.encode() + body)
    self.transport.close()


async def _send(self: RequestResponseCycle, message: ASGISendEvent) -> None:
    if self.access_log:  # its own log, which genkan's configuration turns off
        await _uvicorns_send(self, message)
        return
    if self.flow.write_paused and not self.disconnected:
        await self.flow.drain()
    if self.disconnected:
        return
    if not self.response_started:
        if message["type"] != "http.response.start":
            raise RuntimeError(f"Expected ASGI message 'http.response.start', but got '{message['type']}'.")
        self.held_head = _head(self, message["status"], message.get("headers", ()))  # type: ignore[attr-defined]
        self.response_started = True  # not before: of what is refused nothing goes out, and uvicorn answers with 500
        self.waiting_for_100_continue = False
    elif not self.response_complete:
        if message["type"] != "http.response.body":
            raise RuntimeError(f"Expected ASGI message 'http.response.body', but got '{message['type']}'.")
        _write(self, message.get("body", b""), has_more=message.get("more_body", False))
    else:
        raise RuntimeError(f"Unexpected ASGI message '{message['type']}' sent, after response already completed.")


def _head(cycle: RequestResponseCycle, status: int, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The status line and the headers. Says in ``cycle`` how long the body is, and whether the connection stays."""
    parts = [STATUS_LINE[status]]
    closes = False
    for name, value in (*cycle.default_headers, *headers):
        begin = _names.get(name) or _begin_of(name)
        parts += (begin, value, b"\r\n")
        if begin in _FRAMING:
            closes = _frame(cycle, begin, value) or closes
    if not cycle.keep_alive and not closes:
        parts += (b"connection: close", b"", b"\r\n")
    if cycle.chunked_encoding is None and cycle.scope["method"] != "HEAD" and status not in (204, 304):
        cycle.chunked_encoding = True
        parts += (b"transfer-encoding: chunked", b"", b"\r\n")
    head = b"".join(parts)
    # Each line has one CR and one LF of ours; whatever else is found was in a value.
    if len(head) - len(head.translate(None, _CONTROL)) != 2 * ((len(parts) + 2) // 3):
        raise RuntimeError("Invalid HTTP header value.")
    return head + b"\r\n"


def _begin_of(name: bytes) -> bytes:
    if HEADER_RE.search(name):
        raise RuntimeError("Invalid HTTP header name.")
    if len(_names) >= _MOST_NAMES:
        _names.clear()
    begin = _names[name] = name.lower() + b": "
    return begin


def _frame(cycle: RequestResponseCycle, begin: bytes, value: bytes) -> bool:
    """Take in a header that says how the response ends; whether it closes the connection."""
    if begin == _LENGTH:
        if cycle.chunked_encoding is None:
            cycle.expected_content_length = int(value.decode())
            cycle.chunked_encoding = False
    elif begin == _CODING:
        if value.lower() == b"chunked":
            cycle.expected_content_length = 0
            cycle.chunked_encoding = True
    elif b"close" in [token.lower().strip() for token in value.split(b",")]:
        cycle.keep_alive = False
        return True
    return False


def _write(cycle: RequestResponseCycle, body: bytes, *, has_more: bool) -> None:
    """A piece of the body, behind the head if that has not gone yet."""
    if cycle.scope["method"] == "HEAD":
        cycle.expected_content_length = 0
        body = b""
    elif cycle.chunked_encoding:
        chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
        body = chunk if has_more else chunk + b"0\r\n\r\n"
    elif len(body) > cycle.expected_content_length:
        raise RuntimeError("Response content longer than Content-Length")
    else:
        cycle.expected_content_length -= len(body)
    head, cycle.held_head = cycle.held_head, b""  # type: ignore[attr-defined]
    if head and len(body) > _JOINED_BYTES:
        cycle.transport.write(head)
        head = b""
    cycle.transport.write(head + body)
    if has_more:
        return
    if cycle.expected_content_length != 0:
        raise RuntimeError("Response content shorter than Content-Length")
    cycle.response_complete = True
    cycle.message_event.set()
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()
