"""One HTTP request and its response, over ASGI.

Everything the API sends goes through here, so every response carries ``x-request-id``, and nothing is sent twice.
"""

import asyncio
import os
import random
import re
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import parse_qsl

from genkan.api.begun import Begun
from genkan.api.slow_readers import slow_readers, transport_of
from genkan.errors import BodyTimeout, BodyTooLarge, InvalidRequest, WrongMediaType
from genkan.wire.caller import Caller
from genkan.wire.trace import RequestTrace

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Header = tuple[bytes, bytes]

JSON = b"application/json"
SEND_TIMEOUT_S = 30.0
_DISCARD_LIMIT_BYTES = 64 << 20
_DISCARD_S = 5.0
_DISCARD_PAUSE_S = 0.2  # a client that is silent for so long has stopped sending, or never meant to
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")  # urllib takes these for plain text
#: How ``send`` says that the client has gone. A server notices some disconnects only when it writes: uvicorn stops
#: reading, and with it watching, a connection on which the client has sent its next request early. uvloop then raises
#: RuntimeError.
_GONE = (OSError, RuntimeError)


_bits = random.Random(os.urandom(32)).getrandbits  # noqa: S311 - to be told apart is all that is asked of an id


def new_request_id() -> str:
    """The server's own name for a request; a client's is never used as one."""
    return f"req_{_bits(128):032x}"


class ClientGone(Exception):
    """The client closed its connection; there is nobody to answer."""


