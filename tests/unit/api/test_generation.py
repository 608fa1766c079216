"""Whole answers, streams, their errors, and clients that go away."""

import asyncio

import pytest
from asgi import AsgiClient, post
from responders import HELLO, HELLO_BODY, ScriptedResponder, chunk

from genkan.api.exchange import Exchange
from genkan.api.generation import GenerationEndpoint
from genkan.api.routes import Api
from genkan.config import ServerConfig
from genkan.errors import ContextTooLong, TimedOut
from genkan.upstream.base import Answer
from genkan.wire.caller import NOBODY, Caller
from genkan.wire.chat import ChatRequest, GenerationRequest

pytestmark = pytest.mark.anyio
ASK = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
STREAM = {**ASK, "stream": True}


def api(responder: ScriptedResponder) -> Api:
    endpoint = GenerationEndpoint(ChatRequest.parse, responder, ServerConfig())
    return Api({"/chat": {"POST": endpoint}}, lambda _: None, [])


async def test_a_whole_answer_is_passed_on_byte_for_byte() -> None:
    responder = ScriptedResponder()
    client = await post(api(responder), "/chat", ASK)
    assert (client.status, client.body, responder.closed) == (200, HELLO_BODY, 1)


async def test_a_stream_is_framed_as_events_and_ends_with_done() -> None:
    responder = ScriptedResponder()
    client = await post(api(responder), "/chat", STREAM)
    assert client.headers["content-type"] == "text/event-stream"
    assert client.body == b"".join(b"data: %b\n\n" % event for event in HELLO) + b"data: [DONE]\n\n"
    assert (client.ended, responder.closed) == (True, 1)


async def test_an_error_before_the_first_event_is_a_response_of_its_own_status() -> None:
    error = ContextTooLong(limit_tokens=10, prompt_tokens=8, max_tokens=5, param="messages")
    client = await post(api(ScriptedResponder(refuse=error)), "/chat", STREAM)
    assert (client.status, client.error["code"]) == (400, "context_length_exceeded")
    assert "10 tokens" in client.error["message"]
    assert "13 tokens" in client.error["message"]


async def test_an_error_in_mid_stream_is_the_last_event_before_done() -> None:
    error = TimedOut(upstream="engine", phase="between_tokens", limit_s=30)
    responder = ScriptedResponder([chunk("Hel"), error])
    client = await post(api(responder), "/chat", STREAM)
    assert client.status == 200
    *_, last, done, _ = client.body.split(b"\n\n")
    assert last.startswith(b'data: {"error":{')
    assert b"upstream_timeout" in last
    assert done == b"data: [DONE]"
    assert (client.ended, responder.closed) == (True, 1)


async def test_a_client_that_leaves_a_stream_stops_the_work_at_once() -> None:
    never = asyncio.Event()
    responder = ScriptedResponder([chunk("Hel"), never])
    client = AsgiClient(api(responder))
    request = asyncio.create_task(
        client.request("POST", "/chat", [b'{"model":"m","stream":true,"messages":[{"role":"user","content":"x"}]}'])
    )
    await client.arrived.wait()
    client.disconnect()
    await asyncio.wait_for(request, timeout=1)
    assert (responder.closed, client.ended) == (1, False)


async def test_a_client_that_leaves_before_the_answer_cancels_it() -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    class Slow(ScriptedResponder):
        async def respond(self, request: object, caller: object = None) -> object:  # type: ignore[override]
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()
            raise AssertionError

    client = AsgiClient(api(Slow()))
    request = asyncio.create_task(
        client.request("POST", "/chat", [b'{"model":"m","messages":[{"role":"user","content":"x"}]}'])
    )
    await started.wait()
    client.disconnect()
    await asyncio.wait_for(request, timeout=1)
    assert cancelled.is_set()
    assert client.status == 0


async def test_cancelling_the_request_from_outside_is_not_mistaken_for_a_disconnect() -> None:
    responder = ScriptedResponder([chunk("Hel"), asyncio.Event()])
    client = AsgiClient(api(responder))
    request = asyncio.create_task(
        client.request("POST", "/chat", [b'{"model":"m","stream":true,"messages":[{"role":"user","content":"x"}]}'])
    )
    await client.arrived.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert responder.closed == 1
    assert b"server_shutting_down" in client.body
    assert client.body.endswith(b"data: [DONE]\n\n")


class Counting(ScriptedResponder):
    """An upstream with its own idea of usage."""

    def __init__(self, usage: dict[str, object] | None) -> None:
        super().__init__()
        self._usage = usage

    async def respond(self, request: GenerationRequest, caller: Caller = NOBODY) -> Answer:
        answer = await super().respond(request, caller)
        answer.usage = self._usage
        return answer


@pytest.mark.parametrize(
    ("usage", "logged"),
    [
        (None, None),
        (
            {"prompt_tokens": 3, "total_tokens": 5, "prompt_tokens_details": {"cached_tokens": 2, "audio_tokens": 1}},
            {"prompt_tokens": 3, "total_tokens": 5, "cached_tokens": 2},
        ),
        (
            {"total_tokens": 7, "completion_tokens": 4, "prompt_tokens": 3},
            {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
        ),
        ({"prompt_tokens": "3", "completion_tokens": [9], "total_tokens": True, "prompt_tokens_details": [1]}, {}),
        ({"completion_tokens": 2, "note": "x" * 1000, "x": {"y": {}}}, {"completion_tokens": 2}),
        (
            {
                "prompt_tokens": 2**63,
                "completion_tokens": -1,
                "total_tokens": 9,
                "prompt_tokens_details": {"cached_tokens": -2},
            },
            {"total_tokens": 9},
        ),
    ],
    ids=["none", "one missing", "usual", "of other types", "with more beside it", "no counts"],
)
async def test_the_log_gets_counts_and_nothing_else_of_an_upstreams_usage(
    usage: dict[str, object] | None, logged: dict[str, int] | None
) -> None:
    endpoint = GenerationEndpoint(ChatRequest.parse, Counting(usage), ServerConfig())
    fields: dict[str, object] = {}

    async def noting(exchange: Exchange) -> None:
        await endpoint(exchange)
        fields.update(exchange.fields)

    await post(Api({"/chat": {"POST": noting}}, lambda _: None), "/chat", ASK)
    assert fields["usage"] == logged
