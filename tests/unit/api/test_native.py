"""POST /call."""

import json

import pytest
from asgi import post
from responders import USAGE, ScriptedResponder

from genkan.api.native import NativeEndpoint
from genkan.api.routes import Api
from genkan.config import Config, ServerConfig
from genkan.gateway.pipeline import Pipeline
from genkan.gateway.router import Router

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
    pipeline = Pipeline(Router(CONFIG), {"engine": responder})
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
    await post(api(responder), "/call", {"messages": MESSAGES, "model": None, "stop": None, "max_tokens": 3})
    assert responder.requests[0].model == "m"
    assert responder.requests[0].sampling.max_tokens == 3
    assert "stop" not in responder.requests[0].raw


async def test_refuses_what_a_chat_completion_refuses() -> None:
    client = await post(api(ScriptedResponder()), "/call", {"messages": []})
    assert (client.status, client.error["param"]) == (400, "messages")
