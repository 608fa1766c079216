"""The events of a streamed answer as an upstream sends them: read, put together, and checked."""

from genkan.errors import StreamInterrupted, UpstreamBroken, UpstreamError
from genkan.upstream.http_client import HttpError, Response
from genkan.wire.answers import AnswerStream, MalformedAnswer, WholeAnswer
from genkan.wire.chat import CompletionRequest, GenerationRequest
from genkan.wire.sse import DONE_DATA, SseDecoder

MAX_BODY_BYTES = 16 << 20  # JSON of many small objects takes thirty times its size in memory


class AnswerEvents:
    """The events of one stream, read and checked. ``ended`` once it is complete."""

    __slots__ = ("_decoder", "_done", "_first", "_response", "_upstream", "ended", "follower")

    def __init__(self, upstream: str, response: Response, request: GenerationRequest, *, keep_bytes: int = 0) -> None:
        """Of an answer that says no more than ``keep_bytes``, all that it says is kept."""
        prompts = len(request.prompts) if isinstance(request, CompletionRequest) else 1
        self.follower = AnswerStream(
            choices=request.sampling.n * prompts,
            show_usage=request.include_usage,
            at_least=prompts,
            keep_bytes=keep_bytes,
        )
        self.ended = False
        self._upstream = upstream
        self._response = response
        self._decoder = SseDecoder()
        self._first = True
        self._done = False  # [DONE] has come

    async def next(self) -> list[bytes] | None:
        """The payloads to pass on that came next, at least one; None when there are no more.

        Raises the errors of wire/answers.py and of sse.py, UpstreamBroken and StreamInterrupted.
        """
        while not self.ended:
            if self.follower.failure is not None:
                raise self.follower.failure
            if self._done:
                self._end(done=True)
                break
            try:
                chunk = await self._response.read()
            except HttpError as error:
                if self.follower.complete:
                    self.ended = True
                    break
                raise self._broken_off() from error
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
        if DONE_DATA not in payloads:
            return self.follower.take(payloads)
        begun = self.follower.started
        del payloads[payloads.index(DONE_DATA) :]
        batch = self.follower.take(payloads)
        if begun and batch:
            self._done = True  # what came goes on first, and then the error, if the answer is not complete
        else:
            self._end(done=True)
        return batch

    def _end(self, *, done: bool = False) -> None:
        if self.follower.complete or (done and self.follower.complete_when_done):
            self.ended = True
        elif self.follower.started:
            raise StreamInterrupted("The model's answer ended before it was complete.", upstream=self._upstream)
        else:
            raise UpstreamBroken("The model's answer is empty.", upstream=self._upstream)

    def _broken_off(self) -> UpstreamError:
        if not self.follower.started:
            return UpstreamBroken("The connection to the model's server broke.", upstream=self._upstream)
        message = "The connection to the model's server broke within its answer."
        return StreamInterrupted(message, upstream=self._upstream)

    async def _from_whole(self, begun: bytes) -> list[bytes]:
        """Some servers answer with a whole body although a stream was asked for."""
        body = begun + await some_of(self._response, MAX_BODY_BYTES)
        if len(body) > MAX_BODY_BYTES:
            raise MalformedAnswer(f"it has more than {MAX_BODY_BYTES} bytes")
        whole = WholeAnswer(body)
        batch = self.follower.take(whole.as_chunks(show_usage=True))
        self._end(done=True)
        return batch


async def some_of(response: Response, limit_bytes: int) -> bytes:
    """What is left of the body, or the beginning of it that passes ``limit_bytes``. Raises HttpError."""
    body = await response.read()
    if response.at_eof:
        return body
    pieces, size = [body], len(body)
    while size < limit_bytes and (piece := await response.read()):
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)
