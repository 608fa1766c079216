"""What an OpenAI-compatible server is sent, how many requests at once, and what is left when a client goes."""

import asyncio
import gc
import time
import weakref
from itertools import pairwise
from typing import Any

import orjson
import pytest
from byte_servers import always, byte_server
from byte_servers import answer as byte_answer
from faults.canonical import TEXT, USAGE, VENDOR
from faults.upstream import FaultUpstream
from scripted_upstreams import Told, taken
from upstream_calls import KEY, chat, open_connections, openai_upstream, outcome_of, until

from genkan import __version__
from genkan.clock import SystemClock
from genkan.config import BreakerConfig, RouteConfig
from genkan.errors import ConnectFailed, StreamInterrupted, TimedOut, UpstreamBroken, UpstreamError, UpstreamFull
from genkan.gateway.breaker import Breaker, MemoryCircuits
from genkan.gateway.chain import Chain
from genkan.gateway.deployment import Deployment
from genkan.gateway.fallback import Fallback
from genkan.gateway.standing import UpstreamStanding
from genkan.upstream import http_client, http_upstream
from genkan.upstream.base import Call
from genkan.upstream.openai_http import OpenAiUpstream
from genkan.wire.chat import CompletionRequest
from genkan.wire.extras import OWN_KEYS

pytestmark = pytest.mark.anyio

both_ways = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
LATE_S = 1.0
EXTRAS: dict[str, Any] = {
    "genkan": {"cache": "no-store", "priority": 3},
    "cache_control": "auto",
    "prompt_cache": True,
    "prefix_caching": True,
    "cache_ttl_seconds": 60,
    "high_priority": True,
}


# --- What is sent ---


async def test_the_request_goes_as_it_came_but_for_the_models_name(faults: FaultUpstream) -> None:
    request = chat(temperature=0.5, x_unknown={"a": [1, None, "é"]}, stop=["x"])
    async with openai_upstream(faults.base_url) as upstream:
        await outcome_of(upstream, "ok", request)
    (attempt,) = faults.ledger.attempts
    assert attempt.path == "/v1/chat/completions"
    assert attempt.body == {**request.raw, "model": "ok"}
    assert request.raw["model"] == "public"


async def test_an_attempt_has_its_id_and_nobodys_name(faults: FaultUpstream) -> None:
    async with openai_upstream(faults.base_url) as upstream:
        await upstream.respond(chat(), "ok", total_s=60.0, call=Call("req_7.2", "acme"))
    headers = faults.ledger.attempts[0].headers
    assert headers["x-client-request-id"] == "req_7.2"
    assert "acme" not in str(headers)


@both_ways
async def test_a_budgets_bound_is_the_answers(faults: FaultUpstream, stream: bool) -> None:
    async with openai_upstream(faults.base_url) as upstream:
        answer = await upstream.respond(chat(stream=stream), "ok", total_s=60.0, call=Call("req_7.1", "acme", 50))
        await taken(answer)
    assert faults.ledger.attempts[0].body["max_tokens"] == 50


async def test_a_budgets_bound_has_the_name_that_the_client_knows(faults: FaultUpstream) -> None:
    async with openai_upstream(faults.base_url) as upstream:
        request = chat(max_completion_tokens=None)
        await taken(await upstream.respond(request, "ok", total_s=60.0, call=Call("req_7.1", "acme", 50)))
    body = faults.ledger.attempts[0].body
    assert body["max_completion_tokens"] == 50
    assert "max_tokens" not in body


async def test_a_budgets_bound_has_the_name_that_the_server_knows(faults: FaultUpstream) -> None:
    call = Call("req_7.1", "acme", 50)
    async with openai_upstream(faults.base_url, max_tokens_name="max_completion_tokens") as upstream:
        await taken(await upstream.respond(chat(), "ok", total_s=60.0, call=call))
        text = CompletionRequest.from_object({"model": "public", "prompt": "a"})
        await taken(await upstream.respond(text, "ok", total_s=60.0, call=call))
    of_chat, of_text = (attempt.body for attempt in faults.ledger.attempts)
    assert (of_chat.get("max_tokens"), of_chat["max_completion_tokens"]) == (None, 50)
    assert (of_text["max_tokens"], of_text.get("max_completion_tokens")) == (50, None)  # it has one name only


async def test_a_stream_is_measured_as_it_passes(faults: FaultUpstream) -> None:
    async with openai_upstream(faults.base_url) as upstream:
        answer = await upstream.respond(chat(stream=True), "ok", total_s=60.0)
        assert 0 < answer.text_bytes <= len(TEXT)
        await taken(answer)
    assert (answer.pieces, answer.text_bytes) == (USAGE["completion_tokens"], len(TEXT))


