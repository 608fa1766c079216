"""Chats that are too long lose their oldest turns, and their clients are told."""

import re
import time

import pytest
from truncation_rig import (
    CountingUpstream,
    Message,
    calling,
    chat,
    result,
    said,
    tokens_of,
    truncation,
)

from genkan.errors import ContextTooLong
from genkan.gateway.truncation import HEAD_SHARE, Fitted
from genkan.wire.chat import ChatRequest, CompletionRequest

SYSTEM = said("system", "x" * 27)  # 12 tokens
TURN = [said("user", "q" * 99), said("assistant", "a" * 51)]  # 36 and 20
LAST = said("user", "z" * 141)  # 50
LONG = [SYSTEM, *TURN * 4, LAST]


def messages_of(fitted: Fitted) -> list[Message]:
    assert isinstance(fitted.request, ChatRequest)
    assert fitted.request.raw["messages"] is fitted.request.messages
    return list(fitted.request.messages)


def header_of(fitted: Fitted) -> str | None:
    if fitted.header is None:
        return None
    name, value = fitted.header
    assert name == b"x-genkan-truncated"
    assert re.fullmatch(r"messages=\d+; tokens=~?\d+(; system=1)?", value.decode())
    return value.decode()


@pytest.mark.anyio
async def test_a_chat_that_surely_fits_is_not_even_counted() -> None:
    upstream, request = CountingUpstream(), chat([SYSTEM, LAST])
    fitted = await truncation(1000, upstream, truncate="oldest").fitted(request)
    assert fitted == Fitted(request)
    assert fitted.request is request
    assert upstream.counted == []


@pytest.mark.anyio
async def test_a_chat_that_fits_is_counted_once() -> None:
    upstream, request = CountingUpstream(), chat(LONG, max_tokens=10)
    fitted = await truncation(tokens_of(LONG) + 10, upstream, truncate="oldest").fitted(request)
    assert (fitted.request is request, fitted.header) == (True, None)
    assert upstream.counted == [tokens_of(LONG)]


@pytest.mark.anyio
@pytest.mark.parametrize("turns_left", [3, 2, 1, 0])
async def test_as_many_turns_are_kept_as_fit(turns_left: int) -> None:
    kept = [SYSTEM, *TURN * turns_left, LAST]
    request = chat(LONG, max_tokens=10, temperature=0.5)
    before = repr(request)
    for spare in (0, 55):
        upstream = CountingUpstream()
        fitted = await truncation(tokens_of(kept) + 10 + spare, upstream, truncate="oldest").fitted(request)
        assert messages_of(fitted) == kept
        gone = 4 - turns_left
        about = "~" if tokens_of(LONG) not in upstream.counted else ""
        told = re.fullmatch(rf"messages={2 * gone}; tokens={about}(\d+)", header_of(fitted) or "")
        assert told is not None
        assert int(told[1]) == pytest.approx(56 * gone, rel=0.1 if about else 0)
        assert len(upstream.counted) <= 4
        assert {**fitted.request.raw, "messages": 0} == {**request.raw, "messages": 0}
        assert (fitted.request.sampling, fitted.request.model) == (request.sampling, request.model)
    assert repr(request) == before


@pytest.mark.anyio
async def test_the_answers_room_is_asked_for_or_usual_or_a_quarter() -> None:
    kept = [SYSTEM, *TURN * 3, LAST]  # 232 tokens

    async def left(window: int, *, usual_answer: int, **options: int) -> int:
        cutting = truncation(window, CountingUpstream(), truncate="oldest", usual_answer=usual_answer)
        return len(messages_of(await cutting.fitted(chat(LONG, **options))))

    assert tokens_of(kept) == 232
    assert await left(252, usual_answer=20) == len(kept)
    assert await left(251, usual_answer=20) == len(kept) - 2
    assert await left(309, usual_answer=4096) == len(kept)  # a quarter is 77
    assert await left(308, usual_answer=4096) == len(kept) - 2
    assert await left(282, usual_answer=20, max_tokens=50) == len(kept)
    assert await left(281, usual_answer=20, max_tokens=50) == len(kept) - 2
    assert await left(282, usual_answer=20, min_tokens=50) == len(kept)
    assert await left(281, usual_answer=20, min_tokens=50) == len(kept) - 2


