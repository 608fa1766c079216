"""POST /call."""

import json
from typing import Any

import pytest
from asgi import post
from responders import USAGE, ScriptedResponder
from scripted_upstreams import ServedBy, Told, VirtualClock, router_to

from genkan.api.native import NativeEndpoint
from genkan.api.routes import Api
from genkan.config import Config, ServerConfig
from genkan.gateway.fallback import Fallback
from genkan.gateway.pipeline import Pipeline
from genkan.upstream.base import Answer
from genkan.wire.chat import GenerationRequest

pytestmark = pytest.mark.anyio
MESSAGES = [{"role": "user", "content": "Hi"}]
CONFIG = Config.model_validate(
    {
        "upstreams": [{"name": "engine", "kind": "engine"}],
        "models": [{"name": "m", "upstream": "engine"}],
        "routes": [{"alias": "default", "chain": ["m"]}],
    }
)


def api(responder: ScriptedResponder) -> Api:
    return api_to(ServedBy(responder))


def api_to(upstream: ServedBy) -> Api:
    pipeline = Pipeline(router_to(CONFIG, [upstream]), Fallback(VirtualClock(), Told()))
    return Api({"/call": {"POST": NativeEndpoint(pipeline, ServerConfig())}}, lambda _: None, [])


async def test_answers_with_one_flat_object() -> None:
    client = await post(api(ScriptedResponder()), "/call", {"model": "m", "messages": MESSAGES})
    reply = json.loads(client.body)
    assert reply.pop("latency_ms") > 0
    assert reply == {
        "id": "chatcmpl-1",
        "model": "m",
        "content": "Hello",
        "finish_reason": "stop",
        "usage": USAGE,
        "cost_usd": None,
    }


async def test_collects_a_stream() -> None:
    responder = ScriptedResponder()
    client = await post(api(responder), "/call", {"messages": MESSAGES, "stream": True})
    reply = json.loads(client.body)
    assert (reply["content"], reply["streamed"], reply["usage"]) == ("Hello", True, USAGE)
    assert (responder.requests[0].stream, responder.closed) == (True, 1)


async def test_takes_the_default_route_and_skips_nulls() -> None:
    responder = ScriptedResponder()
    upstream = ServedBy(responder)
    await post(api_to(upstream), "/call", {"messages": MESSAGES, "model": None, "stop": None, "max_tokens": 3})
    assert responder.requests[0].model == "default"
    assert upstream.models == ["m"]
    assert responder.requests[0].sampling.max_tokens == 3
    assert "stop" not in responder.requests[0].raw


async def test_refuses_what_a_chat_completion_refuses() -> None:
    client = await post(api(ScriptedResponder()), "/call", {"messages": []})
    assert (client.status, client.error["param"]) == (400, "messages")


async def test_an_answer_that_is_no_json_is_the_upstreams_fault() -> None:
    events: list[Any] = [b"not json"]
    client = await post(api_to(Unchecked(ScriptedResponder(events))), "/call", {"messages": MESSAGES, "stream": True})
    assert (client.status, client.error["code"]) == (502, "upstream_invalid_response")


class Unchecked(ServedBy):
    """An upstream that passes on what it gets."""

    async def respond(self, request: GenerationRequest, model: str, *, total_s: float) -> Answer:
        return await self._responder.respond(request)
