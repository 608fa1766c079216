"""Streams that are gone on with: who is asked, and what the client gets."""

import pytest
from resume_rig import PROMPT_TOKENS, TEXT, TOKENS, ResumeRig, Teller, Tells, breaks, cut, stalled
from scripted_upstreams import Fails, broken, failed, refused, throttled, unauthorized

from genkan.errors import ReaderTooSlow, StreamInterrupted, TimedOut, UpstreamError
from genkan.gateway.diverged import AnswerDiverged
from genkan.upstream.base import Way
from genkan.wire.usage import Usage

pytestmark = pytest.mark.anyio

USAGE = {"stream_options": {"include_usage": True}}
WAYS: list[Way] = ["replay", "prefill", "prompt"]
OTHER = ("Once ", "upon ", *TOKENS[2:])
SAYS_NO = refused()


def late(upstream: str) -> UpstreamError:
    return TimedOut(upstream=upstream, phase="total", limit_s=1.0)


# one answer


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("how", [cut, stalled, broken, failed(500), failed(503), throttled(1.0), unauthorized])
async def test_a_stream_that_breaks_off_is_one_whole_answer(way: Way, how: Fails) -> None:
    async with ResumeRig(Teller("up-1", breaks(how=how)), Teller("up-2", way=way)) as rig:
        taken = await rig.taken()
        assert taken.is_one
        assert taken.text == TEXT
        assert rig.seen.resumes == [("nick", way, "ok")]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("after", range(1, len(TOKENS) + 1))
async def test_wherever_it_breaks_off(way: Way, after: int) -> None:
    async with ResumeRig(Teller("up-1", breaks(after)), Teller("up-2", way=way)) as rig:
        taken = await rig.taken(**USAGE)
        assert taken.is_one
        assert taken.text == TEXT
        assert taken.usage["completion_tokens"] == len(TOKENS)
        assert taken.answer is not None
        assert taken.answer.finish_reason == "stop"


async def test_an_upstream_that_repeats_the_beginning_is_heard_from_its_end() -> None:
    async with ResumeRig(Teller("up-1", breaks()), Teller("up-2", Tells(repeats=True), way="prefill")) as rig:
        taken = await rig.taken()
        assert (taken.is_one, taken.text) == (True, TEXT)


async def test_it_is_told_what_was_said() -> None:
    second = Teller("up-2", way="prefill")
    async with ResumeRig(Teller("up-1", breaks()), second) as rig:
        await rig.taken()
    (call,) = second.calls
    assert call.continuation == ("prefill", "".join(TOKENS[:8]), 8)


async def test_what_is_gone_on_with_may_break_off_again() -> None:
    third = Teller("up-3", way="prefill")
    async with ResumeRig(Teller("up-1", breaks(3)), Teller("up-2", breaks(4), way="prefill"), third) as rig:
        taken = await rig.taken(**USAGE)
        assert (taken.is_one, taken.text) == (True, TEXT)
        assert taken.usage["completion_tokens"] == len(TOKENS)
        assert taken.usage["prompt_tokens"] == PROMPT_TOKENS
        parts = [{"model": "big", "way": "prefill"}] * 2
        assert taken.usage["resumed"] == taken.fields["resumed"] == parts
        assert taken.fields["attempts"] == 3
    assert third.calls[0].continuation == ("prefill", "".join(TOKENS[:7]), 7)


async def test_a_replay_may_break_off_again_before_and_after_the_seam() -> None:
    upstreams = [Teller("up-1", breaks(5)), Teller("up-2", breaks(3)), Teller("up-3", breaks(9)), Teller("up-4")]
    async with ResumeRig(*upstreams, resume={"attempts": 3}) as rig:
        taken = await rig.taken()
        assert (taken.is_one, taken.text) == (True, TEXT)
        assert [outcome for _, _, outcome in rig.seen.resumes] == [
            "upstream_stream_interrupted", "upstream_stream_interrupted", "ok",
        ]  # fmt: skip
        # The one that never came to the seam had no part in the answer.
        assert taken.fields["resumed"] == [{"model": "big", "way": "replay"}] * 2


# who is asked


