"""A route that cuts chats, in front of servers that count by a rule that tests can follow."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from genkan.config import BreakerConfig, RouteConfig
from genkan.gateway.breaker import Breaker, MemoryCircuits
from genkan.gateway.deployment import Deployment
from genkan.gateway.estimate import Estimator
from genkan.gateway.standing import UpstreamStanding
from genkan.gateway.truncation import COUNTING_S, Truncation
from genkan.upstream.base import NO_CALL, Answer, Call, Way
from genkan.wire.chat import ChatRequest, GenerationRequest
from genkan.wire.said import Said

Message = dict[str, Any]


def tokens_of(messages: Sequence[Message]) -> int:
    """Two around the chat, three around each message, and one for every three characters."""
    return 2 + sum(3 + _chars(message) // 3 for message in messages)


def _chars(message: Message) -> int:
    content = message.get("content") or ""
    text = content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
    return len(text) + (len(orjson.dumps(calls)) if (calls := message.get("tool_calls")) else 0)


class CountingUpstream:
    """An Upstream that counts prompts, as many as it is let; it gives no answers."""

    def __init__(
        self,
        name: str = "up",
        *,
        counts: int = 10**9,
        rule: Callable[[list[Message]], int] = tokens_of,
        hangs: bool = False,
    ) -> None:
        """One that ``hangs`` says nothing as long as one waits."""
        self.name = name
        self.num_asked = 0
        self.counted: list[int] = []
        self._left = counts
        self._rule = rule
        self._hangs = hangs

    async def respond(self, request: GenerationRequest, model: str, *, total_s: float, call: Call = NO_CALL) -> Answer:
        raise AssertionError("nobody asks it for an answer")

    def way_on(self, request: GenerationRequest, said: Said) -> Way:
        return "replay"

    async def count_tokens(self, request: GenerationRequest, model: str, *, limit_s: float) -> int | None:
        assert isinstance(request, ChatRequest)
        assert request.raw["messages"] is request.messages
        assert (model, limit_s > 0) == ("there", True)
        self.num_asked += 1
        if self._hangs:
            await asyncio.sleep(limit_s)
        if self._hangs or not self._left:
            return None
        self._left -= 1
        self.counted.append(self._rule(request.messages))
        return self.counted[-1]


def deployment(upstream: CountingUpstream, context_tokens: int | None, *, usual_answer: int = 100) -> Deployment:
    return Deployment(
        model="m",
        name_there="there",
        weight=1,
        context_tokens=context_tokens,
        upstream=upstream,
        breaker=Breaker("m@up", BreakerConfig(), MemoryCircuits()),
        standing=UpstreamStanding(),
        max_output_tokens=usual_answer,
    )


def truncation(
    window: int | None,
    *upstreams: CountingUpstream,
    others: Sequence[int | None] = (),
    usual_answer: int = 100,
    counting_s: float = COUNTING_S,
    **route: Any,
) -> Truncation:
    """Of a route whose first model has ``window`` at each of ``upstreams``, and others behind it have theirs."""
    config = RouteConfig(alias="r", chain=["m", *(f"m{place}" for place in range(len(others)))], **route)
    first = [deployment(upstream, window, usual_answer=usual_answer) for upstream in upstreams]
    tiers = [first, *([deployment(CountingUpstream(), other)] for other in others)]
    return Truncation(config, tiers, Estimator(), counting_s)


def chat(messages: Sequence[Message], **options: Any) -> ChatRequest:
    return ChatRequest.parse(orjson.dumps({"model": "r", "messages": list(messages), **options}))


def said(role: str, text: str) -> Message:
    return {"role": role, "content": text}


def calling(*ids: str) -> Message:
    calls = [{"id": one, "type": "function", "function": {"name": "f", "arguments": "{}"}} for one in ids]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def result(call: str, text: str = "42") -> Message:
    return {"role": "tool", "tool_call_id": call, "content": text}
