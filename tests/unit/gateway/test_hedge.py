"""Two attempts at one stream, in virtual time: who answers, and what everybody is told of it."""

import asyncio
import math
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest
from hedge_rig import STALLS, USUAL_S, HedgeRig, Reply
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_upstreams import broken, failed, refused, slow, taken
from virtual_time import run_virtually

from genkan.config import HedgeConfig
from genkan.errors import RequestError, UpstreamError, UpstreamFailed, UpstreamRefused

FAST = Reply(after_s=0.02)
#: The quantile of what is known: the end of the bucket in which `USUAL_S` lies.
AFTER_S = 0.001 * 2 ** (math.ceil(8 * math.log2(1000 * USUAL_S)) / 8)
FILTER_TOO: dict[str, Any] = {"fallback_on": ["error", "context_too_long", "content_filter"]}


def virtual(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test in virtual time; no timer and no task may be left."""

    def run(*args: Any) -> None:
        run_virtually(test(*args))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def at_rest_with(rig: HedgeRig, *outcomes: tuple[str, str]) -> None:
    rig.assert_at_rest()
    assert rig.outcomes == list(outcomes)


# When there is a second attempt


@virtual
async def test_a_second_attempt_answers_for_one_that_stalls() -> None:
    rig = HedgeRig()
    rig.add("a@1", STALLS)
    rig.add("a@2", FAST)
    answered_by, walk, seconds = await rig.answered()
    assert (answered_by, walk.attempts, walk.hedged, walk.fell_back_because) == ("2", 2, "won", None)
    assert walk.answered_by is rig.deployments["a@2"]
    assert walk.answering == 2
    assert USUAL_S <= seconds - 0.02 <= 1.1 * USUAL_S
    at_rest_with(rig, ("a@1", "hedged"), ("a@2", "ok"))
    assert rig.told.hedges == [("r", "won")]
    assert (rig.told.fallbacks, rig.told.retries) == ([], [])
    assert [name for name, _ in rig.told.first_tokens] == ["a@2"]
    assert rig.circuits.load("a@1").attempts == 0.0


@virtual
async def test_the_first_that_is_there_after_all_answers_and_the_second_is_cancelled() -> None:
    rig = HedgeRig()
    rig.add("a@1", Reply(after_s=0.3))
    rig.add("a@2", STALLS)
    answered_by, walk, seconds = await rig.answered()
    assert (answered_by, walk.attempts, walk.hedged, walk.answering) == ("1", 2, "lost", 1)
    assert seconds == pytest.approx(0.3)
    at_rest_with(rig, ("a@2", "hedged"), ("a@1", "ok"))
    assert rig.told.hedges == [("r", "lost")]


@virtual
async def test_one_that_is_quick_is_asked_once() -> None:
    rig = HedgeRig()
    rig.add("a@1", FAST)
    rig.add("a@2")
    answered_by, walk, _ = await rig.answered()
    assert (answered_by, walk.attempts, walk.hedged) == ("1", 1, None)
    assert rig.told.hedges == []
    assert rig.deployments["a@1"].first_tokens.count(rig.clock.monotonic()) == 51
    at_rest_with(rig, ("a@1", "ok"))


@virtual
async def test_a_deployment_of_which_little_is_known_is_asked_once_and_gets_known() -> None:
    rig = HedgeRig()
    rig.add("a@1", Reply(after_s=60.0), known=8)
    rig.add("a@2")
    for _ in range(2):
        assert (await rig.answered())[0] == "1"
    assert (await rig.answered())[0] == "1"  # the quantile is sixty seconds by now
    assert rig.asked == {"a@1": 3, "a@2": 0}


@virtual
async def test_answers_that_are_no_streams_are_asked_for_once() -> None:
    rig = HedgeRig()
    rig.add("a@1", Reply(after_s=60.0))
    rig.add("a@2")
    answer, _ = await rig.ask(stream=False)
    await answer.aclose()
    assert rig.asked == {"a@1": 1, "a@2": 0}
    assert rig.deployments["a@1"].first_tokens.count(rig.clock.monotonic()) == 50


@virtual
async def test_without_the_setting_nobody_counts_and_nothing_is_set() -> None:
    rig = HedgeRig()
    rig.add("a@1", Reply(after_s=60.0))
    rig.chain.hedging = None
    task = asyncio.create_task(rig.answered())
    await asyncio.sleep(1.0)
    assert len(asyncio.all_tasks()) == 2
    await task
    assert rig.deployments["a@1"].first_tokens.count(rig.clock.monotonic()) == 50


# Who is asked


@virtual
async def test_where_nobody_else_serves_the_model_the_same_is_asked_again() -> None:
    rig = HedgeRig()
    rig.add("a@1", STALLS, FAST)
    rig.add("b@2")
    answered_by, walk, _ = await rig.answered()
    assert (answered_by, walk.hedged, rig.asked) == ("1", "won", {"a@1": 2, "b@2": 0})
    at_rest_with(rig, ("a@1", "hedged"), ("a@1", "ok"))


@virtual
async def test_what_still_waits_to_be_sent_is_not_sent_there_twice() -> None:
    rig = HedgeRig()
    rig.add("a@1", Reply(after_s=5.0, queues=True))
    assert (await rig.answered())[1].attempts == 1
    assert rig.told.hedges == []


@virtual
async def test_one_process_is_not_asked_to_run_beside_itself() -> None:
    rig = HedgeRig()
    rig.add("a@1", Reply(after_s=5.0))
    rig.deployments["a@1"].is_one_process = True
    answered_by, walk, _ = await rig.answered()
    assert (answered_by, walk.attempts, rig.told.hedges) == ("1", 1, [])
    rig = HedgeRig()
    rig.add("a@1", STALLS)
    rig.add("a@2", FAST)
    rig.deployments["a@1"].is_one_process = True
    assert (await rig.answered())[0] == "2"


@pytest.mark.parametrize("reason", ["cooling", "ill", "open", "half open"])
def test_one_that_is_not_well_is_passed_over(reason: str) -> None:
    @virtual
    async def run() -> None:
        rig = HedgeRig()
        rig.add("a@1", STALLS, FAST)
        rig.add("a@2")
        other = rig.deployments["a@2"]
        if reason == "cooling":
            other.cooling.until(rig.clock.monotonic(), 60.0)
        elif reason == "ill":
            other.standing.probed(well=False)
        else:
            rig.open_breaker("a@2")
        if reason == "half open":
            await asyncio.sleep(60.0)
            assert other.breaker.state(rig.clock.monotonic()) == "half_open"
        assert (await rig.answered())[0] == "1"
        assert rig.asked == {"a@1": 2, "a@2": 0}
        assert rig.circuits.load("a@2").probes == 0

    run()


@virtual
async def test_a_probe_is_not_hedged() -> None:
    rig = HedgeRig()
    rig.add("a@1", Reply(after_s=5.0))
    rig.add("a@2")
    rig.open_breaker("a@1")
    await asyncio.sleep(60.0)
    answered_by, walk, _ = await rig.answered()
    assert (answered_by, walk.attempts) == ("1", 1)


# Failures


@virtual
async def test_the_first_fails_and_the_second_answers() -> None:
    rig = HedgeRig()
    rig.add("a@1", Reply(after_s=0.2, error=failed()))
    rig.add("a@2", Reply(after_s=0.5))
    rig.add("b@3")
    answered_by, walk, _ = await rig.answered()
    assert (answered_by, walk.hedged, walk.fell_back_because) == ("2", "won", "upstream_error")
    assert rig.asked == {"a@1": 1, "a@2": 1, "b@3": 0}
    at_rest_with(rig, ("a@1", "upstream_error"), ("a@2", "ok"))
    assert rig.circuits.load("a@1").consecutive == 1


@pytest.mark.parametrize("error", [failed(), refused(), slow])
def test_the_second_fails_and_the_first_answers(error: Callable[[str], UpstreamError]) -> None:
    @virtual
    async def run() -> None:
        rig = HedgeRig()
        rig.add("a@1", Reply(after_s=0.5))
        rig.add("a@2", Reply(after_s=0.1, error=error))
        answered_by, walk, seconds = await rig.answered()
        assert (answered_by, walk.hedged, walk.attempts, walk.fell_back_because) == ("1", "lost", 2, None)
        assert seconds == pytest.approx(0.5)
        rig.assert_at_rest()

    run()


@virtual
async def test_both_fail_and_the_walk_goes_on_to_who_was_not_asked() -> None:
    rig = HedgeRig()
    rig.add("a@1", Reply(after_s=0.3, error=failed()))
    rig.add("a@2", Reply(after_s=0.1, error=failed()))
    rig.add("b@3", FAST)
    answered_by, walk, _ = await rig.answered()
    assert (answered_by, walk.attempts) == ("3", 3)
    assert rig.asked == {"a@1": 1, "a@2": 1, "b@3": 1}
    rig.assert_at_rest()


@virtual
async def test_one_that_was_passed_over_and_failed_as_a_second_is_not_asked_again_at_once() -> None:
    rig = HedgeRig()
    rig.add("a@1", Reply(error=failed()))
    rig.add("a@2", Reply(after_s=0.3, error=failed()))
    rig.deployments["a@1"].cooling.until(rig.clock.monotonic(), 0.05)
    with pytest.raises(UpstreamFailed):
        await rig.ask()
    assert rig.asked == {"a@1": 1, "a@2": 1}
    rig.assert_at_rest()


@virtual
async def test_both_fail_and_nobody_is_left() -> None:
    rig = HedgeRig()
    rig.add("a@1", Reply(after_s=0.15, error=failed()))
    rig.add("a@2", Reply(after_s=0.3, error=broken))
    with pytest.raises(UpstreamFailed) as caught:
        await rig.ask()
    assert caught.value.attempts == 2
    rig.assert_at_rest()
    assert rig.told.hedges == [("r", "lost")]


@virtual
async def test_a_fault_of_the_request_that_the_first_finds_ends_both() -> None:
    rig = HedgeRig()
    rig.add("a@1", Reply(after_s=0.3, error=refused()))
    rig.add("a@2", STALLS)
    with pytest.raises(UpstreamRefused):
        await rig.ask()
    at_rest_with(rig, ("a@1", "refused"), ("a@2", "hedged"))


@virtual
async def test_a_fault_of_the_request_that_the_second_finds_last_goes_to_the_client() -> None:
    rig = HedgeRig(fallback_on=["error"])
    rig.add("a@1", Reply(after_s=0.3, error=refused("context_length_exceeded")))
    rig.add("a@2", Reply(after_s=0.1, error=refused()))
    with pytest.raises(UpstreamRefused):
        await rig.ask()
    at_rest_with(rig, ("a@2", "refused"), ("a@1", "context_length_exceeded"))


@virtual
async def test_a_second_answer_that_is_filtered_is_kept_for_want_of_a_better_one() -> None:
    rig = HedgeRig(**FILTER_TOO)
    rig.add("a@1", STALLS)
    rig.add("a@2", Reply(after_s=0.1, filtered=True))
    rig.add("b@3", FAST)
    answered_by, walk, _ = await rig.answered()
    assert (answered_by, rig.asked) == ("3", {"a@1": 1, "a@2": 1, "b@3": 1})
    assert rig.outcomes[0] == ("a@1", "hedged")
    rig.assert_at_rest()
    assert walk.fell_back_because == "content_filter"


@virtual
async def test_a_first_answer_that_is_filtered_leads_to_who_was_cancelled_for_it() -> None:
    rig = HedgeRig(**FILTER_TOO)
    rig.add("a@1", Reply(after_s=0.3, filtered=True))
    rig.add("a@2", STALLS, FAST)
    assert (await rig.answered())[0] == "2"
    assert rig.asked == {"a@1": 1, "a@2": 2}
    rig.assert_at_rest()


@virtual
async def test_a_winner_that_breaks_within_its_answer_is_judged_as_any() -> None:
    rig = HedgeRig(resume={"enabled": False})
    rig.add("a@1", STALLS)
    rig.add("a@2", Reply(breaks=broken))
    answer, _ = await rig.ask()
    with pytest.raises(UpstreamError):
        await taken(answer)
    assert rig.circuits.load("a@2").consecutive == 1
    at_rest_with(rig, ("a@1", "hedged"), ("a@2", "upstream_invalid_response"))


# The budget


@virtual
async def test_who_is_denied_goes_on_waiting() -> None:
    rig = HedgeRig(hedge=HedgeConfig(min_samples=10, budget_min=0, budget_ratio=0.01))
    rig.add("a@1", Reply(after_s=3.0))
    rig.add("a@2")
    answered_by, walk, seconds = await rig.answered()
    assert (answered_by, walk.attempts, walk.hedged) == ("1", 1, None)
    assert seconds == pytest.approx(3.0)
    assert rig.told.hedges == [("r", "denied")]
    at_rest_with(rig, ("a@1", "ok"))


@virtual
async def test_who_was_denied_is_granted_when_there_is_a_budget_again() -> None:
    rig = HedgeRig(hedge=HedgeConfig(min_samples=10, budget_min=1, budget_ratio=0.01))
    rig.add("a@1", STALLS)
    rig.add("a@2", FAST)
    first, second = await asyncio.gather(rig.answered(), rig.answered())
    assert first[2] == pytest.approx(2 * USUAL_S + 0.02, rel=0.1)
    assert 60.0 < second[2] < 60.0 * 1.125 + 1.0
    assert rig.told.hedges == [("r", "won")] * 2
    rig.assert_at_rest()


@virtual
async def test_what_a_hedge_cancels_does_not_make_the_next_begin_earlier() -> None:
    rig = HedgeRig()
    rig.add("a@1", STALLS)
    rig.add("a@2", Reply(after_s=0.3), known=0)
    for _ in range(5):
        await rig.answered()
    before = rig.deployments["a@1"].first_tokens.quantile(0.9)
    for _ in range(30):
        await rig.answered()
    after = rig.deployments["a@1"].first_tokens.quantile(0.9)
    assert before is not None
    assert after is not None
    assert after >= before


# The same moment, and clients that leave

REPLIES = st.one_of(
    st.builds(Reply, after_s=st.sampled_from([0.0, 0.05, 0.2, 0.25, 0.3, 3600.0])),
    st.builds(Reply, after_s=st.sampled_from([0.0, 0.2, 0.25, 0.3]), error=st.sampled_from([failed(), refused()])),
    st.builds(Reply, after_s=st.sampled_from([0.2, 0.3]), filtered=st.just(True)),
)


@settings(max_examples=200, deadline=None)
@given(
    first=REPLIES,
    second=REPLIES,
    leaves_s=st.sampled_from([None, 0.0, 0.11, 0.2, 0.25, 0.3, 0.31, 5.0]),
    turns=st.integers(0, 6),
    is_at_once=st.booleans(),
)
def test_whatever_comes_of_both_and_whenever_the_client_leaves_nothing_is_left_over(
    first: Reply, second: Reply, leaves_s: float | None, turns: int, *, is_at_once: bool
) -> None:
    """``leaves_s`` is None: in the very moment in which the second replies; and ``is_at_once``: the first does."""

    async def run() -> None:
        rig = HedgeRig(**FILTER_TOO)
        replies_s = AFTER_S + second.after_s
        rig.add("a@1", replace(first, after_s=replies_s) if is_at_once else first)
        rig.add("a@2", second)
        task = asyncio.create_task(rig.ask())
        await asyncio.sleep(replies_s if leaves_s is None else leaves_s)
        for _ in range(turns):
            await asyncio.sleep(0)
        was_there = task.done()
        task.cancel()
        try:
            answer, walk = await task
        except asyncio.CancelledError:
            assert not was_there
        except RequestError:
            assert was_there
        else:
            assert was_there
            assert walk.answered_by is not None
            assert (await taken(answer))[0].decode() == walk.answered_by.upstream.name
        rig.assert_at_rest()
        assert {outcome for _, outcome in rig.outcomes} <= {"ok", "hedged", "client_gone", "upstream_error", "refused"}

    run_virtually(run())


@pytest.mark.parametrize("first", [STALLS, Reply(after_s=AFTER_S + 0.2), Reply(after_s=AFTER_S + 0.2, error=failed())])
def test_a_client_that_leaves_as_the_second_answers_has_left(first: Reply) -> None:
    @virtual
    async def run() -> None:
        for turns in range(5):
            rig = HedgeRig()
            rig.add("a@1", first)
            rig.add("a@2", Reply(after_s=0.2))
            task = asyncio.create_task(rig.ask())
            await asyncio.sleep(AFTER_S + 0.2)
            for _ in range(turns):
                await asyncio.sleep(0)
            was_there = task.done()
            task.cancel()
            try:
                answer, _ = await task
            except asyncio.CancelledError:
                assert not was_there
                assert "ok" not in {outcome for _, outcome in rig.outcomes}
            else:
                assert was_there
                await taken(answer)
            rig.assert_at_rest()

    run()


@pytest.mark.parametrize("leaves_s", [0.05, 1.0])
def test_a_client_that_leaves_cancels_both(leaves_s: float) -> None:
    @virtual
    async def run() -> None:
        rig = HedgeRig()
        rig.add("a@1", STALLS)
        rig.add("a@2", STALLS)
        task = asyncio.create_task(rig.ask())
        await asyncio.sleep(leaves_s)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        rig.assert_at_rest()
        expected = {("a@1", "client_gone")} | ({("a@2", "client_gone")} if leaves_s > USUAL_S else set())
        assert set(rig.outcomes) == expected

    run()


@pytest.mark.parametrize("earlier_s", [-1e-4, 0.0, 1e-4])
def test_of_two_first_tokens_at_about_the_same_moment_one_answers(earlier_s: float) -> None:
    @virtual
    async def run() -> None:
        rig = HedgeRig()
        rig.add("a@1", Reply(after_s=10.0))
        rig.add("a@2")
        began_s = rig.clock.monotonic()
        after_s = rig.deployments["a@1"].first_tokens.quantile(0.9)
        assert after_s is not None
        del rig
        rig = HedgeRig()
        rig.add("a@1", Reply(after_s=0.5))
        rig.add("a@2", Reply(after_s=(began_s + 0.5) - (began_s + after_s) - earlier_s))
        answered_by, walk, _ = await rig.answered()
        assert answered_by == ("1" if walk.hedged == "lost" else "2")
        assert sorted(outcome for _, outcome in rig.outcomes) == ["hedged", "ok"]
        rig.assert_at_rest()

    run()