@pytest.mark.anyio
async def test_a_call_stays_with_its_results_and_the_newest_turn_loses_steps() -> None:
    step = [calling("1", "2"), result("2", "r" * 30), result("1", "r" * 30)]
    messages = [SYSTEM, *TURN, LAST, *step * 5]
    for steps_left in (5, 3, 1):
        kept = [SYSTEM, *([LAST] if steps_left == 5 else []), *step * steps_left]
        fitted = await truncation(tokens_of(kept) + 12, CountingUpstream(), truncate="oldest").fitted(
            chat(messages, max_tokens=10)
        )
        assert messages_of(fitted) == kept


@pytest.mark.anyio
async def test_a_head_of_more_than_its_share_is_cut_at_its_end() -> None:
    text = "Xin chào các bạn, 안녕하세요! " * 40
    messages = [said("system", text), said("developer", "short"), *TURN * 2, LAST]
    fitted = await truncation(500, CountingUpstream(), truncate="oldest").fitted(chat(messages, max_tokens=100))
    head, *rest = messages_of(fitted)
    assert rest == [*TURN * 2, LAST]
    assert text.startswith(head["content"])
    assert 0.9 * HEAD_SHARE * 400 - 12 <= tokens_of([head]) <= HEAD_SHARE * 400
    gone = tokens_of(messages) - tokens_of([head, *rest])
    assert header_of(fitted) == f"messages=1; tokens={gone}; system=1"


@pytest.mark.anyio
async def test_a_head_is_only_cut_where_the_chat_is_too_long() -> None:
    request = chat([said("system", "x" * 900), LAST], max_tokens=10)
    window = tokens_of(request.messages) + 10
    assert (await truncation(window, CountingUpstream(), truncate="oldest").fitted(request)).request is request
    cut = await truncation(window - 1, CountingUpstream(), truncate="oldest").fitted(request)
    head, last = messages_of(cut)
    assert (last, len(head["content"]) < 300) == (LAST, True)


@pytest.mark.anyio
async def test_what_is_cut_once_is_not_cut_again() -> None:
    cutting = truncation(500, CountingUpstream(), truncate="oldest")
    request = chat([said("system", "Hệ thống " * 200), *TURN * 20, LAST])
    once = await cutting.fitted(request)
    assert once.header is not None
    twice = await cutting.fitted(once.request)
    assert (twice.request is once.request, twice.header) == (True, None)


@pytest.mark.anyio
async def test_the_least_that_does_not_fit_is_refused_with_both_numbers() -> None:
    least = [SYSTEM, said("user", "z" * 300)]
    request = chat([SYSTEM, *TURN, least[1]], max_tokens=50)
    needed = tokens_of(least) + 50
    fitted = await truncation(needed, CountingUpstream(), truncate="oldest").fitted(request)
    assert messages_of(fitted) == least
    with pytest.raises(ContextTooLong, match=rf"length is {needed - 1} tokens.*requested {needed} tokens") as caught:
        await truncation(needed - 1, CountingUpstream(), truncate="oldest").fitted(request)
    assert (caught.value.status, caught.value.code) == (400, "context_length_exceeded")
    assert (caught.value.limit_tokens, caught.value.given_tokens) == (needed - 1, needed)


@pytest.mark.anyio
async def test_who_asked_for_no_length_gets_a_shorter_answer_rather_than_none() -> None:
    least = [SYSTEM, said("user", "z" * 300)]
    request = chat([SYSTEM, *TURN, least[1]])
    fitted = await truncation(tokens_of(least) + 1, CountingUpstream(), truncate="oldest").fitted(request)
    assert messages_of(fitted) == least
    with pytest.raises(ContextTooLong):
        await truncation(tokens_of(least), CountingUpstream(), truncate="oldest").fitted(request)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("others", "reasons", "goes_on"),
    [
        ([2000], ["error", "context_too_long"], True),
        ([None], ["context_too_long"], True),
        ([10, 2000], ["context_too_long"], True),
        ([10, 100], ["context_too_long"], False),
        ([2000], ["error"], False),
    ],
)
async def test_the_least_goes_on_whole_where_a_larger_window_waits(
    others: list[int | None], reasons: list[str], goes_on: bool
) -> None:
    request = chat([SYSTEM, *TURN, said("user", "z" * 900)], max_tokens=50)
    cutting = truncation(100, CountingUpstream(), others=others, truncate="oldest", fallback_on=reasons)
    if goes_on:
        fitted = await cutting.fitted(request)
        assert (fitted.request is request, fitted.header) == (True, None)
    else:
        with pytest.raises(ContextTooLong):
            await cutting.fitted(request)