async def test_the_one_that_broke_off_is_asked_once_more_when_there_is_no_other() -> None:
    only = Teller("up-1", breaks(), Tells())
    async with ResumeRig(only) as rig:
        taken = await rig.taken()
        assert (taken.is_one, taken.text) == (True, TEXT)
    assert len(only.calls) == 2


async def test_it_is_not_if_it_took_too_long() -> None:
    only = Teller("up-1", breaks(how=stalled))
    async with ResumeRig(only) as rig:
        taken = await rig.taken()
        assert isinstance(taken.error, TimedOut)
    assert len(only.calls) == 1


async def test_nor_if_it_said_when_to_come_back() -> None:
    only = Teller("up-1", breaks(how=failed(503, retry_after_s=5.0)))
    async with ResumeRig(only) as rig:
        assert (await rig.taken()).error is not None
    assert len(only.calls) == 1


async def test_nor_without_a_retry_budget() -> None:
    only = Teller("up-1", breaks())
    async with ResumeRig(only, retry={"budget_ratio": 0, "budget_min": 0}) as rig:
        assert isinstance((await rig.taken()).error, StreamInterrupted)
    assert len(only.calls) == 1


async def test_others_need_no_retry_budget() -> None:
    upstreams = [Teller("up-1", breaks()), Teller("up-2")]
    async with ResumeRig(*upstreams, retry={"budget_ratio": 0, "budget_min": 0}) as rig:
        assert (await rig.taken()).is_one


CHAIN = {"big": ["up-1"], "other": ["up-2"], "kin": ["up-3"]}


async def test_a_model_of_the_same_group_is_asked_before_any_other() -> None:
    upstreams = [Teller("up-1", breaks()), Teller("up-2"), Teller("up-3")]
    groups = {"big": "g", "kin": "g"}
    async with ResumeRig(*upstreams, models=CHAIN, groups=groups, resume={"other_models": True}) as rig:
        taken = await rig.taken()
        assert taken.is_one
        assert taken.fields["resumed"] == [{"model": "kin", "way": "replay"}]
        assert not any("genkan" in chunk for chunk in taken.chunks)
    assert [len(one.calls) for one in upstreams] == [1, 0, 1]


async def test_another_model_is_not_asked_unless_the_route_says_so() -> None:
    upstreams = [Teller("up-1", breaks(how=stalled)), Teller("up-2"), Teller("up-3")]
    async with ResumeRig(*upstreams, models=CHAIN) as rig:
        assert isinstance((await rig.taken()).error, TimedOut)
    assert [len(one.calls) for one in upstreams] == [1, 0, 0]


async def test_another_model_is_marked_in_the_stream_and_in_its_usage() -> None:
    upstreams = [Teller("up-1", breaks()), Teller("up-2", way="prefill"), Teller("up-3")]
    async with ResumeRig(*upstreams, models=CHAIN, resume={"other_models": True}) as rig:
        taken = await rig.taken(**USAGE)
        assert (taken.is_one, taken.text) == (True, TEXT)
        mark = {"model": "other", "way": "prefill"}
        assert [chunk["genkan"] for chunk in taken.chunks if "genkan" in chunk] == [{"resumed": mark}]
        assert taken.usage["resumed"] == [mark]


async def test_one_whose_breaker_is_open_is_passed_over() -> None:
    upstreams = [Teller("up-1", breaks()), Teller("up-2"), Teller("up-3")]
    async with ResumeRig(*upstreams) as rig:
        resting = rig.router.deployments[1]
        while (attempt := resting.breaker.begin(rig.clock.now_s)) is not None:
            attempt.failed(rig.clock.now_s)
        assert (await rig.taken()).is_one
    assert [len(one.calls) for one in upstreams] == [1, 0, 1]


async def test_no_more_are_asked_than_the_route_allows() -> None:
    upstreams = [Teller("up-1", breaks()), *(Teller(f"up-{n}", Tells(refuses=failed(500))) for n in range(2, 6))]
    async with ResumeRig(*upstreams, resume={"attempts": 3}) as rig:
        assert isinstance((await rig.taken()).error, StreamInterrupted)
    assert [len(one.calls) for one in upstreams] == [1, 1, 1, 1, 0]


