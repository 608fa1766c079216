"""The protocols behind which everything stands that can answer a generation request."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from genkan.wire.caller import LOCAL_TENANT, NOBODY, Caller
from genkan.wire.chat import GenerationRequest
from genkan.wire.said import Said

#: How an upstream may go on with an answer that was begun elsewhere: from the prompt and the text as one prompt of raw
#: text, or from the text as the beginning of the assistant's message. Any can be asked anew: `replay`.
Way = Literal["prompt", "prefill", "replay"]


class Answer:
    """An answer that has begun: a whole JSON body, or a stream of event payloads.

    Exactly one of ``body`` and ``batches`` is set. A batch is the payloads that arrived together: JSON chunks without
    SSE framing and without the closing ``[DONE]``; a stream that ends without raising is complete. Whoever holds the
    answer calls ``aclose``, always: it also cancels what is still being generated.

    ``said`` is all that a stream has said that failed, for who goes on with it; None where that is not kept. One that
    ``repeats`` goes on with another, and says first what that has said.

    ``headers`` go to the client and ``fields`` to the log; ``usage`` is the answer's own count of tokens once it has
    passed, ``pieces`` how many pieces of a stream have passed that say something, ``text_bytes`` how much that was, and
    ``filtered`` says that a content filter ended it as soon as it began. ``cost_nano_usd`` is what it cost its client,
    once it has passed and if that is known. Those who pass an answer on fill them.
    """

    __slots__ = (
        "_closers",
        "batches",
        "body",
        "cost_nano_usd",
        "fields",
        "filtered",
        "finish_reason",
        "headers",
        "pieces",
        "repeats",
        "said",
        "text_bytes",
        "usage",
    )

    def __init__(self, *, body: bytes | None = None, batches: AsyncGenerator[list[bytes], None] | None = None) -> None:
        self.body = body
        self.batches = batches
        self.headers: list[tuple[bytes, bytes]] = []
        self.fields: dict[str, object] = {}
        self.usage: dict[str, Any] | None = None
        self.pieces = 0
        self.text_bytes = 0
        self.cost_nano_usd: int | None = None
        self.filtered = False
        self.finish_reason: str | None = None  # of the first choice, once it has passed; for the log
        self.said: Said | None = None
        self.repeats = False
        self._closers: list[Callable[[], Awaitable[None]]] = []

    def on_close(self, closer: Callable[[], Awaitable[None]]) -> None:
        """Have ``closer`` awaited when the answer is closed; the last one given runs first.

        A generator's own ``finally`` is not enough: it does not run when the generator was never started.
        """
        self._closers.append(closer)

    async def aclose(self) -> None:
        """End the stream, from the inside out. A second call does nothing."""
        batches, self.batches = self.batches, None
        try:
            if batches is not None:
                await batches.aclose()
        finally:
            while self._closers:
                await self._closers.pop()()


class Continuation(NamedTuple):
    """An answer's beginning, which the upstream is to go on from in a way that it has: see `Upstream.way_on`."""

    way: Way  # not "replay"
    text: str  # of the only answer
    tokens: int  # that the text has, about


KEPT_BYTES = 256 << 10


@dataclass(slots=True)
class Call:
    """What an upstream is told of an attempt besides the request itself, and what it tells of it."""

    id: str = ""  # of the request and the attempt, for the upstream's own records
    tenant: str = LOCAL_TENANT  # for an upstream of our own: nobody else is told
    max_tokens: int | None = None  # a bound on the answer, where the client set none and a budget needs one
    continuation: Continuation | None = None  # the upstream gives only what comes after it
    keep_bytes: int = KEPT_BYTES  # so much of what a stream says is kept
    traceparent: bytes = field(default=b"", compare=False)  # where the request is traced
    is_sent: bool = field(default=False, compare=False)  # as soon as bytes may go out, and it may cost something


NO_CALL = Call()  # of which nobody asks what it tells


class Responder(Protocol):
    """Answers generation requests: the engine's model, or the gateway's pipeline in front of several upstreams."""

    async def respond(self, request: GenerationRequest, caller: Caller = NOBODY) -> Answer:
        """The answer, once it has begun.

        Returns when the first event, or the whole body, is there: until then any RequestError may be raised and
        nothing has reached the client. A stream may raise one later, from ``batches``. Cancelling stops the work.
        """


class Upstream(Protocol):
    """A server that answers for the models it has."""

    name: str

    async def respond(self, request: GenerationRequest, model: str, *, total_s: float, call: Call = NO_CALL) -> Answer:
        """As a Responder's, from ``model``, by the name it has there, and within ``total_s`` to its end.

        ``call.is_sent`` is set once the request is on its way there, and no longer waits for a place.

        Returns when the first piece of the answer itself is there, such as a word; what comes before it is held back,
        so that another upstream can still be asked when none comes. Raises UpstreamError and nothing else.
        """

    def way_on(self, request: GenerationRequest, said: Said) -> Way:
        """The best way in which it can go on with an answer to ``request`` that has ``said`` so much."""

    async def count_tokens(self, request: GenerationRequest, model: str, *, limit_s: float) -> int | None:
        """How many tokens its prompt has for ``model``, as it is rendered; None where it cannot say. Raises nothing."""
