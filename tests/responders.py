"""Responders for tests that are not about the engine."""

import asyncio
from collections.abc import AsyncGenerator

import orjson

from genkan.errors import RequestError
from genkan.upstream.base import Answer
from genkan.wire.caller import NOBODY, Caller
from genkan.wire.chat import GenerationRequest

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def chunk(text: str | None = None, *, finish_reason: str | None = None, usage: object = None) -> bytes:
    """A chat chunk as an upstream that was asked for usage sends it."""
    delta = {} if text is None else {"content": text}
    choices = [] if usage else [{"index": 0, "delta": delta, "finish_reason": finish_reason}]
    return orjson.dumps({"id": "chatcmpl-1", "model": "m", "choices": choices, "usage": usage})


HELLO = [chunk("Hel"), chunk("lo"), chunk(finish_reason="stop"), chunk(usage=USAGE)]
HELLO_BODY = orjson.dumps(
    {
        "id": "chatcmpl-1",
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
        "usage": USAGE,
    }
)


class ScriptedResponder:
    """Answers with given events or a given body; can fail before or in between, and can wait to be let on."""

    def __init__(
        self,
        events: list[bytes | RequestError | asyncio.Event] | None = None,
        *,
        body: bytes = HELLO_BODY,
        refuse: Exception | None = None,
    ) -> None:
        self._events = list(HELLO) if events is None else events
        self._body = body
        self._refuse = refuse
        self.requests: list[GenerationRequest] = []
        self.closed = 0

    async def respond(self, request: GenerationRequest, caller: Caller = NOBODY) -> Answer:
        self.requests.append(request)
        if self._refuse is not None:
            raise self._refuse
        answer = Answer(batches=self._stream()) if request.stream else Answer(body=self._body)
        answer.on_close(self._count_close)
        return answer

    async def _stream(self) -> AsyncGenerator[list[bytes], None]:
        for event in self._events:
            if isinstance(event, asyncio.Event):
                await event.wait()
            elif isinstance(event, RequestError):
                raise event
            else:
                yield [event]

    async def _count_close(self) -> None:
        self.closed += 1