@pytest.mark.anyio
async def test_what_can_be_cut_does_not_go_on() -> None:
    cutting = truncation(180, CountingUpstream(), others=[2000], truncate="oldest")
    assert messages_of(await cutting.fitted(chat(LONG, max_tokens=50))) == [SYSTEM, *TURN, LAST]


@pytest.mark.anyio
async def test_a_length_beyond_the_window_is_left_to_the_server() -> None:
    upstream, request = CountingUpstream(), chat(LONG, max_tokens=150)
    assert (await truncation(150, upstream, truncate="oldest").fitted(request)).request is request
    assert upstream.counted == []


@pytest.mark.anyio
async def test_an_estimate_says_so_and_refuses_nothing() -> None:
    upstream = CountingUpstream(counts=0)
    fitted = await truncation(200, upstream, truncate="oldest").fitted(chat(LONG, max_tokens=50))
    assert messages_of(fitted) == [SYSTEM, *TURN, LAST]
    assert (header_of(fitted) or "").startswith("messages=6; tokens=~")
    long = said("user", "z" * 9000)
    least = await truncation(200, upstream, truncate="oldest").fitted(chat([SYSTEM, *TURN, long], max_tokens=50))
    assert messages_of(least) == [SYSTEM, long]


@pytest.mark.anyio
async def test_a_server_that_hangs_holds_up_one_chat_and_then_others_are_asked() -> None:
    hanging, counting = CountingUpstream("a", hangs=True), CountingUpstream("b")
    cutting = truncation(200, hanging, counting, truncate="oldest", counting_s=0.05)
    headers = [header_of(await cutting.fitted(chat(LONG, max_tokens=50))) or "" for _ in range(3)]
    assert ["~" in header for header in headers] == [True, False, False]
    assert hanging.num_asked == 1


@pytest.mark.anyio
async def test_a_turn_that_fits_is_kept_though_little_and_much_are_guessed_wrong() -> None:
    upstream = CountingUpstream(rule=lambda messages: 100 + 3 * tokens_of(messages) // 5)  # a template of many words
    old, turn = said("user", "q" * 40_000), [said("user", "q" * 2980), said("assistant", "a")]
    fitted = await truncation(730, upstream, truncate="oldest").fitted(
        chat([old, *turn, said("user", "hi")], max_tokens=10)
    )
    assert messages_of(fitted) == [*turn, said("user", "hi")]
    assert len(upstream.counted) <= 3


@pytest.mark.anyio
async def test_a_chat_that_is_far_too_long_is_never_counted_whole() -> None:
    upstream = CountingUpstream()
    messages = [SYSTEM, *TURN * 2000, LAST]
    fitted = await truncation(1000, upstream, truncate="oldest").fitted(chat(messages, max_tokens=100))
    kept = messages_of(fitted)
    assert kept == [SYSTEM, *TURN * 14, LAST]
    assert tokens_of(kept) <= 900 < tokens_of([*TURN, *kept])
    assert max(upstream.counted) < 2000
    assert len(upstream.counted) <= 4
    assert (header_of(fitted) or "").startswith("messages=3972; tokens=~")


@pytest.mark.anyio
async def test_the_longest_list_takes_a_moment() -> None:
    request = chat([SYSTEM, *[said("user", "Một"), said("assistant", "둘")] * 20_000, LAST], max_tokens=100)
    cutting = truncation(4000, CountingUpstream(), truncate="oldest")
    began_s = time.perf_counter()
    kept = messages_of(await cutting.fitted(request))
    assert time.perf_counter() - began_s < 4.0
    assert (kept[0], kept[-1], kept[1]["role"]) == (SYSTEM, LAST, "user")
    assert 3890 < tokens_of(kept) <= 3900


@pytest.mark.anyio
@pytest.mark.parametrize(("window", "mode"), [(50, "off"), (None, "oldest")])
async def test_off_or_without_a_window_nothing_is_cut(window: int | None, mode: str) -> None:
    upstream, request = CountingUpstream(), chat(LONG)
    fitted = await truncation(window, upstream, truncate=mode).fitted(request)
    assert (fitted.request is request, fitted.header, upstream.counted) == (True, None, [])


@pytest.mark.anyio
async def test_completions_are_not_cut() -> None:
    request = CompletionRequest.parse(b'{"model": "r", "prompt": "' + b"x" * 9000 + b'"}')
    assert (await truncation(50, CountingUpstream(), truncate="oldest").fitted(request)).request is request