async def test_who_failed_before_the_first_word_is_asked_only_if_it_may_do_better() -> None:
    upstreams = [Teller("up-1", Tells(refuses=stalled)), Teller("up-2", breaks()), Teller("up-3", Tells())]
    async with ResumeRig(*upstreams) as rig:
        assert (await rig.taken()).is_one
    assert [len(one.calls) for one in upstreams] == [1, 1, 1]


async def test_limits_of_upstreams_hold_for_those_that_go_on() -> None:
    upstreams = [Teller("up-1", breaks()), Teller("up-2"), Teller("up-3")]
    limits = {"up-2": {"requests": {"limit": 1, "window_s": 3600}}}
    async with ResumeRig(*upstreams, limits=limits) as rig:
        assert (await rig.taken()).is_one
        assert (await rig.taken()).is_one
    assert [len(one.calls) for one in upstreams] == [2, 1, 1]


# a beginning that is refused


async def test_who_takes_no_beginning_is_asked_anew_at_once_and_for_some_time() -> None:
    second = Teller("up-2", Tells(refuses_beginning=SAYS_NO), way="prefill")
    async with ResumeRig(Teller("up-1", breaks()), second) as rig:
        taken = await rig.taken()
        assert (taken.is_one, taken.text) == (True, TEXT)
        assert rig.seen.resumes == [("nick", "prefill", "refused"), ("nick", "replay", "ok")]
        rig.seen.resumes.clear()
        assert (await rig.taken()).is_one
        assert rig.seen.resumes == [("nick", "replay", "ok")]
        await rig.clock.sleep(301)  # it may have been that text alone
        assert (await rig.taken()).is_one
    assert [call.continuation is None for call in second.calls] == [False, True, True, False, True]


async def test_who_refuses_the_request_itself_is_not_taken_for_one_that_takes_no_beginning() -> None:
    second = Teller("up-2", Tells(refuses=SAYS_NO, refuses_beginning=SAYS_NO), way="prefill")
    async with ResumeRig(Teller("up-1", breaks()), second, Teller("up-3"), resume={"attempts": 3}) as rig:
        assert (await rig.taken()).is_one
        assert rig.router.deployments[1].no_prefill_until_s < 0


async def test_who_begins_anew_is_not_taken_to_go_on() -> None:
    second = Teller("up-2", Tells(begins_anew=True), way="prefill")
    async with ResumeRig(Teller("up-1", breaks()), second) as rig:
        taken = await rig.taken()
        assert (taken.is_one, taken.text) == (True, TEXT)
        assert rig.seen.resumes == [("nick", "prefill", "diverged"), ("nick", "replay", "ok")]
        assert rig.router.deployments[1].no_prefill_until_s < 0  # an answer may say a thing twice
        row = await rig.row()
    assert row.usage == Usage(PROMPT_TOKENS, len(TOKENS), cached=2)


async def test_the_text_is_given_without_the_space_at_its_end_which_is_taken_out_of_the_rest() -> None:
    tokens = ("a", " \n", "b", "\n\n", "c", " ")
    for after in range(1, 7):
        second = Teller("up-2", Tells(tokens), way="prefill")
        async with ResumeRig(Teller("up-1", breaks(after, tokens=tokens)), second) as rig:
            taken = await rig.taken(stream_options={"include_usage": True})
            assert (taken.is_one, taken.text) == (True, "a \nb\n\nc ")
            (call,) = second.calls
            assert call.continuation is not None
            assert call.continuation.text == "".join(tokens[:after]).rstrip()
            assert (taken.usage["prompt_tokens"], taken.usage["completion_tokens"]) == (PROMPT_TOKENS, 6)


async def test_the_second_asking_counts_as_an_attempt() -> None:
    second = Teller("up-2", Tells(refuses_beginning=SAYS_NO), way="prefill")
    async with ResumeRig(Teller("up-1", breaks()), second, resume={"attempts": 1}) as rig:
        assert isinstance((await rig.taken()).error, StreamInterrupted)


# what cannot be gone on with


