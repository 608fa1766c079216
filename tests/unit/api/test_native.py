"""POST /call."""

import json
from typing import Any

import pytest
from accounts_at_hand import AccountsAtHand
from asgi import AsgiClient, post
from responders import USAGE, ScriptedResponder
from scripted_upstreams import ServedBy, Told, VirtualClock, router_to

from genkan.api import native
from genkan.api.exchange import Exchange
from genkan.api.native import NativeEndpoint
from genkan.api.routes import Api
from genkan.config import Config, ServerConfig
from genkan.gateway.fallback import Fallback
from genkan.gateway.pipeline import Pipeline
from genkan.upstream.base import NO_CALL, Answer, Call
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
    admissions = AccountsAtHand(CONFIG).admissions
    pipeline = Pipeline(router_to(CONFIG, [upstream]), Fallback(VirtualClock(), Told()), admissions)
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


async def asked(responder: ScriptedResponder, *, stream: bool) -> AsgiClient:
    return await post(api_to(Unchecked(responder)), "/call", {"messages": MESSAGES, "stream": stream})


def said(text: object, *, index: int = 0) -> dict[str, Any]:
    return {"index": index, "delta": {"content": text}, "message": {"content": text}, "finish_reason": None}


def answered(*choices: object) -> bytes:
    return json.dumps({"id": "1", "model": "m", "choices": choices}).encode()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("choice", "content"),
    [
        (said([{"type": "text", "text": "Hel"}, {"type": "image_url"}, "x", {"text": 3}, {"text": "lo"}]), "Hello"),
        (said({"text": "no"}), ""),
        (said(7), ""),
        ({"index": 0, "delta": "Hello", "message": "Hello"}, ""),
        ({"index": 0, "delta": ["Hello"], "message": ["Hello"]}, ""),
        ("Hello", ""),
    ],
    ids=["parts", "an object", "a number", "a text for a message", "a list for a message", "a text for a choice"],
)
async def test_content_is_text_whatever_the_upstream_made_of_it(choice: object, content: str, stream: bool) -> None:
    responder = ScriptedResponder([answered(choice)], body=answered(choice))
    client = await asked(responder, stream=stream)
    assert (client.status, json.loads(client.body)["content"]) == (200, content)


async def test_a_tool_call_has_no_content() -> None:
    client = await asked(ScriptedResponder(body=answered(said(None))), stream=False)
    assert json.loads(client.body)["content"] is None


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_of_several_choices_it_has_room_for_the_first(stream: bool) -> None:
    body = answered(said("no", index=1), said("yes"))
    events: list[Any] = [answered(said("no", index=1)), answered(said("ye")), answered(said("o", index=2), said("s"))]
    client = await asked(ScriptedResponder(events, body=body), stream=stream)
    assert json.loads(client.body)["content"] == "yes"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    "data",
    [b"[]", b"null", b'{"id":' + 300 * b"[" + 300 * b"]" + b"}"],
    ids=["a list", "null", "nested too deeply to be written"],
)
async def test_what_is_no_answer_is_the_upstreams_fault(data: bytes, stream: bool) -> None:
    client = await asked(ScriptedResponder([data], body=data), stream=stream)
    assert (client.status, client.error["code"]) == (502, "upstream_invalid_response")


async def test_a_client_has_the_configured_time_to_take_its_answer() -> None:
    endpoint = NativeEndpoint(ScriptedResponder(), ServerConfig(send_timeout_s=7.0))
    times: list[float] = []

    async def noting(exchange: Exchange) -> None:
        await endpoint(exchange)
        times.append(exchange.send_timeout_s)

    await post(Api({"/call": {"POST": noting}}, lambda _: None), "/call", {"messages": MESSAGES})
    assert times == [7.0]


async def test_a_stream_is_collected_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "MAX_COLLECTED_CHARACTERS", 5)
    assert (await asked(ScriptedResponder(), stream=True)).status == 200
    monkeypatch.setattr(native, "MAX_COLLECTED_CHARACTERS", 4)
    responder = ScriptedResponder()
    client = await asked(responder, stream=True)
    assert (client.status, client.error["code"], responder.closed) == (502, "upstream_invalid_response", 1)


class Unchecked(ServedBy):
    """An upstream that passes on what it gets."""

    async def respond(self, request: GenerationRequest, model: str, *, total_s: float, call: Call = NO_CALL) -> Answer:
        return await self._responder.respond(request)