class Exchange:
    """A request to read and a response to send, at most once."""

    __slots__ = (
        "_asgi_send",
        "_first_values",
        "_receive",
        "bytes_in",
        "bytes_out",
        "complete",
        "fields",
        "first_token_s",
        "generation",
        "headers",
        "known_caller",
        "method",
        "path",
        "peer",
        "query",
        "request_id",
        "send_timeout_s",
        "started_s",
        "status",
        "trace",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query: bytes = scope.get("query_string", b"")  # as it was sent, without the "?"
        self.headers: list[Header] = scope["headers"]
        client = scope.get("client")
        self.peer: str | None = client[0] if client else None
        self.request_id = new_request_id()
        self.status = 0  # until the response has started
        self.complete = False  # once the whole response was handed over
        self.fields: dict[str, object] = {}  # for the log
        self.generation: tuple[str, str] | None = None  # what it asks for, and of which model or route
        self.first_token_s: float | None = None  # since it began, of a stream that has one
        self.bytes_in = self.bytes_out = 0  # of the bodies
        self.trace: RequestTrace | None = None  # where it is traced
        self.send_timeout_s = SEND_TIMEOUT_S  # a client that takes nothing for so long loses its connection
        self.started_s = time.monotonic()  # not the loop's clock: uvloop rounds it to milliseconds
        self._first_values: dict[bytes, bytes] = dict(reversed(self.headers))
        self.known_caller: Caller | None = None  # who asks, once that is known
        self._receive = receive
        self._asgi_send = send

    @property
    def caller(self) -> Caller:
        """Who asks; until that is known, somebody on this machine."""
        if self.known_caller is None:
            self.known_caller = Caller(self.request_id)
        return self.known_caller

    @caller.setter
    def caller(self, caller: Caller) -> None:
        self.known_caller = caller

    def header(self, name: bytes) -> bytes | None:
        """The value of a header by its lower-case name; the first if there are several."""
        return self._first_values.get(name)

    def header_values(self, name: bytes) -> list[bytes]:
        """All values of a header by its lower-case name."""
        if len(self._first_values) == len(self.headers):  # none is given twice
            return [self._first_values[name]] if name in self._first_values else []
        return [value for key, value in self.headers if key == name]

    def query_values(self, *names: str) -> dict[str, str]:
        """The parameters in the query string, of which ``names`` are known; those not given are left out.

        Raises InvalidRequest for any other, for one that is given twice, and for what is not percent-encoded UTF-8.
        """
        values: dict[str, str] = {}
        for name, value in _parsed_query(self.query):
            if name not in names:
                known = f"; known: {', '.join(names)}" if names else ""
                raise InvalidRequest(f"Unknown query parameter: '{name[:100]}'{known}.", param=name[:100])
            if name in values:
                raise InvalidRequest(f"The query parameter '{name}' is given twice.", param=name)
            values[name] = value
        return values

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.started_s

    async def json_body(self, *, limit_bytes: int, timeout_s: float) -> bytes:
        """The whole body, declared as JSON.

        Raises WrongMediaType, BodyTooLarge, BodyTimeout, ClientGone. Never holds more than the limit and one piece.
        """
        self._check_media_type()
        declared = self._first_values.get(b"content-length", b"")
        given = int(declared) if declared.isdigit() and len(declared) < 20 else None
        try:
            first = Begun(self._receive()) if (given or 0) <= limit_bytes else None
            if first is not None and first.is_done and (body := _whole_body(first.result, limit_bytes)) is not None:
                self.bytes_in = len(body)
                return body
            async with asyncio.timeout(timeout_s):
                body = await self._body(first, given, limit_bytes)
                self.bytes_in = len(body)
                return body
        except TimeoutError:
            raise BodyTimeout(f"The request body must arrive within {timeout_s:g} s.") from None

    async def _body(self, first: Begun[Message] | None, given: int | None, limit_bytes: int) -> bytes:
        """The body in as many pieces as it comes in, of which ``first`` is on its way; ``given`` bytes, it is said."""
        pieces: list[bytes] = []
        received, more = 0, True
        while True:
            if max(received, given or 0) > limit_bytes:
                if more:
                    await self._discard_body(given)
                raise BodyTooLarge(limit_bytes=limit_bytes, given_bytes=given)
            if not more:
                return b"".join(pieces)
            message = await (self._receive() if first is None else first)
            first = None
            if message["type"] == "http.disconnect":
                raise ClientGone
            pieces.append(message.get("body", b""))
            received += len(pieces[-1])
            more = message.get("more_body", False)

    def _check_media_type(self) -> None:
        declared = self._first_values.get(b"content-type", b"")
        if declared == JSON and b"content-encoding" not in self._first_values:
            return
        kind, _, parameters = declared.lower().partition(b";")
        if kind.strip() != JSON:
            given = kind.strip().decode("latin-1")[:100] or "none"
            raise WrongMediaType(f"The content type must be application/json; given: {given}.")
        charset = parameters.replace(b" ", b"").replace(b'"', b"").partition(b"charset=")[2].partition(b";")[0]
        if charset not in (b"", b"utf-8", b"utf8"):
            raise WrongMediaType(f"The charset must be utf-8; given: {charset.decode('latin-1')[:100]}.")
        coding = (self.header(b"content-encoding") or b"identity").strip().lower()
        if coding != b"identity":
            raise WrongMediaType(f"The body must not be compressed; given: {coding.decode('latin-1')[:100]}.")

    async def _discard_body(self, declared_bytes: int | None) -> None:
        # A client that is still sending sees a reset instead of our answer, unless what it sends is read.
        if (declared_bytes or 0) > _DISCARD_LIMIT_BYTES:
            return
        left = _DISCARD_LIMIT_BYTES
        deadline = time.monotonic() + _DISCARD_S
        while left > 0 and time.monotonic() < deadline:
            try:
                message = await asyncio.wait_for(self._receive(), _DISCARD_PAUSE_S)
            except TimeoutError:
                return
            left -= len(message.get("body", b""))
            if not message.get("more_body", False):
                return

    async def wait_for_disconnect(self) -> None:
        """Return when the client has gone. The body must have been read."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def reply(
        self, body: bytes, *, status: int = 200, media_type: bytes = JSON, headers: Iterable[Header] = ()
    ) -> None:
        """Send a whole response."""
        self.bytes_out = size = len(body)
        start = self._begin(status, media_type, ((b"content-length", b"%d" % size), *headers))
        try:
            await self._asgi_send(start)
            self.complete = True
            await self._asgi_send({"type": "http.response.body", "body": b"" if self.method == "HEAD" else body})
        except _GONE as error:
            raise ClientGone from error

    async def start_stream(self, headers: Iterable[Header]) -> None:
        """Begin an event stream."""
        # Proxies that buffer would hold tokens back; nginx looks at the second header.
        more = ((b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"), *headers)
        await self._send(self._begin(200, b"text/event-stream", more))

    def send(self, data: bytes) -> Awaitable[None]:
        """Send a piece of the stream; waits while the client reads slower than we write.

        One that reads nothing for ``send_timeout_s`` loses its connection, and the wait ends.
        """
        return self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end_stream(self, last: bytes = b"") -> None:
        """End the stream with its last piece."""
        self.complete = True
        await self._send({"type": "http.response.body", "body": last})

    async def _send(self, message: Message) -> None:
        try:
            await self._asgi_send(message)
        except _GONE as error:
            raise ClientGone from error

    def _begin(self, status: int, media_type: bytes, headers: tuple[Header, ...]) -> Message:
        """What starts the response; from here on it has started."""
        assert self.status == 0, "a response starts once"
        self.status = status
        if (transport := transport_of(self._asgi_send)) is not None:
            slow_readers.watch(self, transport)
        all_headers = [(b"content-type", media_type), (b"x-request-id", self.request_id.encode()), *headers]
        return {"type": "http.response.start", "status": status, "headers": all_headers}


def _whole_body(message: Message, limit_bytes: int) -> bytes | None:
    """The body, if this is all of it and within the limit."""
    if message["type"] == "http.disconnect" or message.get("more_body", False):
        return None
    body: bytes = message.get("body", b"")
    return body if len(body) <= limit_bytes else None


def _parsed_query(query: bytes) -> list[tuple[str, str]]:
    try:
        text = query.decode("ascii")
        if _BAD_ESCAPE.search(text):
            raise ValueError("a percent sign without two digits")
        return parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), errors="strict")
    except ValueError as error:
        raise InvalidRequest("The query string must be name=value pairs of percent-encoded UTF-8.") from error
