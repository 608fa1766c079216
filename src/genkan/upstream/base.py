"""The one protocol behind which everything stands that can answer a generation request."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Protocol

from genkan.wire.chat import GenerationRequest


class Answer:
    """An answer that has begun: a whole JSON body, or a stream of event payloads.

    Exactly one of ``body`` and ``events`` is set. The payloads of ``events`` are JSON chunks without SSE framing and
    without the closing ``[DONE]``; a stream that ends without raising is complete. Whoever holds the answer calls
    ``aclose``, always: it also cancels what is still being generated.

    ``headers`` go to the client and ``fields`` to the log; ``usage`` is the answer's own count of tokens once it has
    passed. Those who pass an answer on fill them.
    """

    __slots__ = ("_closers", "body", "events", "fields", "headers", "usage")

    def __init__(self, *, body: bytes | None = None, events: AsyncGenerator[bytes, None] | None = None) -> None:
        self.body = body
        self.events = events
        self.headers: list[tuple[bytes, bytes]] = []
        self.fields: dict[str, object] = {}
        self.usage: dict[str, Any] | None = None
        self._closers: list[Callable[[], Awaitable[None]]] = []

    def on_close(self, closer: Callable[[], Awaitable[None]]) -> None:
        """Have ``closer`` awaited when the answer is closed; the last one given runs first.

        A generator's own ``finally`` is not enough: it does not run when the generator was never started.
        """
        self._closers.append(closer)

    async def aclose(self) -> None:
        """End the stream, from the inside out. A second call does nothing."""
        events, self.events = self.events, None
        try:
            if events is not None:
                await events.aclose()
        finally:
            while self._closers:
                await self._closers.pop()()


class Responder(Protocol):
    """Answers generation requests: an upstream, or the gateway's pipeline in front of several."""

    async def respond(self, request: GenerationRequest) -> Answer:
        """The answer, once it has begun.

        Returns when the first event, or the whole body, is there: until then any RequestError may be raised and
        nothing has reached the client. A stream may raise one later, from ``events``. Cancelling stops the work.
        """
