"""Copies that nobody waits for."""

from contextlib import aclosing

import pytest
from canary_rigs import CanaryRig, ask
from responders import ScriptedResponder
from scripted_upstreams import HANGS, ServedBy, Turn, failed, refused, taken

from genkan.errors import RequestError
from genkan.gateway.canary.shadow import SHADOW_TENANT
from genkan.wire.caller import Caller

pytestmark = pytest.mark.anyio
CLIENT = Caller("req_1", "acme", "key_1")


def shadowing(**trial: object) -> CanaryRig:
    return CanaryRig(is_shadow=True, **trial)


async def test_the_control_answers_and_the_canary_is_asked_and_measured_behind() -> None:
    async with (rig := shadowing()):
        old, new = rig.scripted("up-1", Turn(takes_s=1.0)), rig.scripted("up-2", Turn(takes_s=3.0))
        answer = await rig.to(old, new).respond(ask(), CLIENT)
        assert (answer.body, dict(answer.headers)[b"x-genkan-arm"]) == (b"up-1", b"control")
        assert new.asked == []  # not before the client has its answer
        await rig.trial.copied()
        assert [model for model, _ in new.asked] == ["new"]
        assert [(row.tenant, row.arm) for row in await rig.rows()] == [("acme", "control"), (SHADOW_TENANT, "canary")]
    assert [(one.ok, one.seconds) for one in rig.trial.control.samples] == [(True, 1.0)]
    assert [(one.ok, one.seconds) for one in rig.trial.canary.samples] == [(True, 3.0)]
    assert rig.trial.unpaired.samples == []


async def test_a_stream_is_copied_as_one_and_read_to_its_end() -> None:
    async with (rig := shadowing()):
        new = rig.scripted("up-2")
        answer = await rig.to(rig.scripted("up-1"), new).respond(ask(stream=True), CLIENT)
        assert await taken(answer) == [b"up-1", b"end"]
        await rig.trial.copied()
    (sample,) = rig.trial.canary.samples
    assert (sample.ok, sample.is_stream, sample.ttft_s) == (True, True, 0.0)
    assert new.open == 0


async def test_a_copy_is_the_same_request_but_for_what_is_stored() -> None:
    async with (rig := shadowing()):
        new = ServedBy(responder := ScriptedResponder(), "up-2")
        request = ask(temperature=0.7, user="ann", genkan={"cache": "no-cache", "tags": ["a"]})
        await rig.to(rig.scripted("up-1"), new).respond(request, CLIENT)
        await rig.trial.copied()
    (copied,) = responder.requests
    assert copied.raw == request.raw
    assert (copied.sampling, copied.stream) == (request.sampling, request.stream)
    assert (copied.extras.cache, copied.extras.tags) == ("no-store", ("a",))


async def test_only_those_that_are_drawn_are_copied_and_only_pairs_are_compared() -> None:
    async with (rig := shadowing(share=0.5)):
        new = rig.scripted("up-2")
        pipeline = rig.to(rig.scripted("up-1"), new)
        for point in (0.9, 0.1, 0.5, 0.7):
            rig.trial.point = point
            answer = await pipeline.respond(ask(), CLIENT)
            assert answer.body == b"up-1"
        await rig.trial.copied()
    assert (len(new.asked), len(rig.trial.control.samples), len(rig.trial.unpaired.samples)) == (1, 1, 3)


@pytest.mark.parametrize(("share", "state"), [(0.0, "rolled_back"), (1.0, "promoted")])
async def test_once_it_is_decided_nothing_is_copied_and_the_control_goes_on(share: float, state: str) -> None:
    async with (rig := shadowing(share=share, state=state)):
        new = rig.scripted("up-2")
        answer = await rig.to(rig.scripted("up-1"), new).respond(ask(), CLIENT)
        await rig.trial.copied()
    assert (answer.body, new.asked) == (b"up-1", [])


async def test_a_copy_that_fails_is_the_canarys_failure_and_nobody_elses() -> None:
    async with (rig := shadowing()):
        answer = await rig.to(rig.scripted("up-1"), rig.scripted("up-2", failed())).respond(ask(), CLIENT)
        assert answer.body == b"up-1"
        await rig.trial.copied()
    assert [one.ok for one in rig.trial.canary.samples] == [False]
    assert [one.ok for one in rig.trial.control.samples] == [True]


async def test_what_the_control_refuses_is_asked_again_as_a_canary_might_take_it() -> None:
    async with (rig := shadowing()):
        new = rig.scripted("up-2")
        pipeline = rig.to(rig.scripted("up-1", refused()), new)
        with pytest.raises(RequestError):
            await pipeline.respond(ask(), CLIENT)
        await rig.trial.copied()
    assert len(new.asked) == 1
    assert [one.ok for one in rig.trial.canary.samples] == [True]
    assert [one.ok for one in rig.trial.control.samples] == [False]


async def test_who_leaves_has_no_copy() -> None:
    async with (rig := shadowing()):
        new = rig.scripted("up-2")
        answer = await rig.to(rig.scripted("up-1"), new).respond(ask(stream=True), CLIENT)
        assert answer.batches is not None
        async with aclosing(answer.batches) as batches:
            await anext(batches)
        await answer.aclose()
        await rig.trial.copied()
    assert (new.asked, rig.trial.control.samples) == ([], [])


async def test_beyond_the_most_at_once_neither_side_is_measured() -> None:
    async with (rig := shadowing(most=1)):
        new = rig.scripted("up-2", HANGS)
        pipeline = rig.to(rig.scripted("up-1"), new)
        for _ in range(3):
            await pipeline.respond(ask(), CLIENT)
        await new.entered.wait()
        assert (rig.trial.under_way, rig.trial.dropped) == (1, 2)
        assert (len(rig.trial.control.samples), len(rig.trial.unpaired.samples)) == (1, 2)

        await rig.trial.shadows.aclose()
        assert rig.trial.under_way == 0
        await pipeline.respond(ask(), CLIENT)
    assert (len(new.asked), rig.trial.canary.samples, rig.trial.dropped) == (1, [], 2)
