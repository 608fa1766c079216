"""Streams that are gone on with: what is billed, who leaves, what is stored, and what is left behind."""

import asyncio
import gc
from contextlib import suppress
from typing import Any

import caching_rig
import pytest
from resume_rig import CALLER, PROMPT_TOKENS, TEXT, TOKENS, ResumeRig, Teller, Tells, breaks, stalled
from scripted_upstreams import failed, throttled, unauthorized

from genkan.errors import StreamInterrupted, UpstreamError
from genkan.gateway.fallback import Walk
from genkan.upstream.base import Way
from genkan.wire.usage import Usage

pytestmark = pytest.mark.anyio

USAGE = {"stream_options": {"include_usage": True}}
WAYS: list[Way] = ["replay", "prefill", "prompt"]
OTHER = ("Once ", "upon ", *TOKENS[2:])


async def bill(*upstreams: Teller, options: dict[str, Any] | None = None, **how: Any) -> Any:
    async with ResumeRig(*upstreams, **how) as rig:
        await rig.taken(**(options or {}))
        return await rig.row()


@pytest.mark.parametrize("options", [{}, USAGE], ids=["unasked", "asked"])
@pytest.mark.parametrize("way", WAYS)
async def test_the_client_pays_one_answer_and_every_attempt_is_in_the_row(way: Way, options: dict[str, Any]) -> None:
    row = await bill(Teller("up-1", breaks()), Teller("up-2", way=way), options=options)
    assert (row.state, row.answered, row.estimated) == ("ok", 1, False)
    assert row.usage == Usage(PROMPT_TOKENS, len(TOKENS), cached=2)
    first, second = row.attempts
    assert (first.state, first.way, first.estimated) == ("upstream_stream_interrupted", None, True)
    assert (second.state, second.way, second.estimated) == ("ok", way, False)
    said = 0 if way == "replay" else 8
    assert second.usage == Usage(PROMPT_TOKENS + said, len(TOKENS) - said, cached=2)
    assert row.cost_nano_usd == 7 * 2000 + 12 * 8000
    assert second.cost_nano_usd == (PROMPT_TOKENS + said) * 2000 + (len(TOKENS) - said) * 8000


async def test_it_is_the_price_of_who_began_it() -> None:
    chain = {"big": ["up-1"], "small": ["up-2"]}
    upstreams = [Teller("up-1", breaks(), Tells()), Teller("up-2")]
    async with ResumeRig(*upstreams, models=chain, resume={"other_models": True}) as rig:
        taken = await rig.taken(**USAGE)
        row = await rig.row()
    assert row.cost_nano_usd == 7 * 2000 + 12 * 8000
    assert taken.usage["cost_usd"] == row.cost_nano_usd / 10**9
    assert row.attempts[1].cost_nano_usd == 7 * 200 + 12 * 800


async def test_the_engine_says_how_many_tokens_the_text_was() -> None:
    row = await bill(Teller("up-1", breaks()), Teller("up-2", Tells(says_continued=True), way="prompt"))
    assert row.usage == Usage(PROMPT_TOKENS - 5 + 5, 4 + 5, cached=2)


@pytest.mark.parametrize("way", WAYS)
async def test_what_nobody_counts_is_estimated_from_what_was_delivered(way: Way) -> None:
    row = await bill(Teller("up-1", breaks()), Teller("up-2", Tells(counts=False), way=way))
    whole = await bill(Teller("up-1", Tells(counts=False)))
    assert row.estimated
    assert row.usage == whole.usage


async def test_a_stream_that_did_not_ask_for_usage_gets_none() -> None:
    async with ResumeRig(Teller("up-1", breaks()), Teller("up-2")) as rig:
        taken = await rig.taken()
        assert taken.usage is None
        assert all(chunk["choices"] for chunk in taken.chunks)
        assert taken.answer is not None
        assert taken.answer.cost_nano_usd == 7 * 2000 + 12 * 8000