@pytest.mark.parametrize("prompt", ["a", ["a", "b"]], ids=["one", "two"])
async def test_text_completions_go_to_their_own_path_and_end_with_an_answer_to_each_prompt(
    faults: FaultUpstream, prompt: Any
) -> None:
    request = CompletionRequest.from_object({"model": "public", "prompt": prompt, "stream": True})
    async with openai_upstream(faults.base_url) as upstream:
        said, unsaid = [await outcome_of(upstream, model, request) for model in ("ok", "no-done")]
    assert faults.ledger.attempts[0].path == "/v1/completions"
    assert (said.text, unsaid.text) == (TEXT, TEXT)
    for outcome in (said, unsaid):  # the fault upstream answers but one prompt
        assert isinstance(outcome.error, StreamInterrupted) == (prompt != "a")


def test_the_extras_of_these_tests_are_all_there_are() -> None:
    assert EXTRAS.keys() == OWN_KEYS


async def test_our_own_options_never_reach_it(faults: FaultUpstream) -> None:
    async with openai_upstream(faults.base_url) as upstream:
        await outcome_of(upstream, "ok", chat(**EXTRAS))
    assert faults.ledger.attempts[0].body == {**chat().raw, "model": "ok"}


async def test_headers_are_ours_and_those_of_the_configuration(faults: FaultUpstream) -> None:
    async with openai_upstream(faults.base_url, headers={"X-Project": "a b", "User-Agent": "mine"}) as upstream:
        await outcome_of(upstream, "ok", chat())
    headers = faults.ledger.attempts[0].headers
    assert headers.pop("content-length").isdecimal()
    assert headers == {
        "host": f"127.0.0.1:{faults.port}",
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "accept-encoding": "identity",
        "authorization": f"Bearer {KEY}",
        "x-project": "a b",
        "user-agent": "mine",
    }


async def test_without_a_key_none_is_sent(faults: FaultUpstream) -> None:
    async with openai_upstream(faults.base_url, None) as upstream:
        await outcome_of(upstream, "ok", chat())
    headers = faults.ledger.attempts[0].headers
    assert "authorization" not in headers
    assert headers["user-agent"] == f"genkan/{__version__}"


async def test_no_configured_header_is_shown_to_a_client_by_a_server_that_repeats_it() -> None:
    headers = {"X-Account": f"Key {KEY}", "X-Project": "project-0123456789", "X-Team": "red"}
    said = f"no project-0123456789 for red with Key {KEY}, {KEY}"
    body = orjson.dumps({"error": {"message": said}})
    async with (
        byte_server(always(byte_answer(body, status="400 No"))) as server,
        openai_upstream(server.url, headers=headers) as upstream,
    ):
        error = (await outcome_of(upstream, "m", chat())).error
    assert error is not None
    assert error.message == "no [key] for red with [key], [key]"


@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_that_was_handled_is_freed_without_the_garbage_collector(stream: bool) -> None:
    async def failed(upstream: OpenAiUpstream) -> weakref.ref[UpstreamError]:
        try:
            await upstream.respond(chat(stream=stream), "m", total_s=60)
        except ConnectFailed as error:  # pytest.raises would hold on to it
            return weakref.ref(error.with_traceback(None))
        raise AssertionError("nobody listens on port 1")

    async with openai_upstream("http://127.0.0.1:1/v1") as upstream:
        gc.disable()
        try:
            assert (await failed(upstream))() is None
        finally:
            gc.enable()


async def test_more_than_a_mebibyte_before_the_first_word_fails_the_attempt() -> None:
    event = b'data: {"choices":[{"index":0,"delta":{"role":"assistant"}}],"x":"%b"}\n\n' % (b"x" * (64 << 10))
    async with (
        byte_server(always(byte_answer(event * 17, "content-type: text/event-stream\r\n"))) as server,
        openai_upstream(server.url) as upstream,
    ):
        outcome = await outcome_of(upstream, "m", chat(stream=True))
    assert type(outcome.error) is UpstreamBroken
    assert "before its first word" in outcome.error.message
    assert outcome.payloads == []


async def test_a_mebibyte_before_the_first_word_is_held_and_passed_on() -> None:
    event = b'data: {"choices":[{"index":0,"delta":{"role":"assistant"}}],"x":"%b"}\n\n' % (b"x" * (60 << 10))
    end = b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]}\n\n'
    async with (
        byte_server(always(byte_answer(event * 17 + end, "content-type: text/event-stream\r\n"))) as server,
        openai_upstream(server.url) as upstream,
    ):
        outcome = await outcome_of(upstream, "m", chat(stream=True))
    assert (outcome.text, outcome.error, len(outcome.payloads)) == ("a", None, 18)


