"""Any chat in any window: what is left fits, is the newest of it, and holds calls and their results together."""

import asyncio
import re

from hypothesis import given, settings
from hypothesis import strategies as st
from truncation_rig import CountingUpstream, Message, calling, chat, result, said, tokens_of, truncation

from genkan.errors import ContextTooLong
from genkan.gateway.graphemes import whole_until
from genkan.gateway.scales import MOST_COUNTS
from genkan.gateway.truncation import HEAD_SHARE, Fitted
from genkan.wire.chat import ChatRequest

TEXTS = st.text(st.sampled_from("ab Việt한국\u0301\u1112\u1161👩\u200d🇻"), max_size=120)
IDS = st.sampled_from(["1", "2", "3", "4"])
MESSAGES = st.one_of(
    st.builds(said, st.sampled_from(["user", "user", "assistant", "system", "developer"]), TEXTS),
    st.lists(IDS, min_size=1, max_size=3, unique=True).map(lambda ids: calling(*ids)),
    st.builds(result, IDS, TEXTS),
)
HEADS = st.lists(st.builds(said, st.just("system"), TEXTS.map(lambda text: text * 4)), max_size=2)
CHATS = st.tuples(HEADS, st.lists(MESSAGES, min_size=1, max_size=30)).map(lambda both: both[0] + both[1])
WINDOWS = st.integers(40, 900)
MAX_TOKENS = 10
IN_FRONT = ("system", "developer")


def fit(request: ChatRequest, window: int, upstream: CountingUpstream) -> Fitted | ContextTooLong:
    try:
        with asyncio.Runner() as runner:
            return runner.run(truncation(window, upstream, truncate="oldest").fitted(request))
    except ContextTooLong as error:
        return error


def messages_of(fitted: Fitted) -> list[Message]:
    assert isinstance(fitted.request, ChatRequest)
    return fitted.request.messages


def callers(messages: list[Message]) -> dict[int, int]:
    """Of the place of each result, that of the newest call before it of its id."""
    asked: dict[str, int] = {}
    found: dict[int, int] = {}
    for place, message in enumerate(messages):
        asked |= {call["id"]: place for call in message.get("tool_calls", ())}
        if (call := message.get("tool_call_id")) in asked:
            found[place] = asked[call]
    return found


def tail_of(messages: list[Message], kept: list[Message]) -> int:
    """Where the messages begin that were kept to the end."""
    pairs = zip(reversed(messages), reversed(kept), strict=False)
    return len(messages) - next((num for num, (one, other) in enumerate(pairs) if one is not other), len(kept))


def head_of(messages: list[Message]) -> list[Message]:
    return next((messages[:place] for place, one in enumerate(messages) if one["role"] not in IN_FRONT), messages[:-1])


def check_head(head: list[Message], kept: list[Message], limit: int, *, is_cut: bool) -> None:
    assert all(message["role"] in IN_FRONT for message in kept)
    if not is_cut:
        assert kept == head
        return
    assert kept[:-1] == head[: len(kept[:-1])]
    if kept:
        whole, cut = head[len(kept) - 1]["content"], kept[-1]["content"]
        assert whole.startswith(cut)
        assert whole_until(whole, len(cut)) == len(cut)
        assert tokens_of([*kept, said("user", ".")]) <= limit


def check_tail(messages: list[Message], begin: int) -> None:
    """No result without its call, and a question first if there is one where the chat can be cut."""
    assert begin < len(messages)
    spans = callers(messages).items()
    assert not any(caller < begin <= answer for answer, caller in spans)
    questions = (place for place in range(begin, len(messages)) if messages[place]["role"] == "user")
    if any(not any(caller < place < answer for answer, caller in spans) for place in questions):
        first = next(message for message in messages[begin:] if message["role"] not in IN_FRONT)
        assert first["role"] == "user"


@settings(max_examples=150, deadline=None)
@given(CHATS, WINDOWS)
def test_what_is_left_of_any_chat(messages: list[Message], window: int) -> None:
    request, upstream, limit = chat(messages, max_tokens=MAX_TOKENS), CountingUpstream(), window - MAX_TOKENS
    assert request.messages == messages
    fitted = fit(request, window, upstream)
    assert len(upstream.counted) <= MOST_COUNTS
    assert request.messages == request.raw["messages"] == messages
    if isinstance(fitted, ContextTooLong):
        assert fitted.given_tokens > fitted.limit_tokens == window
        assert tokens_of(messages) > limit
        return
    kept = messages_of(fitted)
    assert tokens_of(kept) <= limit
    if fitted.header is None:
        assert fitted.request is request
        return
    assert tokens_of(messages) > limit
    told = re.fullmatch(rb"messages=(\d+); tokens=~?\d+(; system=1)?", fitted.header[1])
    assert told is not None
    assert int(told[1]) == len(messages) - len(kept)
    begin = tail_of(request.messages, kept)
    head, num_left = head_of(messages), len(kept) - (len(messages) - begin)
    check_head(head, kept[:num_left], int(HEAD_SHARE * limit), is_cut=told[2] is not None)
    if begin > len(head):
        check_tail(messages, begin)
    assert isinstance(fitted.request, ChatRequest)
    again = fit(fitted.request, window, CountingUpstream())
    assert isinstance(again, Fitted)
    assert (again.request is fitted.request, again.header) == (True, None)


@settings(max_examples=60, deadline=None)
@given(CHATS, WINDOWS)
def test_where_nobody_counts_something_always_goes_on(messages: list[Message], window: int) -> None:
    request = chat(messages, max_tokens=MAX_TOKENS)
    fitted = fit(request, window, CountingUpstream(counts=0))
    assert isinstance(fitted, Fitted)
    kept = messages_of(fitted)
    assert kept[-1] is request.messages[-1]
    assert (fitted.header is None) == (fitted.request is request) == (kept == messages)
    assert fitted.header is None or b"tokens=~" in fitted.header[1]


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("aé e\u0323\u0302\r\n한각\u1100\u1161\u11a8👩🏽\u200d❤\ufe0f🇻🇳"), max_size=80))
def test_a_text_is_cut_at_the_same_places_from_wherever_one_looks(text: str) -> None:
    cuts = [whole_until(text, end) for end in range(len(text) + 1)]
    assert cuts == sorted(cuts)
    assert (cuts[0], cuts[-1]) == (0, len(text))
    assert all(cut <= end and whole_until(text, cut) == cut for end, cut in enumerate(cuts))