@pytest.mark.parametrize("way", WAYS)
async def test_a_client_that_leaves_while_others_go_on_pays_what_it_got(way: Way) -> None:
    second = Teller("up-2", breaks(3 if way != "replay" else 11, None), way=way)
    async with ResumeRig(Teller("up-1", breaks()), second) as rig:
        await leave_when_silent(rig, second)
        row = await rig.row()
    assert row.state == "client_gone"
    assert row.usage is not None
    assert row.usage.completion == max(11, 11 * 6 // 4)
    assert row.attempts[1].state == "client_gone"
    assert rig.seen.resumes == [("nick", way, "client_gone")]


async def leave_when_silent(rig: ResumeRig, upstream: Teller) -> None:
    """Ask, read until ``upstream`` says no more, and leave."""
    answer = await rig.ask()
    reading = asyncio.create_task(read(answer))
    await upstream.silent.wait()
    reading.cancel()
    await asyncio.wait([reading])
    await answer.aclose()
    assert rig.is_at_rest()


async def read(answer: Any) -> None:
    async for _ in answer.batches:
        pass


async def test_a_client_that_leaves_while_a_replay_is_swallowed_pays_what_it_got() -> None:
    second = Teller("up-2", breaks(4, None))
    async with ResumeRig(Teller("up-1", breaks()), second) as rig:
        await leave_when_silent(rig, second)
        row = await rig.row()
    assert row.usage is not None
    assert row.usage.completion == 8 * 6 // 4


async def test_a_client_that_leaves_between_two_pieces_closes_all() -> None:
    async with ResumeRig(Teller("up-1", breaks()), Teller("up-2", way="prefill")) as rig:
        answer = await rig.ask()
        assert answer.batches is not None
        for _ in range(11):
            await anext(answer.batches)
        await answer.aclose()
        assert rig.is_at_rest()
        assert (await rig.row()).state == "client_gone"


# those that failed are told


async def test_who_says_within_a_stream_that_it_has_had_enough_is_left_alone() -> None:
    first, second = Teller("up-1", breaks(how=throttled(7.0))), Teller("up-2", breaks(2, unauthorized), way="prefill")
    async with ResumeRig(first, second, Teller("up-3")) as rig:
        assert (await rig.taken()).is_one
        now_s = rig.clock.now_s
        assert rig.router.deployments[0].cooling.left_s(now_s) > 0
        assert rig.router.deployments[1].standing.parked_by(now_s) is not None


async def test_the_routes_deadline_holds_over_all() -> None:
    second = Teller("up-2")
    async with ResumeRig(Teller("up-1", breaks()), second, total_s=10.0) as rig:
        answer = await rig.ask()
        assert answer.batches is not None
        await anext(answer.batches)
        rig.clock.now_s += 10.0
        with pytest.raises(StreamInterrupted):
            await read(answer)
        await answer.aclose()
    assert not second.calls


async def test_a_whole_answer_is_not_affected() -> None:
    async with ResumeRig(Teller("up-1")) as rig:
        taken = await rig.taken()
        assert "resumed" not in taken.fields
        assert (await rig.row()).tenant == CALLER.tenant


# what is kept of it


async def cached_twice(*upstreams: Teller, **how: Any) -> tuple[list[str], list[str]]:
    """The texts of two requests that are the same, and why answers were not stored."""
    config = ResumeRig(*upstreams, **how).config
    async with caching_rig.Rig(config) as rig:
        pipeline = rig.cached(*upstreams)  # type: ignore[arg-type]  # they are found by their names, whatever they are
        texts = []
        for number in range(2):
            request = caching_rig.ask(model="nick", stream=True)
            texts.append(await caching_rig.text_of(await pipeline.respond(request, caching_rig.caller(number))))
        return texts, rig.looks.reasons


async def test_an_answer_in_parts_is_stored_as_one() -> None:
    upstreams = [Teller("up-1", breaks()), Teller("up-2", way="prefill")]
    texts, reasons = await cached_twice(*upstreams)
    assert (texts, reasons) == ([TEXT, TEXT], [])
    assert [len(one.calls) for one in upstreams] == [1, 1]


async def test_one_of_two_models_is_not() -> None:
    upstreams = [Teller("up-1", breaks()), Teller("up-2", way="prefill")]
    chain = {"big": ["up-1"], "other": ["up-2"]}
    texts, reasons = await cached_twice(*upstreams, models=chain, resume={"other_models": True})
    assert texts == [TEXT, TEXT]
    assert len(reasons) == 2
    assert [len(one.calls) for one in upstreams] == [2, 2]


def walks() -> int:
    return sum(type(one) is Walk for one in gc.get_objects())


@pytest.mark.parametrize(
    ("second", "way"),
    [
        pytest.param(Tells(), "replay", id="ok"),
        pytest.param(Tells(OTHER), "replay", id="other"),
        pytest.param(breaks(3), "replay", id="cut"),
        pytest.param(Tells(refuses=failed(500)), "replay", id="fails"),
        pytest.param(Tells(begins_anew=True), "prefill", id="anew"),
    ],
)
async def test_nothing_is_left_to_the_garbage_collector(second: Tells, way: Way) -> None:
    async with ResumeRig(Teller("up-1", breaks(how=stalled)), Teller("up-2", second, way=way)) as rig:
        gc.collect()
        gc.disable()
        gc.freeze()  # what other tests left is none of this one's
        try:
            answer = await rig.ask()
            assert walks() == 1
            with suppress(UpstreamError):
                await read(answer)
            await answer.aclose()
            del answer
            assert walks() == 0
        finally:
            gc.unfreeze()
            gc.enable()
