"""What the pipeline tells of the way a request took; the answer itself it does not touch."""

import orjson
import pytest
from accounts_at_hand import AccountsAtHand
from responders import HELLO, HELLO_BODY, USAGE, ScriptedResponder, chunk
from scripted_upstreams import (
    ScriptedUpstream,
    ServedBy,
    Told,
    VirtualClock,
    failed,
    refused,
    request,
    router_to,
    taken,
    throttled,
)

from genkan.config import Config
from genkan.errors import ModelNotFound, RequestError
from genkan.gateway.caching import NotStored
from genkan.gateway.fallback import Fallback
from genkan.gateway.pipeline import Pipeline
from genkan.upstream.base import Answer
from genkan.wire.chat import ChatRequest

pytestmark = pytest.mark.anyio
CONFIG = Config.model_validate(
    {
        "upstreams": [{"name": "engine", "kind": "engine"}],
        "models": [{"name": "m", "deployments": [{"upstream": "engine", "model": "m-there"}]}],
        "routes": [{"alias": "nick", "chain": ["m"]}],
    }
)
TWO = Config.model_validate(
    {
        "upstreams": [{"name": name, "kind": "openai", "base_url": "http://h/v1"} for name in ("up-1", "up-2")],
        "models": [{"name": "big", "upstream": "up-1"}, {"name": "small", "upstream": "up-2"}],
        "routes": [{"alias": "nick", "chain": ["big", "small"], "retry": {"max_retries": 0}}],
    }
)


def ask(**fields: object) -> ChatRequest:
    return ChatRequest.from_object({"model": "nick", "messages": [{"role": "user", "content": "Hi"}], **fields})


def pipeline_to(config: Config, *upstreams: ServedBy | ScriptedUpstream) -> Pipeline:
    admissions = AccountsAtHand(config).admissions
    return Pipeline(router_to(config, upstreams), Fallback(VirtualClock(), Told()), admissions)


async def respond(responder: ScriptedResponder, request: ChatRequest) -> Answer:
    return await pipeline_to(CONFIG, ServedBy(responder)).respond(request)


async def test_the_upstream_gets_its_own_model_name_and_the_request_as_it_came() -> None:
    upstream = ServedBy(responder := ScriptedResponder())
    request = ask(new_option={"a": [1]})
    await pipeline_to(CONFIG, upstream).respond(request)
    assert upstream.models == ["m-there"]
    assert responder.requests == [request]
    assert request.raw["model"] == "nick"
    assert request.raw["new_option"] == {"a": [1]}


async def test_a_whole_body_is_passed_on_with_its_usage() -> None:
    answer = await respond(ScriptedResponder(), ask())
    assert (answer.body, answer.usage) == (HELLO_BODY, USAGE)


async def test_a_stream_is_passed_on_byte_for_byte_but_for_the_usage_which_also_says_what_it_cost() -> None:
    answer = await respond(ScriptedResponder(), ask(stream=True, stream_options={"include_usage": True}))
    *chunks, last = await taken(answer)
    assert chunks == HELLO[:-1]
    assert orjson.loads(last) == {**orjson.loads(HELLO[-1]), "usage": {**USAGE, "cost_usd": None}}
    assert answer.usage == USAGE


async def test_usage_is_counted_but_hidden_from_a_client_that_did_not_ask() -> None:
    answer = await respond(ScriptedResponder(), ask(stream=True))
    events = await taken(answer)
    assert answer.usage == USAGE
    assert events == [event.replace(b',"usage":null', b"") for event in HELLO[:-1]]


async def test_text_that_spells_the_usage_key_is_not_touched() -> None:
    spelled = 'x,"usage":null and "usage":{'
    answer = await respond(ScriptedResponder([chunk(spelled)]), ask(stream=True))
    assert await taken(answer) == [chunk(spelled)[: -len(b',"usage":null}')] + b"}"]


async def test_headers_and_fields_name_who_answered() -> None:
    answer = await respond(ScriptedResponder(), ask())
    assert dict(answer.headers) == {
        b"x-genkan-model": b"m",
        b"x-genkan-upstream": b"engine",
        b"x-genkan-attempts": b"1",
        b"x-genkan-cache": b"bypass",
    }
    assert answer.fields == {"model": "m", "upstream": "engine", "attempts": 1}


async def test_headers_and_fields_tell_of_a_fallback() -> None:
    clock = VirtualClock()
    pipeline = pipeline_to(TWO, ScriptedUpstream("up-1", clock, failed(503)), ScriptedUpstream("up-2", clock))
    answer = await pipeline.respond(request(model="nick"))
    assert dict(answer.headers) == {
        b"x-genkan-model": b"small",
        b"x-genkan-upstream": b"up-2",
        b"x-genkan-attempts": b"2",
        b"x-genkan-fallback": b"upstream_unavailable",
        b"x-genkan-cache": b"bypass",
    }
    assert answer.fields == {
        "model": "small", "upstream": "up-2", "attempts": 2, "fallback": "upstream_unavailable",
    }  # fmt: skip


async def test_one_requests_headers_are_not_the_next_ones() -> None:
    clock = VirtualClock()
    pipeline = pipeline_to(TWO, ScriptedUpstream("up-1", clock), ScriptedUpstream("up-2", clock))
    first, second = [await pipeline.respond(request(model="nick")) for _ in range(2)]
    first.headers.append((b"x", b"y"))
    first.fields["x"] = "y"
    assert (b"x", b"y") not in second.headers
    assert "x" not in second.fields
    assert (b"x", b"y") not in (await pipeline.respond(request(model="nick"))).headers


async def test_where_nothing_is_stored_a_stored_answer_is_a_miss_whoever_would_give_it() -> None:
    upstreams = [ScriptedUpstream(name, VirtualClock()) for name in ("up-1", "up-2", "engine")]
    for pipeline in (pipeline_to(TWO, *upstreams[:2]), pipeline_to(CONFIG, upstreams[2])):
        with pytest.raises(NotStored) as caught:
            await pipeline.respond(ask(genkan={"cache": "only"}))
        assert (caught.value.param, caught.value.status, caught.value.code) == ("genkan.cache", 404, "cache_miss")
    assert [upstream.asked for upstream in upstreams] == [[], [], []]


async def test_an_unknown_model_never_reaches_an_upstream() -> None:
    responder = ScriptedResponder()
    with pytest.raises(ModelNotFound):
        await respond(responder, ask(model="other"))
    assert responder.requests == []


async def test_an_error_says_how_many_attempts_it_took() -> None:
    clock = VirtualClock()
    pipeline = pipeline_to(
        TWO, ScriptedUpstream("up-1", clock, throttled(9.0)), ScriptedUpstream("up-2", clock, refused("x"))
    )
    with pytest.raises(RequestError) as caught:
        await pipeline.respond(request(model="nick"))
    assert (caught.value.status, caught.value.retry_after_s, caught.value.attempts) == (429, 9.0, 2)


@pytest.mark.parametrize("stream", [False, True])
async def test_closing_an_answer_that_nobody_read_still_closes_the_upstreams(stream: bool) -> None:
    responder = ScriptedResponder()
    answer = await respond(responder, ask(stream=stream))
    await answer.aclose()
    assert responder.closed == 1
