"""What all upstreams share: OpenAI's API over HTTP, one session a worker, an answer checked as it passes.

The session is ours, not BentoML's proxy client, which drops live streams when it renews its session and does not pass
a client's disconnect on. Nothing is inflated (a small gzip body can become gigabytes), no redirect is followed (it
would carry our key elsewhere), no proxy is taken from the environment, and headers are built here, never copied from
the client. aiohttp's exceptions become ours in this file and nowhere else.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any

import aiohttp
from yarl import URL

from genkan import __version__
from genkan.config import Timeouts
from genkan.errors import ConnectFailed, StreamInterrupted, TimedOut, UpstreamBroken, UpstreamError, UpstreamFull
from genkan.upstream.base import Answer
from genkan.upstream.bulkhead import Bulkhead, Full
from genkan.upstream.connections import fresh_connection, was_reused
from genkan.upstream.phase_timer import PhaseTimer
from genkan.wire.answers import MAX_HELD_BYTES, AnswerStream, ErrorInAnswer, MalformedAnswer, WholeAnswer
from genkan.wire.chat import CompletionRequest, GenerationRequest
from genkan.wire.sse import DONE_DATA, EventTooLarge, SseDecoder

MAX_BODY_BYTES = 64 << 20
MAX_ERROR_BYTES = 64 << 10
_DRAIN_S = 1.0
_ANY_CASE_IDENTITY = (None, "identity", "Identity", "")


class HttpUpstream(ABC):
    """An upstream that speaks OpenAI's HTTP. ``start`` comes first, ``aclose`` last."""

    def __init__(self, name: str, *, headers: Mapping[str, str], timeouts: Timeouts, bulkhead: Bulkhead) -> None:
        """``headers`` go with every request."""
        self.name = name
        self.timeouts = timeouts
        self.bulkhead = bulkhead
        self._headers = {
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            "accept-encoding": "identity",
            "user-agent": f"genkan/{__version__}",
            **headers,
        }
        self._named = _Named(self)
        self._urls: dict[str, URL] = {}
        self._session: aiohttp.ClientSession | None = None

    @abstractmethod
    def _url(self, path: str) -> str:
        """Where it has what OpenAI has at ``path``."""

    @abstractmethod
    def _connections(self) -> aiohttp.BaseConnector:
        """The pool, made in the event loop that uses it."""

    @abstractmethod
    def _body(self, request: GenerationRequest, model: str) -> bytes:
        """The request as this upstream gets it: asked for ``model``, and for the usage of a stream."""

    @abstractmethod
    def _refusal(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        """What an answer with a status other than 200 means."""

    @abstractmethod
    def _error_in_answer(self, error: Any) -> UpstreamError:
        """What an error object in an answer with status 200 means."""

    async def start(self) -> None:
        """Open the session; call it in the event loop that will make the requests."""
        self._session = aiohttp.ClientSession(
            connector=self._connections(),
            timeout=aiohttp.ClientTimeout(total=None, connect=self.timeouts.connect_s),
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )

    async def aclose(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()

    async def respond(self, request: GenerationRequest, model: str, *, total_s: float) -> Answer:
        """See Upstream."""
        call = _Call(self, PhaseTimer(self.name, total_s=min(total_s, self.timeouts.total_s)))
        try:
            with self._named, call.first_phase(stream=request.stream):
                await call.enter()
                call.response = response = await self.send("POST", request.path, self._body(request, model))
                if response.status != 200:
                    raise self._refusal(response.status, response.headers, await _some(response, MAX_ERROR_BYTES))
                if response.headers.get("content-encoding") not in _ANY_CASE_IDENTITY:
                    raise self.broken("The answer is compressed, and was not to be.")
                answer = await (self._stream(request, call) if request.stream else self._whole(response))
        except BaseException:
            await call.aclose()
            raise
        answer.on_close(call.aclose)
        return answer

    async def exchange(self, method: str, path: str, parameters: dict[str, str], *, limit_s: float) -> bytes:
        """The whole body of an answer with status 200. Raises UpstreamError."""
        timer = PhaseTimer(self.name, total_s=limit_s)
        try:
            with self._named, timer.phase("total", limit_s):
                response = await self.send(method, path, parameters=parameters)
                try:
                    if response.status != 200:
                        raise self._refusal(response.status, response.headers, await _some(response, MAX_ERROR_BYTES))
                    return await self._all(response)
                finally:
                    response.close()
        finally:
            timer.close()

    async def send(
        self, method: str, path: str, body: bytes | None = None, parameters: dict[str, str] | None = None
    ) -> aiohttp.ClientResponse:
        """The response to one request, once its headers have come; sent again if an idle connection was dead.

        Raises aiohttp's errors.
        """
        assert self._session is not None, "start() comes first"
        url = self._urls.get(path) or self._urls.setdefault(path, URL(self._url(path), encoded=True))
        if parameters:
            url = url.with_query(parameters)
        try:
            return await self._session.request(method, url, data=body, allow_redirects=False)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            if isinstance(error, aiohttp.ClientConnectorError) or not was_reused():
                raise
        with fresh_connection():
            return await self._session.request(method, url, data=body, allow_redirects=False)

    def named(self, error: Exception) -> UpstreamError | None:
        """Our name for an exception of aiohttp's or of an answer's reading; None for any other."""
        if isinstance(error, aiohttp.ClientConnectorError):
            return ConnectFailed("The model's server cannot be reached.", upstream=self.name)
        if isinstance(error, aiohttp.ServerTimeoutError):
            return TimedOut(upstream=self.name, phase="connect", limit_s=self.timeouts.connect_s)
        if isinstance(error, EventTooLarge | MalformedAnswer):
            return self.broken(f"The model's answer is malformed: {error}.")
        if isinstance(error, ErrorInAnswer):
            return self._error_in_answer(error.error)
        if isinstance(error, aiohttp.ClientError | aiohttp.http_exceptions.HttpProcessingError | OSError):
            return self.broken("The connection to the model's server broke.")
        return None

    def broken(self, message: str) -> UpstreamBroken:
        return UpstreamBroken(message, upstream=self.name)

    async def _whole(self, response: aiohttp.ClientResponse) -> Answer:
        body = await self._all(response)
        whole = WholeAnswer(body)
        answer = Answer(body=body)
        answer.usage, answer.filtered = whole.usage, whole.filtered
        return answer

    async def _all(self, response: aiohttp.ClientResponse) -> bytes:
        body = await _some(response, MAX_BODY_BYTES + 1)
        if len(body) > MAX_BODY_BYTES:
            raise self.broken(f"The answer has more than {MAX_BODY_BYTES} bytes.")
        return body

    async def _stream(self, request: GenerationRequest, call: "_Call") -> Answer:
        assert call.response is not None
        events = _Events(self, call.response, request)
        held: list[bytes] = []
        held_bytes = 0
        while not events.follower.started and held_bytes < MAX_HELD_BYTES:
            batch = await events.next()
            if batch is None:
                break
            held += batch
            held_bytes += sum(map(len, batch))
        answer = Answer()
        answer.batches = self._batches(answer, held, events, call)
        answer.usage, answer.filtered = events.follower.usage, events.follower.filtered
        return answer

    async def _batches(
        self, answer: Answer, held: list[bytes], events: "_Events", call: "_Call"
    ) -> AsyncGenerator[list[bytes], None]:
        if held:
            yield held
        limit_s = self.timeouts.between_tokens_s
        while not events.ended:
            with self._named, call.timer.phase("between_tokens", limit_s):
                batch = await events.next()
            answer.usage = events.follower.usage
            if batch:
                yield batch
        call.complete = True


class _Named:
    """``with`` it, aiohttp's exceptions and those of an answer's reading become ours."""

    __slots__ = ("_upstream",)

    def __init__(self, upstream: HttpUpstream) -> None:
        self._upstream = upstream

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, Exception) and (ours := self._upstream.named(error)) is not None:
            raise ours from error


class _Events:
    """The events of one stream, read and checked. ``ended`` once it is complete."""

    __slots__ = ("_content", "_decoder", "_first", "_request", "_upstream", "ended", "follower")

    def __init__(self, upstream: HttpUpstream, response: aiohttp.ClientResponse, request: GenerationRequest) -> None:
        prompts = len(request.prompts) if isinstance(request, CompletionRequest) else 1
        self.follower = AnswerStream(choices=request.sampling.n * prompts, show_usage=request.include_usage)
        self.ended = False
        self._upstream = upstream
        self._content = response.content
        self._request = request
        self._decoder = SseDecoder()
        self._first = True

    async def next(self) -> list[bytes] | None:
        """The payloads to pass on that came next, at least one; None when there are no more.

        Raises aiohttp's errors, those of wire/answers.py, and StreamInterrupted.
        """
        while not self.ended:
            chunk = await self._content.readany()
            if self._first and chunk.strip():
                self._first = False
                if chunk.lstrip()[:1] in (b"{", b"["):
                    return await self._from_whole(chunk)
            if not chunk:
                self._end()
            elif (payloads := self._decoder.feed(chunk)) and (batch := self._take(payloads)):
                return batch
        return None

    def _take(self, payloads: list[bytes]) -> list[bytes]:
        if DONE_DATA in payloads:
            del payloads[payloads.index(DONE_DATA) :]
            batch = self.follower.take(payloads)
            self._end()
            return batch
        return self.follower.take(payloads)

    def _end(self) -> None:
        if self.follower.complete:
            self.ended = True
        elif self.follower.started:
            raise StreamInterrupted("The model's answer ended before it was complete.", upstream=self._upstream.name)
        else:
            raise self._upstream.broken("The model's answer is empty.")

    async def _from_whole(self, begun: bytes) -> list[bytes]:
        """Some servers answer with a whole body although a stream was asked for."""
        body = begun
        while more := await self._content.readany():
            body += more
            if len(body) > MAX_BODY_BYTES:
                raise MalformedAnswer(f"more than {MAX_BODY_BYTES} bytes")
        whole = WholeAnswer(body)
        batch = self.follower.take(whole.as_chunks(show_usage=True))
        self._end()
        return batch


class _Call:
    """What one attempt holds: a place in the bulkhead, a timer, a response."""

    __slots__ = ("_entered", "_upstream", "complete", "response", "timer")

    def __init__(self, upstream: HttpUpstream, timer: PhaseTimer) -> None:
        self.timer = timer
        self.response: aiohttp.ClientResponse | None = None
        self.complete = False  # all of the answer was read, but perhaps not the end of the response
        self._upstream = upstream
        self._entered = False

    def first_phase(self, *, stream: bool) -> PhaseTimer:
        timeouts = self._upstream.timeouts
        if stream:
            return self.timer.phase("first_token", timeouts.first_token_s)
        return self.timer.phase("total", timeouts.total_s)

    async def enter(self) -> None:
        """Wait for a place. Raises UpstreamFull at once when too many wait."""
        try:
            await self._upstream.bulkhead.acquire()
        except Full as full:
            raise UpstreamFull(upstream=self._upstream.name, limit=full.limit, queue=full.queue) from None
        self._entered = True

    async def aclose(self) -> None:
        """Give everything back. What is unfinished is cancelled by closing its connection."""
        response, self.response = self.response, None
        if response is not None:
            if self.complete and not response.content.at_eof():
                await self._drain(response)
            response.close()  # a finished response has given its connection back already; then this does nothing
        self.timer.close()
        if self._entered:
            self._entered = False
            self._upstream.bulkhead.release()

    async def _drain(self, response: aiohttp.ClientResponse) -> None:
        """Read the end of a body whose answer is over, so that its connection can be used again."""
        with suppress(aiohttp.ClientError, TimedOut), self.timer.phase("total", _DRAIN_S):
            await _some(response, MAX_ERROR_BYTES)


async def _some(response: aiohttp.ClientResponse, limit_bytes: int) -> bytes:
    """The body, or the beginning of it that passes ``limit_bytes``."""
    body = await response.content.readany()
    if response.content.at_eof():
        return body
    pieces, size = [body], len(body)
    while size < limit_bytes and (piece := await response.content.readany()):
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)
