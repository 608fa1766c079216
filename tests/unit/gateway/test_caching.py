"""Stored and shared answers through the whole pipeline, and what their requests are billed."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from decimal import Decimal
from typing import Any

import orjson
import pytest
from caching_rig import Rig, ask, caller, text_of
from responders import USAGE, ScriptedResponder, chunk
from scripted_upstreams import ScriptedUpstream, ServedBy, failed
from ticket_rig import BIG_NANO, CONFIG

from genkan.config import BudgetConfig, CacheConfig, Config
from genkan.errors import StreamInterrupted, UpstreamRefused
from genkan.gateway.api_key import ApiKey
from genkan.gateway.caching import NotStored
from genkan.gateway.ledger_row import Row
from genkan.gateway.pipeline import Pipeline
from genkan.upstream.base import Answer
from genkan.wire.caller import NOBODY, Caller
from genkan.wire.chat import GenerationRequest
from genkan.wire.usage import Usage

pytestmark = pytest.mark.anyio


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


@pytest.fixture
async def rig() -> AsyncGenerator[Rig, None]:
    async with Rig() as rig:
        yield rig
        assert rig.cache.flights.count == 0
        await rig.cache.aclose()


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


async def test_who_shares_an_answer_whose_usage_nobody_counted_has_it_all_the_same(rig: Rig) -> None:
    go = asyncio.Event()
    responder = ScriptedResponder([chunk("Hel"), go, chunk("lo"), chunk(finish_reason="stop")])
    tasks = await _streaming(rig, rig.cached(ServedBy(responder, "up-1")), 2)
    go.set()
    assert await asyncio.gather(*tasks) == ["Hello", "Hello"]
    found = await rows(rig)
    assert (found["req_1"].state, found["req_1"].estimated) == ("ok", True)
    shared = found["req_2"]
    assert (shared.state, shared.tier, shared.usage, shared.saved_nano_usd) == ("ok", "shared", None, 0)
    assert rig.told.spares == []


async def test_who_leaves_a_shared_stream_is_gone(rig: Rig) -> None:
    go = asyncio.Event()
    responder = ScriptedResponder([chunk("Hel"), go, chunk("lo"), chunk(finish_reason="stop"), chunk(usage=USAGE)])
    first, second = await _streaming(rig, rig.cached(ServedBy(responder, "up-1")), 2)
    second.cancel()
    await asyncio.wait([second])
    go.set()
    assert await first == "Hello"
    found = await rows(rig)
    assert {name: (row.state, row.tier, row.cost_nano_usd) for name, row in found.items()} == {
        "req_1": ("ok", None, BIG_NANO),
        "req_2": ("client_gone", "shared", 0),
    }


async def test_a_shared_stream_that_breaks_off_is_an_error_of_each(rig: Rig) -> None:
    go = asyncio.Event()
    error = StreamInterrupted("It broke off.", upstream="up-1")
    responder = ScriptedResponder([chunk("Hel"), go, error])
    tasks = await _streaming(rig, rig.cached(ServedBy(responder, "up-1")), 3)
    go.set()
    for task in tasks:
        with pytest.raises(StreamInterrupted):
            await task
    found = await rows(rig)
    assert {row.state for row in found.values()} == {error.outcome}
    assert sorted(row.tier or "" for row in found.values()) == ["", "shared", "shared"]


async def test_what_a_budget_bounds_is_not_shared_with_whom_none_does(rig: Rig) -> None:
    """It may be cut off where the other's would go on."""
    budget = BudgetConfig(per="total", usd=Decimal(1))
    rig.keys["key_1"] = ApiKey(id="key_1", hint="", tenant="globex", created_s=0.0, budgets=(budget,))
    responder = Gated()
    upstream = ServedBy(responder, "up-1")
    pipeline = rig.cached(upstream)
    callers = [Caller(f"req_{n}", "globex", key) for n, key in enumerate(["key_1", "key_1", "key_2", "key_2"])]
    tasks = [asyncio.create_task(_text(pipeline, one)) for one in callers]
    await _until(lambda: len(responder.requests) == 2)
    responder.gate.set()
    await asyncio.gather(*tasks)
    assert [call.max_tokens for call in upstream.calls] == [100, None]


async def test_a_hit_takes_a_request_and_nothing_else(rig: Rig) -> None:
    pipeline = rig.cached(ServedBy(ScriptedResponder(), "up-1"))
    await text_of(await pipeline.respond(ask(), caller(1)))
    once = await used(rig)
    for number in range(2, 5):
        answer = await pipeline.respond(ask(stream=True), caller(number))
        assert cache_of(answer)[0] == b"hit-exact"
        await answer.aclose()
    assert await used(rig) == {**once, "REQUESTS": 4, "leases": 0}


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


async def test_in_shadow_mode_is_counted_what_would_be_given() -> None:
    config = CONFIG.model_dump(exclude_unset=True)
    config["routes"] = [{"alias": "tried", "chain": ["big"], "cache": {"semantic": "shadow"}}]
    config["embedder"] = {}
    async with Rig(Config.model_validate(config)) as rig:
        responder = ScriptedResponder()
        pipeline = rig.cached(ServedBy(responder, "up-1"))
        options: list[dict[str, Any]] = [
            {"temperature": 1},
            {"temperature": 1},
            {"temperature": 1, "genkan": {"cache": "no-cache"}},
            {"temperature": 0},
            {"temperature": 0},
        ]
        for number, fields in enumerate(options):
            await text_of(await pipeline.respond(ask(model="tried", **fields), caller(number)))
        assert rig.looks.results == ["bypass", "shadow", "bypass", "miss", "exact"]
        assert len(responder.requests) == 4
        await rig.cache.aclose()


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


async def _streaming(rig: Rig, pipeline: Pipeline, n: int) -> "list[asyncio.Task[str]]":
    """``n`` requests that have got something of the same stream; the first is the one that is asked for."""
    begun: list[Answer] = []

    async def said(number: int) -> str:
        begun.append(answer := await pipeline.respond(ask(stream=True), caller(number)))
        return await text_of(answer)

    tasks: list[asyncio.Task[str]] = []
    for number in range(1, n + 1):
        tasks.append(asyncio.create_task(said(number)))
        await _until(lambda: len(begun) == len(tasks))
    assert rig.cache.flights.count == 1
    return tasks


async def _text(pipeline: Pipeline, by: Caller) -> str:
    return await text_of(await pipeline.respond(ask(), by))


async def used(rig: Rig) -> dict[str, int]:
    """What was taken of each limit and budget of the tenant's; of leases, what is held."""
    await rig.settled()
    plan = rig.policies.of(caller(0), "big", rig.clock.unix()).plan
    states = await rig.accounts.read(plan)
    return {
        "leases" if line.kind == "lease" else line.unit.name: line.limit - state.remaining
        for line, state in zip(plan, states, strict=True)
    }


async def _until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it did not come about")