async def test_a_whole_answer_has_at_most_sixteen_mebibytes() -> None:
    body = b'{"choices":[{"message":{"content":"a"},"finish_reason":"stop"}],"x":"%b"}'
    for size, error in ((16 << 20) - len(body) + 2, None), ((16 << 20) - len(body) + 3, UpstreamBroken):
        async with (
            byte_server(always(byte_answer(body % (b"x" * size)))) as server,
            openai_upstream(server.url) as upstream,
        ):
            outcome = await outcome_of(upstream, "m", chat())
        assert (type(outcome.error) if outcome.error else None) is error


@pytest.mark.parametrize("given", [None, {"include_usage": False}, {"include_usage": True}, {"x": 1}], ids=str)
async def test_every_stream_is_asked_for_its_usage(faults: FaultUpstream, given: dict[str, Any] | None) -> None:
    request = chat(stream=True, stream_options=given)
    async with openai_upstream(faults.base_url) as upstream:
        outcome = await outcome_of(upstream, "ok", request)
    assert faults.ledger.attempts[0].body["stream_options"] == {**(given or {}), "include_usage": True}
    assert outcome.usage == USAGE
    shown = [data for data in outcome.payloads if b'"usage"' in data]
    assert len(shown) == (len(outcome.payloads) if request.include_usage else 0)


async def test_a_server_that_refuses_stream_options_is_not_sent_any(faults: FaultUpstream) -> None:
    async with openai_upstream(faults.base_url, stream_usage=False) as upstream:
        outcome = await outcome_of(upstream, "ok", chat(stream=True))
        assert (outcome.text, outcome.usage) == (TEXT, None)
        await outcome_of(upstream, "ok", chat(stream=True, stream_options={"include_usage": True}))
    without, asked = faults.ledger.attempts
    assert "stream_options" not in without.body
    assert asked.body["stream_options"] == {"include_usage": True}


async def test_a_whole_answer_is_not_asked_for_usage(faults: FaultUpstream) -> None:
    async with openai_upstream(faults.base_url) as upstream:
        outcome = await outcome_of(upstream, "ok", chat())
    assert "stream_options" not in faults.ledger.attempts[0].body
    assert outcome.usage == USAGE


@both_ways
async def test_fields_that_nobody_knows_survive(faults: FaultUpstream, stream: bool) -> None:
    async with openai_upstream(faults.base_url) as upstream:
        outcome = await outcome_of(upstream, "ok", chat(stream=stream))
    answers = outcome.payloads or [outcome.body or b""]
    assert all(orjson.loads(data)["x_vendor"] == VENDOR for data in answers)
    assert all(orjson.loads(data)["service_tier"] == "default" for data in answers)


# --- How many at once ---


@both_ways
async def test_a_full_upstream_refuses_at_once(faults: FaultUpstream, stream: bool) -> None:
    async with openai_upstream(faults.base_url, connections={"limit": 2, "queue": 1}) as upstream:
        taken = [asyncio.create_task(upstream.respond(chat(), "never-answers", total_s=60)) for _ in range(3)]
        await until(lambda: len(faults.ledger.attempts) == 2 and upstream.bulkhead.waiting == 1)
        began_s = time.monotonic()
        error = (await outcome_of(upstream, "ok", chat(stream=stream))).error
        assert time.monotonic() - began_s < 0.05
        assert isinstance(error, UpstreamFull)
        assert (error.status, error.retry_after_s) == (503, 1)
        for task in taken:
            task.cancel()
        await asyncio.gather(*taken, return_exceptions=True)
        assert (await outcome_of(upstream, "ok", chat(stream=stream))).text == TEXT
    assert [attempt.model for attempt in faults.ledger.attempts] == ["never-answers", "never-answers", "ok"]


async def test_who_waits_is_served_when_a_place_becomes_free(faults: FaultUpstream) -> None:
    async with openai_upstream(faults.base_url, connections={"limit": 1, "queue": 9}) as upstream:
        calls = [outcome_of(upstream, "slow-ok", chat(stream=True, x_delay_ms=0.1)) for _ in range(10)]
        assert [outcome.text for outcome in await asyncio.gather(*calls)] == [TEXT] * 10
    for before, after in pairwise(faults.ledger.attempts):
        assert before.ended_at_s is not None
        assert before.ended_at_s <= after.began_at_s


