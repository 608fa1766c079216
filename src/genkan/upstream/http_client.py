"""An HTTP/1.1 client for one server, as small as a gateway's hot path wants it.

Theory. A gateway asks few servers many times, always in the same way. What a general client does for each request
(parse the URL, merge headers, look for cookies, proxies and redirects, build a request object) can be done once, and
what is left is: take an idle connection or open one, write one buffer, and hand bytes on as they come. The protocol is
parsed by httptools, which is llhttp, Node's parser; TLS and addresses are asyncio's and aiohappyeyeballs'. A request
takes a third of the time that it takes with aiohttp.

* **Idle connections** are used last in, first out, so those that are not needed grow old. A response gives its
  connection back when its last byte has come, whoever still has to read it. Under load the number of connections in use
  changes with every turn of the event loop, and to close what is too many for the moment would mean to open it again a
  millisecond later, at twice the price of a request: so ``keep_alive`` is enforced once a second.
* **The race.** A server may close an idle connection at the very moment when the next request is written on it. That
  request was not read, yet all that shows is a connection that ended without an answer; on a new connection the same
  would mean that the server fell over the request. So that failure is forgiven once, on a connection that had been
  idle, if not a byte came back and it ended at once; the request is then sent on a new one, as a server that was
  restarted has closed them all. If that one ends in the same way, it was no race: nothing is forgiven for ten seconds,
  or a server that falls over its requests would get each of them twice.
* **Bounds.** A response's head has at most 64 KiB, interim responses included, and so has what stands between
  two pieces of its body or after the last. Of the body at most 256 KiB wait to be read; then the socket is not read any
  more, and the server has to wait.

Not done, because nothing here needs it: redirects, cookies, proxies, compression, pipelining, HTTP/2, upgrades.
Source: RFC 9112.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

import httptools

from genkan.errors import GenkanError

MAX_HEAD_BYTES = 64 << 10
MAX_UNREAD_BYTES = 256 << 10
SWEEP_S = 1.0
_RACE_S = 1.0
_NO_RACE_S = 10.0
_INFORMATIONAL = range(100, 200)
_BODILESS = (204, 304)

RawHeaders = dict[bytes, bytes]


class HttpError(GenkanError):
    """Base of what this client raises."""


class NotConnected(HttpError):
    """No connection could be made. Nothing was sent."""


class ConnectTimeout(NotConnected):
    """No connection could be made in time."""


class Disconnected(HttpError):
    """The connection ended before the response did."""


class BadResponse(HttpError):
    """What came is not HTTP, or more of it than we take."""


class Response:
    """A response whose head has come.

    ``raw_headers`` have lower-case names, and those given twice are joined by a comma; most are never looked at.
    """

    __slots__ = (
        "_connection", "_error", "_loop", "_waiter", "ended", "pieces", "raw_headers", "status", "unread_bytes",
    )  # fmt: skip

    def __init__(self, connection: "_Connection", loop: asyncio.AbstractEventLoop) -> None:
        self._connection: _Connection | None = connection
        self._loop = loop
        self._waiter: asyncio.Future[None] | None = None
        self._error: HttpError | None = None
        self.pieces: list[bytes] = []  # of the body, that wait to be read
        self.unread_bytes = 0  # in them
        self.status = -1  # until the head has come
        self.raw_headers: RawHeaders = {}
        self.ended = False  # all of it has come; some may still wait to be read

    @property
    def headers(self) -> dict[str, str]:
        """The headers as text, decoded anew each time."""
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in self.raw_headers.items()}

    @property
    def at_eof(self) -> bool:
        """Whether all of it was read."""
        return self.ended and not self.pieces

    async def head(self) -> "Response":
        """Itself, once the status and headers have come. Raises HttpError, and is then closed, as when cancelled."""
        try:
            while self.status < 0:
                if self._error is not None:
                    raise self._error
                await self._news()
        except BaseException:
            self.close()
            raise
        return self

    async def read(self) -> bytes:
        """What has come of the body since, as soon as there is any; nothing at its end. Raises HttpError."""
        while not self.pieces:
            if self._error is not None:
                raise self._error
            if self.ended:
                return b""
            await self._news()
        return self.read_now()

    def read_now(self) -> bytes:
        """What has come of the body since; once the response has ended that is its whole rest."""
        pieces, self.pieces = self.pieces, []
        if self.unread_bytes > MAX_UNREAD_BYTES and self._connection is not None:
            self._connection.resume()
        self.unread_bytes = 0
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        """Be done with it. If it has not ended, its connection is closed, which is how the server gets to know."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()

    def take(self, pieces: list[bytes]) -> None:
        """More of the body has come."""
        self.pieces += pieces
        self.unread_bytes += sum(map(len, pieces))

    def end(self, error: HttpError | None = None) -> None:
        """Nothing more will come, because it is whole or because of ``error``; what has come can still be read."""
        self._connection = None
        self.ended = error is None
        self._error = error
        self.wake()

    def wake(self) -> None:
        """Have who waits for something to come look at what has."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _news(self) -> asyncio.Future[None]:
        self._waiter = waiter = self._loop.create_future()
        return waiter


class _Connection(asyncio.Protocol):
    """A connection and the one response that is under way on it, if any."""

    def __init__(self, pool: "HttpClient") -> None:
        self.idle_since_s = 0.0
        self.has_answered = False  # something of the latest response has come
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._response: Response | None = None
        self._headers: RawHeaders = {}
        self._pieces: list[bytes] = []  # of the body, of what is being parsed
        self._has_head = False  # that of the response, not of an interim one
        self._overhead_bytes = 0  # since the request, the end of the head or the last piece of the body
        self._header_bytes = 0  # of names and values, which may have come together with the body
        self._is_over = False  # all of the response has come
        self._is_paused = False
        self._can_go_on = False  # another request may follow

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def send(self, request: bytes) -> Response:
        """Write a whole request. Must be open, and idle."""
        assert self._transport is not None
        self._response = response = Response(self, self._loop)
        self._overhead_bytes = self._header_bytes = 0
        self.has_answered = self._has_head = self._is_over = False
        self._transport.write(request)
        return response

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def fail(self, error: HttpError) -> None:
        """End the response with ``error``, if one is under way, and close the connection."""
        response, self._response = self._response, None
        if response is not None:
            response.end(error)
        self.abort()

    def _pause(self) -> None:
        if self._transport is not None and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._is_paused and self.is_open:
            assert self._transport is not None
            self._is_paused = False
            self._transport.resume_reading()

    # asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # it is one for a stream of bytes

    def data_received(self, data: bytes) -> None:
        response = self._response
        if response is None:
            self.abort()  # nobody asked
            return
        self.has_answered = True
        self._overhead_bytes += len(data)
        problem: Exception | None = None
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            problem = error
            self._can_go_on = False
        if self._pieces:  # also those before what is no HTTP: they may be all of the answer
            self._overhead_bytes = 0
            response.take(self._pieces)
            self._pieces = []
        if problem is not None and not self._is_over:  # else the response is whole; nobody asked for what came after it
            self.fail(BadResponse(f"it is not HTTP: {problem}"))
            return
        if self._is_over:
            self._finish(response)
        elif self._header_bytes > MAX_HEAD_BYTES:
            self.fail(BadResponse(f"its head has more than {MAX_HEAD_BYTES} bytes"))
        elif self._overhead_bytes > MAX_HEAD_BYTES:
            self.fail(BadResponse(f"more than {MAX_HEAD_BYTES} bytes of it are no body"))
        else:
            if response.unread_bytes > MAX_UNREAD_BYTES:
                self._pause()
            response.wake()

    def eof_received(self) -> None:
        response = self._response
        if response is not None and self._has_head and not _is_framed(response):
            self._response = None
            response.end()  # the end of the connection is the end of the body
        self.fail(Disconnected("the connection ended before the response did"))

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._pool.lost(self)
        self.fail(Disconnected("the connection broke before the response ended"))

    # httptools' callbacks, which must not raise

    def on_message_begin(self) -> None:
        if self._is_over:
            self._can_go_on = False  # another response, and nobody asked
        self._headers = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > MAX_HEAD_BYTES:
            return  # all of it is refused
        headers, key, text = self._headers, name.lower(), value.rstrip()
        headers[key] = b"%b, %b" % (headers[key], text) if key in headers else text

    def on_headers_complete(self) -> None:
        status, response = self._parser.get_status_code(), self._response
        if status in _INFORMATIONAL or response is None or self._is_over or self._header_bytes > MAX_HEAD_BYTES:
            return
        self._has_head = True
        self._overhead_bytes = 0
        self._can_go_on = self._parser.should_keep_alive()
        response.status, response.raw_headers = status, self._headers
        self._headers = {}  # for trailers, which nobody gets

    def on_body(self, body: bytes) -> None:
        if not self._is_over:
            self._pieces.append(body)

    def on_message_complete(self) -> None:
        self._is_over = self._is_over or self._has_head

    # the end

    def _finish(self, response: Response) -> None:
        transport, self._response = self._transport, None
        response.end()
        if not self._can_go_on or transport is None or transport.get_write_buffer_size():
            self.abort()  # also when it answered before it had read the request
        else:
            if self._is_paused:
                self.resume()
            self._pool.released(self)


def _is_framed(response: Response) -> bool:
    """Whether the head says where the body ends."""
    headers = response.raw_headers
    return response.status in _BODILESS or b"content-length" in headers or b"transfer-encoding" in headers


class Dial(Protocol):
    """Opens a connection to the server. Raises OSError or UnicodeError."""

    async def __call__(self, protocol: Callable[[], asyncio.Protocol]) -> object: ...


class HttpClient:
    """Requests to one server, over as many connections as there are requests at once."""

    def __init__(self, dial: Dial, *, connect_s: float, keep_alive: int, keep_alive_s: float) -> None:
        """Idle connections beyond ``keep_alive`` are closed within two seconds; none is used after ``keep_alive_s``."""
        self._dial = dial
        self._connect_s = connect_s
        self._keep_alive = keep_alive
        self._keep_alive_s = keep_alive_s
        self._idle: list[_Connection] = []  # the one used last is last
        self._all: set[_Connection] = set()
        self._dialling: set[asyncio.Timeout] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._no_race_until_s = 0.0
        self._trial: asyncio.Future[None] | None = None  # a request that is being sent again
        self._trial_began_s = 0.0

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._all)

    @property
    def idle(self) -> int:
        """Those of them that wait for a request."""
        return len(self._idle)

    async def request(self, request: bytes) -> Response:
        """The response to a whole request, head and body, once its head has come. Raises HttpError."""
        sent_s = time.monotonic()
        connection = self._take_idle(sent_s)
        if connection is None:
            return await (await self._connected()).send(request).head()
        try:
            return await connection.send(request).head()
        except Disconnected:
            now_s = time.monotonic()
            if connection.has_answered or now_s - sent_s > _RACE_S or now_s < self._no_race_until_s:
                raise
        return await self._sent_again(request)

    def close(self) -> None:
        """Close every connection. Requests under way end with Disconnected, and so does every later one."""
        self._is_closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        for limit in self._dialling:
            if not limit.expired():
                limit.reschedule(asyncio.get_running_loop().time())
        for connection in list(self._all):
            connection.fail(Disconnected("the client was closed"))

    async def _sent_again(self, request: bytes) -> Response:
        """Of several at once, one goes first, and the others wait until it has failed or has not for ``_RACE_S``."""
        while (trial := self._trial) is not None:
            left_s = self._trial_began_s + _RACE_S - time.monotonic()
            if left_s <= 0 or not (await asyncio.wait((trial,), timeout=left_s))[0]:
                break
            if time.monotonic() < self._no_race_until_s:
                raise Disconnected("the connection ended before the response did")
        if self._trial is not None:
            return await (await self._connected()).send(request).head()
        self._trial, self._trial_began_s = asyncio.get_running_loop().create_future(), time.monotonic()
        try:
            return await (await self._connected()).send(request).head()
        except Disconnected:
            self._no_race_until_s = time.monotonic() + _NO_RACE_S
            raise
        finally:
            trial, self._trial = self._trial, None
            trial.set_result(None)

    async def _connected(self) -> _Connection:
        if self._is_closed:
            raise Disconnected("the client was closed")
        connection = _Connection(self)
        limit = asyncio.timeout(self._connect_s)
        try:
            async with limit:
                self._dialling.add(limit)
                await self._dial(lambda: connection)
        except TimeoutError:
            if self._is_closed:
                raise Disconnected("the client was closed") from None
            raise ConnectTimeout(f"not connected after {self._connect_s:g} s") from None
        except (OSError, UnicodeError) as error:  # UnicodeError: a host name that cannot be one
            raise NotConnected(str(error)) from error
        finally:
            self._dialling.discard(limit)
        if not connection.is_open or self._is_closed:
            connection.abort()
            raise Disconnected("the connection ended as soon as it was made")
        self._all.add(connection)
        return connection

    def _take_idle(self, now_s: float) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open and now_s - connection.idle_since_s < self._keep_alive_s:
                return connection
            connection.abort()
        return None

    def released(self, connection: _Connection) -> None:
        """``connection`` can take another request."""
        if self._is_closed:
            connection.abort()
            return
        connection.idle_since_s = time.monotonic()
        self._idle.append(connection)
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(SWEEP_S, self._close_old)

    def lost(self, connection: _Connection) -> None:
        """``connection`` is closed."""
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def _close_old(self) -> None:
        now_s = time.monotonic()
        too_many = len(self._idle) - self._keep_alive
        for place, connection in enumerate(list(self._idle)):  # the oldest first
            age_s = now_s - connection.idle_since_s
            if age_s >= self._keep_alive_s or (place < too_many and age_s >= SWEEP_S):
                self._idle.remove(connection)
                connection.abort()
        self._sweep = asyncio.get_running_loop().call_later(SWEEP_S, self._close_old) if self._idle else None
