"""Stored and shared answers through the whole pipeline, and what their requests are billed."""

import asyncio
from collections.abc import AsyncGenerator, Callable

import orjson
import pytest
from accounts_at_hand import AccountsAtHand
from responders import USAGE, ScriptedResponder, chunk
from scripted_upstreams import ScriptedUpstream, ServedBy, Told, failed, router_to, taken
from ticket_rig import BIG_NANO, CONFIG

from genkan.cache.exact import ExactTier
from genkan.cache.observer import Unobserved
from genkan.cache.scope import Scopes
from genkan.cache.sealer import Sealer
from genkan.config import CacheConfig, Config
from genkan.errors import UpstreamRefused
from genkan.gateway.answering_identity import answering_identities
from genkan.gateway.caching import AnswerCache, NotStored
from genkan.gateway.fallback import Fallback
from genkan.gateway.flights import Flights
from genkan.gateway.ledger_row import Row
from genkan.gateway.pipeline import Pipeline
from genkan.store.memory_answers import MemoryAnswers
from genkan.upstream.base import Answer
from genkan.wire.caller import NOBODY, Caller
from genkan.wire.chat import ChatRequest, GenerationRequest
from genkan.wire.usage import Usage

pytestmark = pytest.mark.anyio
SECRET = b"s" * 32
CALLER = Caller("req_1", "acme", "key_1")