@pytest.mark.parametrize("end", [b"\r\n0\r\n\r\n", b"!\r\n"], ids=["a stray line", "no chunk"])
async def test_an_answer_that_is_whole_stays_so_if_what_comes_with_its_end_is_no_http(end: bytes) -> None:
    said = b'data: {"choices":[{"index":0,"delta":{"content":"Hello"},"finish_reason":null}]}\n\n'
    over = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (said, over))
    async with byte_server(always(head + chunks + end)) as server, openai_upstream(server.url) as upstream:
        outcome = await outcome_of(upstream, "m", chat(stream=True))
    assert (outcome.error, outcome.text) == (None, "Hello")


async def test_who_waits_for_a_place_is_not_sent_before_it_has_one(faults: FaultUpstream) -> None:
    first, second = Call("req_1.1"), Call("req_2.1")
    async with openai_upstream(faults.base_url, connections={"limit": 1}) as upstream:
        answer = await upstream.respond(chat(stream=True), "stalled-after-40", total_s=60, call=first)
        waiting = asyncio.create_task(upstream.respond(chat(), "ok", total_s=60, call=second))
        await until(lambda: upstream.bulkhead.waiting == 1)
        assert (first.is_sent, second.is_sent) == (True, False)
        await answer.aclose()
        await waiting
    assert second.is_sent


@both_ways
@pytest.mark.parametrize(("queue_s", "total_s"), [(0.1, 60), (60, 0.1)], ids=["queue_s", "no time left"])
async def test_who_waited_too_long_for_a_place_goes_on_as_if_there_was_no_queue(
    faults: FaultUpstream, stream: bool, queue_s: float, total_s: float
) -> None:
    connections = {"limit": 1, "queue_s": queue_s}
    async with openai_upstream(faults.base_url, connections=connections) as upstream:
        answer = await upstream.respond(chat(stream=True), "stalled-after-40", total_s=60)
        began_s = time.monotonic()
        error = (await outcome_of(upstream, "ok", chat(stream=stream), total_s=total_s)).error
        assert 0.1 <= time.monotonic() - began_s < 0.1 + LATE_S
        assert type(error) is (UpstreamFull if queue_s < total_s else TimedOut)
        assert upstream.bulkhead.waiting == 0
        await answer.aclose()
        assert (await outcome_of(upstream, "ok", chat(stream=stream))).text == TEXT
    assert len(faults.ledger.attempts) == 2


async def test_the_time_in_the_queue_is_not_the_first_tokens(faults: FaultUpstream) -> None:
    timeouts = {"first_token_s": 0.2}
    async with openai_upstream(faults.base_url, connections={"limit": 1}, timeouts=timeouts) as upstream:
        answer = await upstream.respond(chat(stream=True), "stalled-after-40", total_s=60)
        waiting = asyncio.create_task(outcome_of(upstream, "ok", chat(stream=True)))
        asyncio.get_running_loop().call_later(0.3, lambda: asyncio.ensure_future(answer.aclose()))
        outcome = await waiting
    assert (outcome.text, outcome.error) == (TEXT, None)


async def test_a_whole_answer_holds_neither_place_nor_connection_while_its_client_takes_its_time(
    faults: FaultUpstream,
) -> None:
    async with openai_upstream(faults.base_url, connections={"limit": 1, "queue": 0}) as upstream:
        answer = await upstream.respond(chat(), "ok", total_s=60)
        assert (upstream.bulkhead.in_use, upstream.client.idle) == (0, 1)
        assert (await outcome_of(upstream, "ok", chat())).text == TEXT
        await answer.aclose()
        assert upstream.bulkhead.in_use == 0
    assert open_connections(faults) <= 1


@both_ways
async def test_a_filtered_answer_that_is_kept_leaves_its_place_to_the_next_of_the_chain(
    faults: FaultUpstream, stream: bool
) -> None:
    async with openai_upstream(faults.base_url, connections={"limit": 1, "queue": 0}) as upstream:
        answer, walk = await Fallback(SystemClock(), Told()).respond(
            filter_chain(upstream, "content-filter-finish", "ok"), chat(stream=stream)
        )
        assert (walk.attempts, walk.fell_back_because) == (2, "content_filter")
        assert TEXT.split()[0].encode() in b"".join(await taken(answer))
    assert [attempt.model for attempt in faults.ledger.attempts] == ["content-filter-finish", "ok"]


