"""Asking the fault upstream by way of an OpenAiUpstream, and looking at what is left behind."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from faults.upstream import FaultUpstream

from genkan.clock import SystemClock
from genkan.config import OpenAiUpstreamConfig
from genkan.errors import RequestError
from genkan.upstream.base import Answer
from genkan.upstream.openai_http import OpenAiUpstream
from genkan.upstream.phase_timer import PhaseTimer
from genkan.wire.chat import ChatRequest, GenerationRequest

KEY = "sk-our-very-own-key-0123456789"
#: For what is expected to happen.
WAIT_S = 10.0


@asynccontextmanager
async def openai_upstream(
    base_url: str, key: str | None = KEY, **settings: Any
) -> AsyncGenerator[OpenAiUpstream, None]:
    """An upstream of kind ``openai`` there. At the end no place may be taken and no timer set."""
    config = OpenAiUpstreamConfig.model_validate({"name": "up", "kind": "openai", "base_url": base_url, **settings})
    upstream = OpenAiUpstream(config, key, SystemClock())
    try:
        yield upstream
        assert (upstream.bulkhead.in_use, upstream.bulkhead.waiting) == (0, 0)
        assert live_timers() == []
    finally:
        await upstream.aclose()


def live_timers() -> list[Any]:
    """The loop's timers that belong to a PhaseTimer and were not taken back; uvloop does not tell."""
    handles = getattr(asyncio.get_running_loop(), "_scheduled", ())
    return [handle for handle in handles if isinstance(getattr(handle._callback, "__self__", None), PhaseTimer)]


def chat(**options: Any) -> ChatRequest:
    return ChatRequest.from_object({"model": "public", "messages": [{"role": "user", "content": "Hi"}], **options})


@dataclass(slots=True)
class Outcome:
    """What a client would have got."""

    payloads: list[bytes] = field(default_factory=list)
    body: bytes | None = None
    usage: dict[str, Any] | None = None
    error: RequestError | None = None
    filtered: bool = False

    @property
    def text(self) -> str:
        """Of the one choice."""
        if self.body is not None:
            return str(orjson.loads(self.body)["choices"][0]["message"]["content"])
        choices = [choice for data in self.payloads for choice in orjson.loads(data)["choices"]]
        return "".join(choice.get("delta", {}).get("content") or choice.get("text", "") for choice in choices)


async def outcome_of(
    upstream: OpenAiUpstream, model: str, request: GenerationRequest, *, total_s: float = 60
) -> Outcome:
    """Ask ``model`` and read to the end, whatever that is."""
    outcome = Outcome()
    async with asyncio.timeout(WAIT_S):
        try:
            answer = await upstream.respond(request, model, total_s=total_s)
            try:
                await _read(answer, outcome)
            finally:
                await answer.aclose()
        except RequestError as error:
            outcome.error = error
    return outcome


async def _read(answer: Answer, outcome: Outcome) -> None:
    outcome.body, outcome.filtered = answer.body, answer.filtered
    if answer.batches is not None:
        async for batch in answer.batches:
            outcome.payloads += batch
    outcome.usage = answer.usage


async def until(condition: Callable[[], object]) -> None:
    """Return as soon as it holds, which must be soon."""
    async with asyncio.timeout(1):
        while not condition():  # noqa: ASYNC110 (sockets tell nobody when their other end has noticed)
            await asyncio.sleep(0)


def open_connections(faults: FaultUpstream) -> int:
    return len(faults.open_connections)