class Gated(ScriptedResponder):
    """Answers once it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()

    async def respond(self, request: GenerationRequest, caller: Caller = NOBODY) -> Answer:
        self.requests.append(request)
        await self.gate.wait()
        self.requests.pop()
        return await super().respond(request, caller)


class Looks(Unobserved):
    """A CacheObserver that remembers what requests were through with."""

    def __init__(self) -> None:
        self.results: list[str] = []
        self.reasons: list[str] = []

    def looked(self, route: str, result: str) -> None:
        self.results.append(result)

    def not_stored(self, route: str, reason: str) -> None:
        self.reasons.append(reason)


class Rig(AccountsAtHand):
    """A pipeline with answers in memory; ``asked`` counts what its upstreams were asked."""

    def __init__(self, config: Config = CONFIG) -> None:
        super().__init__(config)
        self.looks = Looks()
        exact = ExactTier(
            MemoryAnswers(self.clock, limit_bytes=1 << 20),
            Sealer(SECRET, encrypt=False),
            self.clock,
            self.looks,
            max_answer_bytes=1 << 16,
        )
        self.cache = AnswerCache(
            config.cache,
            answering_identities(config),
            Scopes(SECRET),
            exact,
            Flights(linger_s=0.0),
            self.clock,
            self.looks,
        )

    def cached(self, first: ServedBy | ScriptedUpstream, second: ServedBy | ScriptedUpstream | None = None) -> Pipeline:
        upstreams = [first, second or ServedBy(ScriptedResponder(), "up-2")]
        fallback = Fallback(self.clock, Told(), self.clock.sleep)
        return Pipeline(router_to(self.config, upstreams, self.meter), fallback, self.admissions, self.cache)


@pytest.fixture
async def rig() -> AsyncGenerator[Rig, None]:
    async with Rig() as rig:
        yield rig
        assert rig.cache.flights.count == 0
        await rig.cache.aclose()


def ask(text: str = "Hi", *, model: str = "big", **fields: object) -> ChatRequest:
    messages = [{"role": "user", "content": text}]
    return ChatRequest.from_object({"model": model, "messages": messages, "temperature": 0, **fields})


def caller(number: int) -> Caller:
    return Caller(f"req_{number}", "acme", "key_1")


async def text_of(answer: Answer) -> str:
    """All that it says; it is closed then."""
    try:
        if answer.body is not None:
            return str(orjson.loads(answer.body)["choices"][0]["message"]["content"])
        chunks = [orjson.loads(payload) for payload in await taken(answer)]
        return "".join(each["choices"][0]["delta"].get("content") or "" for each in chunks if each["choices"])
    finally:
        await answer.aclose()


def cache_of(answer: Answer) -> tuple[bytes, bytes | None]:
    headers = dict(answer.headers)
    return headers[b"x-genkan-cache"], headers.get(b"x-genkan-cache-tier")


async def rows(rig: Rig) -> dict[str, Row]:
    return {row.id: row for row in await rig.rows()}


@pytest.mark.parametrize("streams", [(False, True), (True, False), (True, True)])
async def test_a_stored_answer_is_free_and_says_what_it_saved(rig: Rig, streams: tuple[bool, bool]) -> None:
    responder = ScriptedResponder()
    pipeline = rig.cached(ServedBy(responder, "up-1"))
    first = await pipeline.respond(ask(stream=streams[0]), caller(1))
    assert cache_of(first) == (b"miss", None)
    said = await text_of(first)
    rig.clock.now_s += 7
    second = await pipeline.respond(ask(stream=streams[1]), caller(2))
    assert cache_of(second) == (b"hit-exact", b"exact")
    assert dict(second.headers)[b"age"] == b"7"
    assert dict(second.headers)[b"x-genkan-cost-usd"] == b"0.000000000"
    assert await text_of(second) == said != ""
    assert len(responder.requests) == 1
    found = await rows(rig)
    paid, free = found["req_1"], found["req_2"]
    assert (paid.cost_nano_usd, paid.tier) == (BIG_NANO, None)
    assert (free.cost_nano_usd, free.saved_nano_usd, free.tier) == (0, BIG_NANO, "exact")
    assert (free.attempts, free.deployment, free.state) == ((), "big@up-1", "ok")
    assert rig.told.spares == [("big@up-1", Usage(3, 2), BIG_NANO)]
    assert rig.looks.results == ["miss", "exact"]


async def test_requests_under_way_together_are_asked_once_and_one_of_them_pays(rig: Rig) -> None:
    responder = Gated()
    pipeline = rig.cached(ServedBy(responder, "up-1"))
    tasks = [asyncio.create_task(_said(pipeline, n, stream=bool(n % 2))) for n in range(5)]
    await _until(lambda: bool(responder.requests))
    responder.gate.set()
    texts = await asyncio.gather(*tasks)
    assert len(set(texts)) == len(responder.requests) == 1
    found = await rows(rig)
    assert (
        sorted((row.tier or "", row.cost_nano_usd) for row in found.values()) == [("", BIG_NANO)] + [("shared", 0)] * 4
    )
    assert {row.saved_nano_usd for row in found.values() if row.tier} == {BIG_NANO}


async def test_who_asked_first_may_leave(rig: Rig) -> None:
    responder = Gated()
    pipeline = rig.cached(ServedBy(responder, "up-1"))
    first = asyncio.create_task(_said(pipeline, 1, stream=True))
    await _until(lambda: bool(responder.requests))
    second = asyncio.create_task(_said(pipeline, 2, stream=True))
    await _until(lambda: rig.cache.flights.count == 1 and not second.done())
    first.cancel()
    await asyncio.wait([first])
    responder.gate.set()
    assert await second != ""
    assert len(responder.requests) == 1
    found = await rows(rig)
    assert set(found) == {"req_1", "req_2"}
    assert (found["req_1"].state, found["req_1"].cost_nano_usd) == ("ok", BIG_NANO)
    assert found["req_2"].tier == "shared"


async def test_when_all_leave_so_does_the_request(rig: Rig) -> None:
    responder = Gated()
    pipeline = rig.cached(ServedBy(responder, "up-1"))
    tasks = [asyncio.create_task(_said(pipeline, n, stream=False)) for n in (1, 2)]
    await _until(lambda: bool(responder.requests))
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert rig.cache.flights.count == 0
    found = await rows(rig)
    assert {row.state for row in found.values()} == {"client_gone"}


async def test_an_error_that_would_meet_all_is_told_to_all(rig: Rig) -> None:
    error = UpstreamRefused(
        "bad", upstream="up-1", status=400, kind="invalid_request_error", code=None, param=None, retry_after_s=None
    )
    upstream = ScriptedUpstream("up-1", rig.clock, lambda _: error)
    pipeline = rig.cached(upstream)
    outcomes = await asyncio.gather(*(_said(pipeline, n, stream=False) for n in range(4)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [UpstreamRefused] * 4
    assert len(upstream.asked) == 1
    assert {row.state for row in (await rows(rig)).values()} == {"refused"}


async def test_only_a_stored_answer_or_none(rig: Rig) -> None:
    responder = ScriptedResponder()
    pipeline = rig.cached(ServedBy(responder, "up-1"))
    with pytest.raises(NotStored):
        await pipeline.respond(ask(genkan={"cache": "only"}), caller(1))
    await text_of(await pipeline.respond(ask(), caller(2)))
    answer = await pipeline.respond(ask(genkan={"cache": "only"}), caller(3))
    assert cache_of(answer) == (b"hit-exact", b"exact")
    await answer.aclose()
    assert len(responder.requests) == 1
    found = await rows(rig)
    assert (found["req_1"].state, found["req_1"].cost_nano_usd) == ("cache_miss", 0)


async def test_a_purge_reaches_what_is_under_way(rig: Rig) -> None:
    responder = Gated()
    pipeline = rig.cached(ServedBy(responder, "up-1"))
    task = asyncio.create_task(_said(pipeline, 1, stream=False))
    await _until(lambda: bool(responder.requests))
    await rig.cache.exact.purge(tenant="acme")
    responder.gate.set()
    await task
    assert cache_of(await pipeline.respond(ask(), caller(2)))[0] == b"miss"


async def test_what_another_than_the_first_model_said_is_not_stored(rig: Rig) -> None:
    pipeline = rig.cached(ScriptedUpstream("up-1", rig.clock, failed(503)), ServedBy(ScriptedResponder(), "up-2"))
    answer = await pipeline.respond(ask(model="nick"), caller(1))
    assert dict(answer.headers)[b"x-genkan-model"] == b"small"
    await answer.aclose()
    assert rig.looks.reasons == ["fallback"]


@pytest.mark.parametrize("reason", ["length", "content_filter"])
async def test_what_did_not_end_by_itself_is_not_stored(rig: Rig, reason: str) -> None:
    responder = ScriptedResponder([chunk("half"), chunk("", finish_reason=reason)])
    pipeline = rig.cached(ServedBy(responder, "up-1"))
    for number in (1, 2):
        answer = await pipeline.respond(ask(stream=True), caller(number))
        assert cache_of(answer)[0] == b"miss"
        await text_of(answer)
    assert len(rig.looks.reasons) == 2


async def test_time_to_live_is_the_requests_own_within_what_is_allowed(rig: Rig) -> None:
    pipeline = rig.cached(ServedBy(ScriptedResponder(), "up-1"))
    for text, ttl_s, lives_s in (("a", 10, 10), ("b", None, 3600), ("c", 30 * 86_400, CacheConfig().max_ttl_s)):
        extras = None if ttl_s is None else {"cache_ttl_s": ttl_s}
        await text_of(await pipeline.respond(ask(text, genkan=extras), caller(1)))
        began_s = rig.clock.now_s
        for waited_s, expected in ((lives_s - 1, b"hit-exact"), (lives_s + 1, b"miss")):
            rig.clock.now_s = began_s + waited_s
            answer = await pipeline.respond(ask(text, genkan={"cache": "no-store"}), caller(2))
            assert (text, cache_of(answer)[0]) == (text, expected)
            await answer.aclose()


async def test_usage_of_a_hit_says_that_it_was_cached(rig: Rig) -> None:
    pipeline = rig.cached(ServedBy(ScriptedResponder(), "up-1"))
    await text_of(await pipeline.respond(ask(), caller(1)))
    answer = await pipeline.respond(ask(), caller(2))
    assert answer.usage is not None
    assert answer.body is not None
    assert orjson.loads(answer.body)["usage"] == answer.usage
    assert answer.usage["cached"] is True
    assert answer.usage["total_tokens"] == USAGE["total_tokens"]
    await answer.aclose()


async def _said(pipeline: Pipeline, number: int, *, stream: bool) -> str:
    return await text_of(await pipeline.respond(ask(stream=stream), caller(number)))


async def _until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it did not come about")