def filter_chain(upstream: OpenAiUpstream, *names: str) -> Chain:
    """Deployments on one upstream, where a filtered answer leads to the next."""
    deployments = [
        Deployment(name, name, 1, None, upstream, Breaker(name, BreakerConfig(), MemoryCircuits()), UpstreamStanding())
        for name in names
    ]
    config = RouteConfig(alias="r", chain=list(names), fallback_on=["error", "content_filter"])
    return Chain(config, [[deployment] for deployment in deployments])


async def test_twenty_stay_idle_by_default_and_a_hundred_run_at_once(
    faults: FaultUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_client, "SWEEP_S", 0.05)
    async with openai_upstream(faults.base_url) as upstream:
        request = chat(stream=True, x_delay_ms=2)
        calls = [asyncio.create_task(outcome_of(upstream, "slow-ok", request)) for _ in range(110)]
        await until(lambda: open_connections(faults) == 100)
        assert (upstream.bulkhead.in_use, upstream.bulkhead.waiting) == (100, 10)
        assert all(outcome.text == TEXT for outcome in await asyncio.gather(*calls))
        await until(lambda: open_connections(faults) == 20)


# --- When it is too long, or the client goes ---


@both_ways
async def test_a_request_has_no_more_time_than_it_is_given(faults: FaultUpstream, stream: bool) -> None:
    async with openai_upstream(faults.base_url) as upstream:
        began_s = time.monotonic()
        error = (await outcome_of(upstream, "stalled-after-40", chat(stream=stream), total_s=0.1)).error
        assert 0.1 <= time.monotonic() - began_s < 0.1 + LATE_S
        assert isinstance(error, TimedOut)
        assert (error.phase, error.limit_s) == ("total", 0.1)
        await until(lambda: open_connections(faults) == 0)


@pytest.mark.parametrize(
    ("model", "stream"),
    [
        ("never-answers", False),
        ("never-answers", True),
        ("headers-then-silence", False),
        ("headers-then-silence", True),
        ("role-then-silence", True),
        ("stalled-after-40", False),
    ],
)
async def test_cancelling_before_the_answer_closes_the_connection(
    faults: FaultUpstream, model: str, stream: bool
) -> None:
    async with openai_upstream(faults.base_url) as upstream:
        task = asyncio.create_task(upstream.respond(chat(stream=stream), model, total_s=60))
        await until(lambda: faults.ledger.attempts)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert upstream.bulkhead.in_use == 0
        await until(lambda: open_connections(faults) == 0)
    assert faults.ledger.attempts[0].outcome == "client gone"


async def test_closing_an_answer_that_nobody_read_closes_the_connection(faults: FaultUpstream) -> None:
    async with openai_upstream(faults.base_url) as upstream:
        answer = await upstream.respond(chat(stream=True), "endless-tokens", total_s=60)
        await answer.aclose()
        await answer.aclose()
        await until(lambda: open_connections(faults) == 0)


async def test_cancelling_who_reads_closes_the_connection(faults: FaultUpstream) -> None:
    async with openai_upstream(faults.base_url) as upstream:
        task = asyncio.create_task(outcome_of(upstream, "stalled-after-40", chat(stream=True)))
        await until(lambda: faults.ledger.attempts and faults.ledger.attempts[0].tokens == 40)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: open_connections(faults) == 0)


async def test_cancelling_who_drains_loses_no_place(faults: FaultUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_upstream, "_DRAIN_S", 60)
    async with openai_upstream(faults.base_url) as upstream:
        answer = await upstream.respond(chat(stream=True), "open-after-done", total_s=60)
        assert answer.batches is not None
        async for _ in answer.batches:
            pass
        closing = asyncio.create_task(answer.aclose())
        for _ in range(3):
            await asyncio.sleep(0)
        assert not closing.done()
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert upstream.bulkhead.in_use == 0
        await until(lambda: open_connections(faults) == 0)


async def test_cancelling_who_waits_for_a_place_takes_none(faults: FaultUpstream) -> None:
    async with openai_upstream(faults.base_url, connections={"limit": 1, "queue": 5}) as upstream:
        tasks = [asyncio.create_task(upstream.respond(chat(), "never-answers", total_s=60)) for _ in range(4)]
        await until(lambda: upstream.bulkhead.waiting == 3 and faults.ledger.attempts)
        for task in reversed(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert len(faults.ledger.attempts) == 1


async def test_closing_the_upstream_closes_its_connections(faults: FaultUpstream) -> None:
    async with openai_upstream(faults.base_url) as upstream:
        await asyncio.gather(*(outcome_of(upstream, "ok", chat()) for _ in range(5)))
    await until(lambda: open_connections(faults) == 0)
