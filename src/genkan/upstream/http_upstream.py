"""What all upstreams share: OpenAI's API over HTTP, connections of each worker's own, an answer checked as it passes.

BentoML's proxy client is not used: it drops live streams when it renews its session and does not pass a client's
disconnect on. Nothing is inflated (a small gzip body can become gigabytes), no redirect is followed (it would carry our
key elsewhere), no proxy is taken from the environment, and headers are built here, never copied from the client. The
HTTP client's exceptions become ours in this file and nowhere else.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

from genkan import __version__
from genkan.config import ConnectionsConfig, Timeouts
from genkan.errors import ConnectFailed, Phase, TimedOut, UpstreamBroken, UpstreamError, UpstreamFull
from genkan.upstream.answer_events import MAX_BODY_BYTES, AnswerEvents, some_of
from genkan.upstream.base import NO_CALL, Answer, Call, Way
from genkan.upstream.bulkhead import Bulkhead, Full
from genkan.upstream.http_client import ConnectTimeout, Dial, HttpClient, HttpError, NotConnected, Response
from genkan.upstream.phase_timer import PhaseTimer
from genkan.wire.answers import MAX_HELD_BYTES, AnswerStream, ErrorInAnswer, MalformedAnswer, WholeAnswer
from genkan.wire.chat import GenerationRequest
from genkan.wire.said import Said
from genkan.wire.sse import EventTooLarge

MAX_ERROR_BYTES = 64 << 10
_DRAIN_S = 1.0
_AFTERMATH_S = 2.0  # for the usage and [DONE], once every choice has ended
_HEADERS = {
    "content-type": "application/json",
    "accept": "application/json, text/event-stream",
    "accept-encoding": "identity",
    "user-agent": f"genkan/{__version__}",
}


class HttpUpstream(ABC):
    """An upstream that speaks OpenAI's HTTP. Whoever has one calls ``aclose`` at the end.

    ``repeats_beginning``: it answers with what it was to go on from in a chat, and then goes on.
    """

    repeats_beginning = False

    def __init__(
        self,
        name: str,
        *,
        dial: Dial,
        kept: ConnectionsConfig,
        host: str,
        headers: Mapping[str, str],
        timeouts: Timeouts,
        bulkhead: Bulkhead,
    ) -> None:
        """``host`` and ``headers`` go with every request. ``kept`` says how long idle connections and requests wait."""
        self.name = name
        self.timeouts = timeouts
        self.bulkhead = bulkhead
        self.queue_s = kept.queue_s
        self.waited: Callable[[float], None] | None = None  # is told how long each that waited did
        self.naming = _Named(self)
        self.client = HttpClient(
            dial, connect_s=timeouts.connect_s, keep_alive=kept.keep_alive, keep_alive_s=kept.keep_alive_s
        )
        lines = {"host": host, **_HEADERS, **{key.lower(): value for key, value in headers.items()}}
        self._header_lines = "".join(f"{key}: {value}\r\n" for key, value in lines.items())
        self._heads: dict[tuple[str, str], bytes] = {}

    @abstractmethod
    def _target(self, path: str) -> str:
        """Where it has what OpenAI has at ``path``."""

    @abstractmethod
    def _body(self, request: GenerationRequest, model: str, call: Call) -> bytes:
        """The request as this upstream gets it: asked for ``model``, and for the usage of a stream."""

    @abstractmethod
    def _refusal(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        """What an answer with a status other than 200 means."""

    @abstractmethod
    def _error_in_answer(self, error: Any) -> UpstreamError:
        """What an error object in an answer with status 200 means."""

    @property
    def busy(self) -> int:
        """Connections on which a request is under way."""
        return self.client.connections - self.client.idle

    @property
    def idle(self) -> int:
        """Connections kept for the next request."""
        return self.client.idle

    @property
    def waiting(self) -> int:
        """Requests that wait for a place."""
        return self.bulkhead.waiting

    async def aclose(self) -> None:
        """Close every connection."""
        self.client.close()

    def _own_headers(self, call: Call) -> bytes:
        """Header lines that tell of the attempt. Ids and tenants have no characters that a header may not have."""
        lines = f"x-client-request-id: {call.id}\r\n".encode("ascii") if call.id else b""
        return b"%btraceparent: %b\r\n" % (lines, call.traceparent) if call.traceparent else lines

    async def respond(self, request: GenerationRequest, model: str, *, total_s: float, call: Call = NO_CALL) -> Answer:
        """See Upstream."""
        timeouts = self.timeouts
        holding = _Held(self, total_s=min(total_s, timeouts.total_s))
        timer, stream = holding.timer, request.stream
        try:
            if not holding.has_place:
                await holding.enter()
            phase: Phase = "first_token" if stream else "total"
            with timer.phase(phase, timeouts.first_token_s if stream else timeouts.total_s):
                body, own = self._body(request, model, call), self._own_headers(call)
                message = self._message("POST", request.path, body, own=own)
                call.is_sent = True
                holding.response = response = await self.client.request(message)
                if response.status != 200:
                    raise await self._refused(response)
                if response.raw_headers.get(b"content-encoding", b"").lower() not in (b"", b"identity"):
                    raise self.broken("The answer is compressed, and was not to be.")
                if stream:
                    answer = await self._stream(request, call, holding)
                else:
                    answer = self._whole(await self._all(response))
        except BaseException as error:
            holding.close()
            self.raise_named(error)
            raise
        if stream:
            answer.on_close(holding.aclose)
        else:
            holding.close()  # the client may take its time
        return answer

    def way_on(self, request: GenerationRequest, said: Said) -> Way:
        """See Upstream. Any server can be asked anew."""
        return "replay"

    async def count_tokens(self, request: GenerationRequest, model: str, *, limit_s: float) -> int | None:
        """See Upstream. Most servers do not say."""
        return None

    async def exchange(self, method: str, path: str, parameters: dict[str, str], *, limit_s: float) -> bytes:
        """The whole body of an answer with status 200. Raises UpstreamError."""
        timer = PhaseTimer(self.name, total_s=limit_s)
        try:
            with self.naming, timer.phase("total", limit_s):
                response = await self.client.request(self._message(method, path, parameters=parameters))
                try:
                    if response.status != 200:
                        raise await self._refused(response)
                    return await self._all(response)
                finally:
                    response.close()
        finally:
            timer.close()

    async def post(self, path: str, body: bytes, *, limit_s: float) -> bytes:
        """As ``exchange``, for a request with a body, which takes a place among those in flight. Raises UpstreamError.

        ``limit_s`` holds for all of it, the wait for a place included.
        """
        holding = _Held(self, total_s=limit_s)
        try:
            if not holding.has_place:
                await holding.enter()
            with self.naming, holding.timer.phase("total", limit_s):
                holding.response = response = await self.client.request(self._message("POST", path, body))
                if response.status != 200:
                    raise await self._refused(response)
                return await self._all(response)
        finally:
            holding.close()

    def _message(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        parameters: Mapping[str, str] | None = None,
        *,
        own: bytes = b"",
    ) -> bytes:
        """A whole request as it is sent. ``own`` are its own header lines."""
        head = self._heads.get((method, path)) or self._make_head(method, path)
        if parameters:
            line, _, rest = head.partition(b" HTTP/1.1")
            head = b"%b?%b HTTP/1.1%b" % (line, urlencode(parameters).encode(), rest)
        if body is None:
            return head + b"\r\n"
        return b"%b%bcontent-length: %d\r\n\r\n%b" % (head, own, len(body), body)

    def _make_head(self, method: str, path: str) -> bytes:
        text = f"{method} {self._target(path)} HTTP/1.1\r\n{self._header_lines}"
        head = self._heads[method, path] = text.encode("ascii")
        return head

    def named(self, error: Exception) -> UpstreamError | None:
        """Our name for an exception of the HTTP client's or of an answer's reading; None for any other."""
        if isinstance(error, ConnectTimeout):
            return TimedOut(upstream=self.name, phase="connect", limit_s=self.timeouts.connect_s)
        if isinstance(error, NotConnected):
            return ConnectFailed("The model's server cannot be reached.", upstream=self.name)
        if isinstance(error, HttpError):
            return self.broken("The connection to the model's server broke.")
        if isinstance(error, EventTooLarge | MalformedAnswer):
            return self.broken(f"The model's answer is malformed: {error}.")
        if isinstance(error, ErrorInAnswer):
            return self._error_in_answer(error.error)
        return None

    def raise_named(self, error: BaseException) -> None:
        """Raise our name for ``error``, if we have one.

        Not done where ``error`` was caught: its traceback knows that frame, which would know our error, which knows it.
        """
        if isinstance(error, Exception) and (ours := self.named(error)) is not None:
            raise ours from error

    def broken(self, message: str) -> UpstreamBroken:
        return UpstreamBroken(message, upstream=self.name)

    async def _refused(self, response: Response) -> UpstreamError:
        body = await some_of(response, MAX_ERROR_BYTES)
        return self._refusal(response.status, response.headers, body)

    def _whole(self, body: bytes) -> Answer:
        whole = WholeAnswer(body)
        answer = Answer(body=body)
        answer.usage, answer.filtered, answer.finish_reason = whole.usage, whole.filtered, whole.finish_reason
        return answer

    async def _all(self, response: Response) -> bytes:
        body = response.read_now() if response.ended else await some_of(response, MAX_BODY_BYTES + 1)
        if len(body) > MAX_BODY_BYTES:
            raise self.broken(f"The answer has more than {MAX_BODY_BYTES} bytes.")
        return body

    async def _stream(self, request: GenerationRequest, call: Call, holding: "_Held") -> Answer:
        assert holding.response is not None
        events = AnswerEvents(self.name, holding.response, request, keep_bytes=call.keep_bytes)
        held: list[bytes] = []
        held_bytes = 0
        while not events.follower.started:
            if held_bytes > MAX_HELD_BYTES:
                raise MalformedAnswer(f"more than {MAX_HELD_BYTES} bytes come before its first word")
            batch = await events.next()
            if batch is None:
                break
            held += batch
            held_bytes += sum(map(len, batch))
        answer = Answer()
        answer.batches = self._batches(answer, held, events, holding)
        _follow(answer, events.follower)
        answer.repeats = self.repeats_beginning and call.continuation is not None and call.continuation.way == "prefill"
        answer.filtered = events.follower.filtered and events.follower.complete
        return answer

    async def _batches(
        self, answer: Answer, held: list[bytes], events: AnswerEvents, holding: "_Held"
    ) -> AsyncGenerator[list[bytes], None]:
        if held:
            yield held
        timer, follower, between_s = holding.timer, events.follower, self.timeouts.between_tokens_s
        while not events.ended:
            try:
                with timer.phase("between_tokens", _AFTERMATH_S if follower.complete else between_s):
                    batch = await events.next()
            except Exception as error:
                if isinstance(error, TimedOut) and follower.complete:
                    answer.finish_reason = follower.finish_reason
                    return  # all of the answer was there; the response is cut off for want of its end
                answer.said = follower.said
                holding.close()  # who goes on with the answer may need the place
                self.raise_named(error)
                raise
            _follow(answer, follower)
            if batch:
                yield batch
        holding.complete = True
        answer.finish_reason = follower.finish_reason


def _follow(answer: Answer, follower: AnswerStream) -> None:
    answer.usage, answer.pieces, answer.text_bytes = follower.usage, follower.pieces, follower.text_bytes


class _Named:
    """``with`` it, the HTTP client's exceptions and those of an answer's reading become ours."""

    __slots__ = ("_upstream",)

    def __init__(self, upstream: HttpUpstream) -> None:
        self._upstream = upstream

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self._upstream.raise_named(error)


class _Held:
    """What one attempt holds: a place in the bulkhead, if one was free or ``enter`` found one, a timer, a response."""

    __slots__ = ("_upstream", "complete", "has_place", "response", "timer")

    def __init__(self, upstream: HttpUpstream, *, total_s: float) -> None:
        self.timer = PhaseTimer(upstream.name, total_s=total_s, on_late=self._give_back)
        self.response: Response | None = None
        self.complete = False  # all of the answer was read, but perhaps not the end of the response
        self._upstream = upstream
        self.has_place = upstream.bulkhead.try_acquire()

    async def enter(self) -> None:
        """Wait for a place. Raises UpstreamFull: at once when too many wait, else after ``queue_s``."""
        bulkhead, began_s = self._upstream.bulkhead, time.monotonic()
        try:
            with self.timer.phase("total", self._upstream.queue_s):
                await bulkhead.acquire()
        except Full:
            raise UpstreamFull(upstream=self._upstream.name, limit=bulkhead.limit, queue=bulkhead.queue) from None
        except TimedOut as late:
            self._tell_wait(began_s)
            if late.limit_s < self._upstream.queue_s:
                raise  # it was the request's own time that ended
            raise UpstreamFull(upstream=self._upstream.name, limit=bulkhead.limit, queue=None) from None
        self._tell_wait(began_s)
        self.has_place = True

    def _tell_wait(self, began_s: float) -> None:
        if self._upstream.waited is not None:
            self._upstream.waited(time.monotonic() - began_s)

    async def aclose(self) -> None:
        """``close``, once the end of a response whose answer is over has been read."""
        try:
            if self.response is not None and self.complete and not self.response.at_eof:
                await self._drain(self.response)
        finally:  # also when the draining is cancelled
            self.close()

    def close(self) -> None:
        """Give everything back. What is unfinished is cancelled by closing its connection."""
        self._give_back()
        self.timer.close()

    def _give_back(self) -> None:
        response, self.response = self.response, None
        if response is not None:
            response.close()  # a finished response has given its connection back already; then this does nothing
        if self.has_place:
            self.has_place = False
            self._upstream.bulkhead.release()

    async def _drain(self, response: Response) -> None:
        """Read the end of a body whose answer is over, so that its connection can be used again."""
        with suppress(UpstreamError), self._upstream.naming, self.timer.phase("total", _DRAIN_S):
            await some_of(response, MAX_ERROR_BYTES)
