"""What the pipeline changes on the way to an upstream and back."""

import pytest
from responders import HELLO, HELLO_BODY, USAGE, ScriptedResponder

from genkan.config import Config
from genkan.errors import ModelNotFound
from genkan.gateway.pipeline import Pipeline
from genkan.gateway.router import Router
from genkan.upstream.base import Answer
from genkan.wire.chat import ChatRequest

pytestmark = pytest.mark.anyio
CONFIG = Config.model_validate(
    {
        "upstreams": [{"name": "engine", "kind": "engine"}],
        "models": [{"name": "m", "upstream": "engine"}],
        "routes": [{"alias": "nick", "chain": ["m"]}],
    }
)


def ask(**fields: object) -> ChatRequest:
    return ChatRequest.from_object({"model": "nick", "messages": [{"role": "user", "content": "Hi"}], **fields})


async def respond(responder: ScriptedResponder, request: ChatRequest) -> Answer:
    return await Pipeline(Router(CONFIG), {"engine": responder}).respond(request)


async def events_of(answer: Answer) -> list[bytes]:
    assert answer.events is not None
    events = [event async for event in answer.events]
    await answer.aclose()
    return events


async def test_the_upstream_sees_its_own_model_name_and_every_unknown_field() -> None:
    responder = ScriptedResponder()
    request = ask(new_option={"a": [1]})
    await respond(responder, request)
    assert responder.requests[0].raw == {**request.raw, "model": "m"}
    assert request.raw["model"] == "nick"


async def test_usage_is_asked_for_and_counted_but_hidden_from_a_client_that_did_not_ask() -> None:
    responder = ScriptedResponder()
    answer = await respond(responder, ask(stream=True))
    events = await events_of(answer)
    assert responder.requests[0].raw["stream_options"] == {"include_usage": True}
    assert answer.usage == USAGE
    assert events == [event.replace(b',"usage":null', b"") for event in HELLO[:-1]]
    assert not any(b"usage" in event for event in events)


async def test_a_client_that_asks_for_usage_gets_the_stream_byte_for_byte() -> None:
    answer = await respond(ScriptedResponder(), ask(stream=True, stream_options={"include_usage": True}))
    assert await events_of(answer) == HELLO
    assert answer.usage == USAGE


async def test_text_that_spells_the_usage_key_is_not_touched() -> None:
    from responders import chunk

    spelled = 'x,"usage":null and "usage":{'
    answer = await respond(ScriptedResponder([chunk(spelled)]), ask(stream=True))
    [event] = await events_of(answer)
    assert event == chunk(spelled)[: -len(b',"usage":null}')] + b"}"


async def test_a_whole_body_is_passed_on_and_its_usage_counted() -> None:
    answer = await respond(ScriptedResponder(), ask())
    assert (answer.body, answer.usage) == (HELLO_BODY, USAGE)


async def test_headers_name_who_answered() -> None:
    answer = await respond(ScriptedResponder(), ask())
    assert dict(answer.headers) == {
        b"x-genkan-model": b"m",
        b"x-genkan-upstream": b"engine",
        b"x-genkan-attempts": b"1",
        b"x-genkan-cache": b"bypass",
    }


async def test_an_unknown_model_never_reaches_an_upstream() -> None:
    responder = ScriptedResponder()
    with pytest.raises(ModelNotFound):
        await respond(responder, ask(model="other"))
    assert responder.requests == []


async def test_closing_an_answer_that_nobody_read_still_closes_the_upstreams() -> None:
    responder = ScriptedResponder()
    answer = await respond(responder, ask(stream=True))
    await answer.aclose()
    assert responder.closed == 1
