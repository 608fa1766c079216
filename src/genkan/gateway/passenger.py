"""One request that flies with others that are the same: what it has got so far, and the answer that it is given.

The one that was asked for gets its answer as it came. The others get it with an id of their own, in the form that each
asked for, and with usage that says that it came from elsewhere; see `genkan.cache.replay`.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Generic

from genkan.cache.collector import Collected
from genkan.cache.stored_answer import StoredAnswer
from genkan.gateway.boarded import B_co, Boarded
from genkan.gateway.followed_chunks import FollowedChunks
from genkan.gateway.recording import Reader, Recording
from genkan.gateway.replayed import replayed
from genkan.upstream.base import Answer
from genkan.wire.chat import ChatRequest, GenerationRequest

OnComplete = Callable[[Collected | None], None]


class Passenger(Generic[B_co]):
    """A request, and how it would be asked on its own."""

    __slots__ = ("_ask", "_on_complete", "asked_for", "began", "has_asked", "has_got", "request", "request_id")

    def __init__(
        self,
        request: GenerationRequest,
        request_id: str,
        ask: Callable[[], Awaitable[B_co]],
        on_complete: OnComplete | None,
    ) -> None:
        self.request = request
        self.request_id = request_id
        self._ask = ask
        self._on_complete = on_complete
        self.has_asked = False
        self.asked_for: Recording | None = None
        self.has_got = False  # an answer, perhaps with nothing read of it
        self.began: B_co | None = None

    @property
    def may_lead(self) -> bool:
        """Whether it may still be asked for: it has not been, and was given nothing."""
        return not (self.has_asked or self.has_got)

    async def lead(self, recording: Recording | None = None) -> B_co:
        """Ask for it; once. Raises what asking does. ``recording`` is that of what is asked, if there is one."""
        self.has_asked, self.asked_for = True, recording
        self.began = began = await self._ask()
        return began

    def completed(self, collected: Collected | None) -> None:
        """Tell who is asked for that all of its answer has come."""
        if self._on_complete is not None:
            self._on_complete(collected)

    async def alone(self) -> Boarded[B_co]:
        """Its own answer, that nobody else gets."""
        began = await self.lead()
        return Boarded(began.answer, began.deployment, began.model, began)

    def can_read(self, recording: Recording) -> bool:
        """Whether there is, or will be, an answer for it in a recording of which there is something."""
        if self.began is not None:
            return True
        if self.request.stream and recording.batches:
            return recording.is_whole
        return recording.collected is not None

    def board(self, recording: Recording) -> Boarded[B_co]:
        """Its answer, out of a recording that it `can_read`."""
        self.has_got = True
        reader: Reader | None = None
        if self.began is not None:
            answer = self._own(recording, self.began.answer)
        elif self.request.stream and recording.batches:
            reader = recording.join()
            answer = _streamed(recording, reader, FollowedChunks(self.request, self.request_id))
        else:
            answer = self._replayed(recording)
        return Boarded(answer, recording.deployment, recording.model, self.began, reader)

    def _own(self, recording: Recording, asked: Answer) -> Answer:
        answer = _streamed(recording, recording.join(), None, asked) if asked.body is None else Answer(body=asked.body)
        answer.headers, answer.fields = asked.headers, asked.fields
        _mirror(asked, answer)
        return answer

    def _replayed(self, recording: Recording) -> Answer:
        answer = replayed(_stored(recording, self.request), self.request_id, self.request)
        answer.usage, answer.finish_reason = recording.usage, _finish_reason(recording)
        return answer


def _streamed(
    recording: Recording, reader: Reader, followed: FollowedChunks | None, asked: Answer | None = None
) -> Answer:
    answer = Answer()
    answer.batches = _batches(recording, reader, answer, followed, asked)

    async def leave() -> None:
        reader.close()

    answer.on_close(leave)
    return answer


async def _batches(
    recording: Recording, reader: Reader, answer: Answer, followed: FollowedChunks | None, asked: Answer | None
) -> AsyncGenerator[list[bytes], None]:
    try:
        while (batch := await reader.next()) is not None:
            if followed is not None:
                batch = followed.take(batch)
            elif asked is not None:
                _mirror(asked, answer)
            if batch:
                yield batch
    finally:
        if asked is not None:
            _mirror(asked, answer)
        else:
            answer.usage, answer.finish_reason = recording.usage, _finish_reason(recording)
        reader.close()
    if followed is not None and (last := followed.end(recording.usage)):
        yield last


def _stored(recording: Recording, request: GenerationRequest) -> StoredAnswer:
    """As if it had been stored; it is only read by `replay`, which asks for nothing that is about storing."""
    collected = recording.collected
    assert collected is not None  # see Passenger.can_read
    return StoredAnswer.of(collected, is_chat=isinstance(request, ChatRequest), deployment=recording.deployment)


def _finish_reason(recording: Recording) -> str | None:
    return None if recording.collected is None else recording.collected.finish_reason


def _mirror(asked: Answer, answer: Answer) -> None:
    """Have ``answer`` say what is known of the one that is behind it."""
    answer.usage, answer.pieces, answer.text_bytes = asked.usage, asked.pieces, asked.text_bytes
    answer.cost_nano_usd, answer.filtered = asked.cost_nano_usd, asked.filtered
    answer.finish_reason = asked.finish_reason
