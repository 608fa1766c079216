"""What is reserved, billed, recorded and given back, in every way a request can end."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from typing import Any

import orjson
import pytest
from responders import HELLO, HELLO_BODY, USAGE, chunk
from scripted_upstreams import (
    HANGS,
    QUEUES,
    Turn,
    broken,
    failed,
    refused,
    slow,
    taken,
    throttled,
    unreachable,
)
from ticket_rig import (
    BIG_NANO,
    BILLED,
    CALLER,
    CONFIG,
    NOTHING,
    SMALL_NANO,
    Rig,
    ask,
    served,
    settled_as,
)

from genkan.errors import RequestError, StreamInterrupted
from genkan.gateway.ledger_row import AttemptRow, Row
from genkan.upstream.base import NO_CALL, Answer, Call
from genkan.wire.caller import Caller
from genkan.wire.chat import GenerationRequest
from genkan.wire.usage import Usage

pytestmark = pytest.mark.anyio


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with Rig() as rig:
        yield rig


# --- While it runs ---


async def test_while_it_runs_the_most_it_can_take_is_reserved(rig: Rig) -> None:
    answer = await rig.to(served()).respond(ask(stream=True, max_tokens=10), CALLER)
    most_prompt = 2 + 16 + 64  # bytes, around a message, around all
    used = await rig.used()
    assert used.pop("tokens") == 14  # a guess: 4 of the prompt, and all of 10
    assert used == {
        "requests": 1,
        "leases": 1,
        "budget_tokens": most_prompt + 10,
        "nano_usd": most_prompt * 2000 + 10 * 8000,  # of the dearer of the two
    }
    assert await rig.rows() == []
    await answer.aclose()


async def test_a_budget_bounds_the_answer_of_who_sets_no_bound(rig: Rig) -> None:
    upstream = served()
    await rig.to(upstream).respond(ask(), CALLER)
    assert upstream.calls == [Call("req_1.1", "acme", 100)]


async def test_the_bound_is_no_more_than_each_model_can_give() -> None:
    models = [
        model.model_copy(update={"max_output_tokens": 9000} if model.name == "small" else {}) for model in CONFIG.models
    ]
    async with Rig(CONFIG.model_copy(update={"models": models})) as rig:
        first, second = served(refuse=unreachable("up-1")), served("up-2")
        await rig.to(first, second).respond(ask(), CALLER)
        assert [call.max_tokens for call in first.calls + second.calls] == [100, 9000]


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
async def test_a_bound_of_the_clients_own_stays(rig: Rig, field: str) -> None:
    upstream = served()
    bound: dict[str, Any] = {field: 7}
    await rig.to(upstream).respond(ask(**bound), CALLER)
    assert upstream.calls[0].max_tokens is None


async def test_without_a_budget_nothing_bounds_the_answer(rig: Rig) -> None:
    upstream = served()
    await rig.to(upstream).respond(ask(), replace(CALLER, tenant="other"))
    assert upstream.calls[0].max_tokens is None


# --- Answers ---


async def test_a_whole_answer_costs_what_its_upstream_counted(rig: Rig) -> None:
    answer = await rig.to(served()).respond(ask(), CALLER)
    assert dict(answer.headers)[b"x-genkan-cost-usd"] == b"0.000022000"
    assert answer.cost_nano_usd == BIG_NANO
    assert await rig.used() == settled_as(BILLED, BIG_NANO)
    row = await rig.row()
    assert row._replace(attempts=()) == Row(
        id="req_1", t_s=rig.clock.unix(), tenant="acme", key="key_1", route="nick", stream=False, state="ok",
        late=False, usage=BILLED, estimated=False, cost_nano_usd=BIG_NANO, saved_nano_usd=0, answered=1, attempts=(),
    )  # fmt: skip
    assert row.attempts == (AttemptRow(1, "big@up-1", "ok", BILLED, False, BIG_NANO, 0.0),)
    assert rig.told.bills == [("big@up-1", BILLED, BIG_NANO, 0)]


@pytest.mark.parametrize("asks_for_usage", [True, False])
async def test_a_stream_costs_the_same_to_the_last_digit(rig: Rig, asks_for_usage: bool) -> None:
    options = {"stream_options": {"include_usage": True}} if asks_for_usage else {}
    answer = await rig.to(served()).respond(ask(stream=True, **options), CALLER)
    assert b"x-genkan-cost-usd" not in dict(answer.headers)
    chunks = [orjson.loads(data) for data in await taken(answer)]
    costs = [usage["cost_usd"] for each in chunks if (usage := each.get("usage"))]
    assert costs == ([BIG_NANO / 1e9] if asks_for_usage else [])
    assert answer.cost_nano_usd == BIG_NANO
    assert await rig.used() == settled_as(BILLED, BIG_NANO)
    row = await rig.row()
    assert (row.stream, row.state, row.usage, row.cost_nano_usd, row.estimated) == (True, "ok", BILLED, BIG_NANO, False)


async def test_usage_in_every_chunk_says_what_it_cost_so_far(rig: Rig) -> None:
    def counted(text: str, completion: int) -> bytes:
        usage = {"prompt_tokens": 3, "completion_tokens": completion, "total_tokens": 3 + completion}
        return orjson.dumps({**orjson.loads(chunk(text)), "usage": usage})

    events = [counted("a", 1), counted('"usage"', 2), chunk(finish_reason="stop"), chunk(usage=USAGE)]
    answer = await rig.to(served("up-1", *events)).respond(
        ask(stream=True, stream_options={"include_usage": True}), CALLER
    )
    chunks = [orjson.loads(data) for data in await taken(answer)]
    costs = [each["usage"]["cost_usd"] for each in chunks if each.get("usage")]
    assert costs == [0.000014, 0.000022, 0.000022]
    assert chunks[1]["choices"][0]["delta"]["content"] == '"usage"'


async def test_what_a_cache_saved_is_told(rig: Rig) -> None:
    usage = {"prompt_tokens": 1000, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 800}}
    body = orjson.dumps({**orjson.loads(HELLO_BODY), "usage": usage})
    await rig.to(served(body=body)).respond(ask(), CALLER)
    row = await rig.row()
    assert row.usage == Usage(1000, 2, 800)
    assert (row.cost_nano_usd, row.saved_nano_usd) == (200 * 2000 + 800 * 500 + 2 * 8000, 800 * 1500)
    assert rig.told.bills[0][3] == 800 * 1500


async def test_an_unknown_price_is_null_and_not_nothing(rig: Rig) -> None:
    answer = await rig.to(served()).respond(ask(model="unpriced"), CALLER)
    assert b"x-genkan-cost-usd" not in dict(answer.headers)
    row = await rig.row()
    assert (row.usage, row.cost_nano_usd, row.attempts[0].cost_nano_usd) == (BILLED, None, None)
    assert rig.told.bills == [("unpriced@up-1", BILLED, None, 0)]
    assert await rig.used() == settled_as(BILLED, 0)


async def test_a_whole_answer_without_usage_is_counted_by_us(rig: Rig) -> None:
    body = orjson.dumps({key: value for key, value in orjson.loads(HELLO_BODY).items() if key != "usage"})
    answer = await rig.to(served(body=body)).respond(ask(), CALLER)
    counted = Usage(4, 1)  # "Hello", whatever JSON is around it
    row = await rig.row()
    assert (row.usage, row.estimated, row.attempts[0].estimated) == (counted, True, True)
    assert row.cost_nano_usd == answer.cost_nano_usd == counted.prompt * 2000 + counted.completion * 8000
    assert await rig.used() == settled_as(counted, row.cost_nano_usd or 0)


async def test_a_stream_without_usage_costs_a_token_for_each_piece(rig: Rig) -> None:
    answer = await rig.to(served("up-1", *HELLO[:3])).respond(ask(stream=True), CALLER)
    await taken(answer)
    row = await rig.row()
    assert (row.usage, row.estimated, row.state) == (Usage(4, 2), True, "ok")


async def test_a_large_piece_of_a_stream_is_more_than_one_token(rig: Rig) -> None:
    answer = await rig.to(served("up-1", chunk("word " * 40), chunk(finish_reason="stop"))).respond(
        ask(stream=True), CALLER
    )
    await taken(answer)
    assert (await rig.row()).usage == Usage(4, 50)


def with_text(text: str) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return orjson.dumps({"choices": [choice], "x": "y" * 4000})


@pytest.mark.parametrize(
    ("stream", "fields", "tokens"),
    [
        (False, {}, 100),  # what the budget allowed
        (True, {}, 100),
        (False, {"max_tokens": 7}, 7),
        (True, {"max_tokens": 7}, 7),
        (False, {"max_completion_tokens": 7, "n": 3}, 21),
    ],
)
async def test_no_estimate_is_more_than_was_allowed(
    rig: Rig, stream: bool, fields: dict[str, Any], tokens: int
) -> None:
    events = [*[chunk("a")] * 200, chunk("word " * 400), chunk(finish_reason="stop")]
    answer = await rig.to(served("up-1", *events, body=with_text("word " * 400))).respond(
        ask(stream=stream, **fields), CALLER
    )
    await taken(answer)
    assert (await rig.row()).usage == Usage(4, tokens)


async def test_without_a_bound_all_that_was_said_is_counted(rig: Rig) -> None:
    answer = await rig.to(served(body=with_text("word " * 400))).respond(ask(), replace(CALLER, tenant="other"))
    await taken(answer)
    assert (await rig.row()).usage == Usage(4, 500)


async def test_an_empty_usage_at_the_end_does_not_undo_the_count(rig: Rig) -> None:
    answer = await rig.to(served("up-1", *HELLO, chunk(usage={}))).respond(ask(stream=True), CALLER)
    await taken(answer)
    row = await rig.row()
    assert (row.usage, row.estimated) == (BILLED, False)


async def test_usage_that_cannot_be_written_again_goes_on_as_it_came(rig: Rig) -> None:
    deep = b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"x":' + b"[" * 400 + b"]" * 400 + b"}}"
    answer = await rig.to(served("up-1", *HELLO[:3], deep)).respond(
        ask(stream=True, stream_options={"include_usage": True}), CALLER
    )
    assert (await taken(answer))[-1] == deep
    row = await rig.row()
    assert (row.state, row.usage) == ("ok", BILLED)


# --- Streams that do not come to their end ---


async def test_a_bug_of_ours_within_a_stream_is_not_the_clients_leaving(rig: Rig) -> None:
    answer = await rig.to(Buggy("up-1")).respond(ask(stream=True), CALLER)
    with pytest.raises(ZeroDivisionError):
        await taken(answer)
    row = await rig.row()
    assert (row.state, row.attempts[0].state) == ("internal_error", "internal_error")


async def test_a_stream_that_is_cut_costs_what_was_delivered(rig: Rig) -> None:
    error = StreamInterrupted("cut", upstream="up-1")
    answer = await rig.to(served("up-1", *HELLO[:2], error)).respond(ask(stream=True), CALLER)
    with pytest.raises(StreamInterrupted):
        await taken(answer)
    billed = Usage(4, 2)
    assert await rig.used() == settled_as(billed, 4 * 2000 + 2 * 8000)
    row = await rig.row()
    assert (row.state, row.usage, row.estimated) == ("upstream_stream_interrupted", billed, True)
    assert row.cost_nano_usd == row.attempts[0].cost_nano_usd == 24_000


async def test_a_client_that_leaves_within_a_stream_pays_for_what_it_was_given(rig: Rig) -> None:
    answer = await rig.to(served()).respond(ask(stream=True), CALLER)
    assert answer.batches is not None
    await anext(answer.batches)
    await answer.aclose()
    billed = Usage(4, 1)
    assert await rig.used() == settled_as(billed, 4 * 2000 + 8000)
    row = await rig.row()
    assert (row.state, row.usage, row.estimated, row.answered) == ("client_gone", billed, True, 1)


async def test_a_client_that_leaves_after_the_usage_pays_exactly(rig: Rig) -> None:
    options = {"stream_options": {"include_usage": True}}
    answer = await rig.to(served("up-1", *HELLO, asyncio.Event())).respond(ask(stream=True, **options), CALLER)
    assert answer.batches is not None
    for _ in HELLO:
        await anext(answer.batches)
    await answer.aclose()
    row = await rig.row()
    assert (row.state, row.usage, row.estimated, row.cost_nano_usd) == ("client_gone", BILLED, False, BIG_NANO)


async def test_a_client_that_leaves_before_the_first_token_pays_the_prompt(rig: Rig) -> None:
    upstream = rig.scripted("up-1", HANGS)
    asking = asyncio.create_task(rig.to(upstream).respond(ask(stream=True), CALLER))
    await upstream.entered.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    prompt = Usage(4, 0)  # as it is guessed
    assert await rig.used() == settled_as(prompt, 4 * 2000)
    row = await rig.row()
    assert (row.state, row.usage, row.estimated) == ("client_gone", prompt, True)
    assert (row.cost_nano_usd, row.answered) == (4 * 2000, None)
    assert row.attempts == (AttemptRow(1, "big@up-1", "client_gone", None, False, None, 0.0),)


async def test_a_client_that_leaves_while_its_request_waits_to_be_sent_pays_nothing(rig: Rig) -> None:
    upstream = rig.scripted("up-1", QUEUES)
    asking = asyncio.create_task(rig.to(upstream).respond(ask(stream=True), CALLER))
    await upstream.entered.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert await rig.used() == NOTHING
    row = await rig.row()
    assert (row.state, row.usage, row.cost_nano_usd) == ("client_gone", None, 0)
    assert row.attempts == (AttemptRow(1, "big@up-1", "client_gone", None, False, 0, 0.0),)


async def test_an_answer_that_nobody_reads_is_settled_when_it_is_closed(rig: Rig) -> None:
    answer = await rig.to(served()).respond(ask(stream=True), CALLER)
    await answer.aclose()
    await answer.aclose()
    assert await rig.used() == settled_as(Usage(4, 0), 4 * 2000)
    assert (await rig.row()).state == "client_gone"


# --- Failures ---


@pytest.mark.parametrize(
    ("error", "state", "cost_nano_usd"),
    [
        (unreachable, "upstream_unreachable", 0),
        (failed(500), "upstream_error", 0),
        (throttled(1.0), "upstream_rate_limited", 0),
        (slow, "upstream_timeout", None),
        (broken, "upstream_invalid_response", None),
    ],
)
async def test_who_did_not_answer_is_not_the_clients_to_pay(
    rig: Rig, error: Any, state: str, cost_nano_usd: int | None
) -> None:
    answer = await rig.to(rig.scripted("up-1", error)).respond(ask(), CALLER)
    assert answer.fields["model"] == "small"
    assert await rig.used() == settled_as(BILLED, SMALL_NANO)
    row = await rig.row()
    assert (row.state, row.answered, row.cost_nano_usd) == ("ok", 2, SMALL_NANO)
    assert row.attempts == (
        AttemptRow(1, "big@up-1", state, None, False, cost_nano_usd, 0.0),
        AttemptRow(2, "small@up-2", "ok", BILLED, False, SMALL_NANO, 0.0),
    )


async def test_when_nobody_answers_nothing_is_billed(rig: Rig) -> None:
    pipeline = rig.to(rig.scripted("up-1", failed(500)), rig.scripted("up-2", unreachable))
    with pytest.raises(RequestError) as caught:
        await pipeline.respond(ask(), CALLER)
    assert await rig.used() == NOTHING
    row = await rig.row()
    assert (row.state, row.usage, row.cost_nano_usd, row.answered) == (caught.value.code, None, 0, None)
    assert [attempt.state for attempt in row.attempts] == ["upstream_error", "upstream_unreachable"]
    assert dict(caught.value.headers)[b"x-ratelimit-limit-requests"] == b"100"
    assert rig.told.bills == []


async def test_a_request_that_an_upstream_refuses_costs_nothing(rig: Rig) -> None:
    with pytest.raises(RequestError):
        await rig.to(rig.scripted("up-1", refused("their_own_word"))).respond(ask(), CALLER)
    assert await rig.used() == NOTHING
    row = await rig.row()
    assert (row.state, row.attempts[0].state, row.attempts[0].cost_nano_usd) == ("refused", "refused", 0)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_a_filter_emptied_is_billed_if_it_is_the_one_that_is_given(rig: Rig, stream: bool) -> None:
    answer = await rig.to(Filtered("up-1"), rig.scripted("up-2", failed(500))).respond(
        ask(stream=stream, stream_options={"include_usage": True} if stream else None), CALLER
    )
    payloads = await taken(answer)
    row = await rig.row()
    assert (row.state, row.answered, row.usage, row.cost_nano_usd) == ("ok", 1, BILLED, BIG_NANO)
    assert [attempt.state for attempt in row.attempts] == ["ok", "upstream_error"]
    assert answer.cost_nano_usd == BIG_NANO
    if stream:
        assert orjson.loads(payloads[-1])["usage"]["cost_usd"] == BIG_NANO / 1e9


async def test_an_answer_that_a_filter_emptied_is_ours_to_pay_if_another_is_given(rig: Rig) -> None:
    answer = await rig.to(Filtered("up-1")).respond(ask(), CALLER)
    await taken(answer)
    row = await rig.row()
    assert (row.answered, row.cost_nano_usd) == (2, SMALL_NANO)
    assert [(one.state, one.usage, one.cost_nano_usd) for one in row.attempts] == [
        ("ok", BILLED, BIG_NANO), ("ok", BILLED, SMALL_NANO),
    ]  # fmt: skip
    assert await rig.used() == settled_as(BILLED, SMALL_NANO)


async def test_a_bug_of_ours_settles_too(rig: Rig) -> None:
    with pytest.raises(ZeroDivisionError):
        await rig.to(served(refuse=ZeroDivisionError())).respond(ask(), CALLER)
    assert await rig.used() == NOTHING
    row = await rig.row()
    assert (row.state, row.attempts[0].state, row.usage, row.cost_nano_usd) == (
        "internal_error", "internal_error", None, 0,
    )  # fmt: skip


async def test_time_is_on_the_attempts_that_took_it(rig: Rig) -> None:
    pipeline = rig.to(rig.scripted("up-1", Turn(error=failed(500), takes_s=1.5)))
    await pipeline.respond(ask(), CALLER)
    row = await rig.row()
    assert [attempt.seconds for attempt in row.attempts] == [1.5, 0.0]
    assert row.t_s == pytest.approx(rig.clock.unix())


async def test_without_a_ledger_only_what_a_budget_applies_to_is_recorded() -> None:
    config = CONFIG.model_copy(update={"ledger": CONFIG.ledger.model_copy(update={"enabled": False})})
    async with Rig(config) as rig:
        await rig.to(served()).respond(ask(), CALLER)
        assert await rig.used() == settled_as(BILLED, BIG_NANO)
        assert len(await rig.rows()) == 1
        await rig.to(served()).respond(ask(), Caller("req_without_budget", tenant="nobody"))
        assert len(await rig.rows()) == 1


class Buggy:
    """An upstream whose code has a bug that shows within a stream."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def respond(self, request: GenerationRequest, model: str, *, total_s: float, call: Call = NO_CALL) -> Answer:
        return Answer(batches=self._batches())

    async def _batches(self) -> AsyncGenerator[list[bytes], None]:
        yield [chunk("a")]
        raise ZeroDivisionError


class Filtered:
    """An upstream whose content filter empties each answer, and which counts it all the same."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def respond(self, request: GenerationRequest, model: str, *, total_s: float, call: Call = NO_CALL) -> Answer:
        call.is_sent = True
        answer = Answer(batches=self._batches()) if request.stream else Answer(body=HELLO_BODY)
        answer.filtered, answer.usage = True, None if request.stream else USAGE
        self._answer = answer
        return answer

    async def _batches(self) -> AsyncGenerator[list[bytes], None]:
        yield [chunk(finish_reason="content_filter")]
        self._answer.usage = USAGE
        yield [chunk(usage=USAGE)]