async def test_another_answer_is_told_as_such() -> None:
    async with ResumeRig(Teller("up-1", breaks()), Teller("up-2", Tells(OTHER))) as rig:
        taken = await rig.taken()
        assert isinstance(taken.error, AnswerDiverged)
        assert taken.text == "".join(TOKENS[:8])
        assert rig.seen.resumes == [("nick", "replay", "diverged")]
        row = await rig.row()
        assert row.state == "upstream_answer_diverged"
        assert [(part.state, part.way) for part in row.attempts] == [
            ("upstream_stream_interrupted", None), ("upstream_answer_diverged", "replay"),
        ]  # fmt: skip
        # It was told nothing of it: it works.
        assert rig.router.deployments[1].breaker.state(rig.clock.now_s) == "closed"


async def test_a_replay_that_ends_too_soon_is_another_answer() -> None:
    async with ResumeRig(Teller("up-1", breaks()), Teller("up-2", Tells(TOKENS[:5]))) as rig:
        taken = await rig.taken()
        assert isinstance(taken.error, AnswerDiverged)
        assert taken.text == "".join(TOKENS[:8])


async def test_after_another_answer_only_those_are_asked_that_go_on_from_the_text() -> None:
    upstreams = [Teller("up-1", breaks()), Teller("up-2", Tells(OTHER)), Teller("up-3"), Teller("up-4", way="prefill")]
    async with ResumeRig(*upstreams) as rig:
        taken = await rig.taken()
        assert (taken.is_one, taken.text) == (True, TEXT)
    assert [len(one.calls) for one in upstreams] == [1, 1, 0, 1]


@pytest.mark.parametrize("how", [late, refused(), refused("content_filter"), refused(ReaderTooSlow.code, 408)])
async def test_what_is_nobodys_failure_ends_the_stream(how: Fails) -> None:
    upstreams = [Teller("up-1", breaks(how=how)), Teller("up-2")]
    async with ResumeRig(*upstreams) as rig:
        assert (await rig.taken()).error is not None
    assert [len(one.calls) for one in upstreams] == [1, 0]


async def test_time_that_is_over_while_others_go_on_ends_it_as_well() -> None:
    upstreams = [Teller("up-1", breaks()), Teller("up-2", breaks(2, late), way="prefill"), Teller("up-3")]
    async with ResumeRig(*upstreams) as rig:
        taken = await rig.taken()
        assert isinstance(taken.error, TimedOut)
        assert taken.text == "".join(TOKENS[:10])
    assert not upstreams[2].calls


async def test_an_answer_that_has_said_too_much_is_not_gone_on_with() -> None:
    long = tuple(f"{'x' * 100}{nth}" for nth in range(12))
    upstreams = [Teller("up-1", breaks(11, tokens=long)), Teller("up-2", Tells(long))]
    async with ResumeRig(*upstreams, resume={"max_bytes": 1024}) as rig:
        assert isinstance((await rig.taken()).error, StreamInterrupted)
        assert not upstreams[1].calls


async def test_nothing_is_gone_on_with_or_kept_where_the_route_says_so() -> None:
    upstreams = [Teller("up-1", breaks()), Teller("up-2")]
    async with ResumeRig(*upstreams, resume={"enabled": False}) as rig:
        assert isinstance((await rig.taken()).error, StreamInterrupted)
    assert upstreams[0].calls[0].keep_bytes == 0
    assert not upstreams[1].calls


async def test_an_answer_that_had_ended_is_left_as_it_is() -> None:
    async with ResumeRig(Teller("up-1", breaks(len(TOKENS) + 1)), Teller("up-2")) as rig:
        taken = await rig.taken()
        assert taken.text == TEXT
        assert isinstance(taken.error, StreamInterrupted)


async def test_the_error_is_the_one_that_broke_it_off_last() -> None:
    upstreams = [Teller("up-1", breaks()), Teller("up-2", breaks(2, stalled), way="prefill")]
    async with ResumeRig(*upstreams, resume={"attempts": 1}) as rig:
        taken = await rig.taken()
        assert isinstance(taken.error, TimedOut)
        assert (await rig.row()).state == "upstream_timeout"
