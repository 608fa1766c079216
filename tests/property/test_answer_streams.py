"""Streams of any order and cut, and answers that are any JSON at all."""

from itertools import pairwise
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from genkan.wire.answers import AnswerStream, ErrorInAnswer, MalformedAnswer, WholeAnswer
from genkan.wire.sse import SseDecoder, encode_events

quick = settings(max_examples=300, deadline=None)

SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-3, 9), st.floats(allow_nan=False), st.text(max_size=4))
#: The keys that are read, and one that is not, so that random objects are dense in what matters.
KEYS = st.sampled_from(
    ["choices", "usage", "error", "index", "delta", "message", "text", "finish_reason", "content", "tool_calls", "x"]
)
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5))
CHOICE = st.fixed_dictionaries({}, optional=dict.fromkeys(("index", "delta", "message", "text", "finish_reason"), JSON))
#: Nearly a chunk, or nearly a whole answer.
ALMOST = st.fixed_dictionaries(
    {"choices": st.lists(CHOICE | JSON, max_size=3)}, optional={"usage": JSON, "error": JSON}
)
#: One event of a good stream: the choice it is of, what it says, whether it is its end.
EVENTS = st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["", "a", "é\n"]), st.booleans()), max_size=15)
CUTS = st.lists(st.integers(0, 2000), max_size=8)


def chunk(index: int, text: str, end: bool) -> bytes:
    choice = {"index": index, "delta": {"content": text}, "finish_reason": "stop" if end else None}
    return orjson.dumps({"choices": [choice]})


def in_order(events: list[tuple[int, str, bool]]) -> list[tuple[int, str, bool]]:
    """Without what a choice says after its end."""
    ended: set[int] = set()
    kept = []
    for index, text, end in events:
        if index not in ended:
            kept.append((index, text, end))
        if end:
            ended.add(index)
    return kept


@quick
@given(EVENTS, CUTS)
def test_however_it_is_cut_a_stream_is_complete_if_and_only_if_every_choice_ended(
    events: list[tuple[int, str, bool]], cuts: list[int]
) -> None:
    events = in_order(events)
    payloads = [chunk(*event) for event in events]
    stream = encode_events(payloads) if payloads else b""
    ends = sorted(place % (len(stream) + 1) for place in cuts)
    decoder, follower = SseDecoder(), AnswerStream(choices=3, show_usage=False)
    passed: list[bytes] = []
    for start, end in pairwise([0, *ends, len(stream)]):
        passed += follower.take(decoder.feed(stream[start:end]))
    assert passed == payloads
    assert follower.started == any(text or end for _, text, end in events)
    assert follower.complete == ({index for index, _, end in events if end} == {0, 1, 2})


@quick
@given(EVENTS)
def test_a_choice_that_speaks_after_its_end_is_never_taken_for_an_answer(events: list[tuple[int, str, bool]]) -> None:
    follower = AnswerStream(choices=3, show_usage=False)
    ended: set[int] = set()
    for index, text, end in events:
        payload = chunk(index, text, end)
        if index in ended and text:
            try:
                follower.take([payload])
            except MalformedAnswer:
                return
            raise AssertionError("text after the end was passed on")
        assert follower.take([payload]) == ([] if index in ended and end else [payload])
        if end:
            ended.add(index)


@quick
@given(st.lists(JSON | ALMOST, max_size=4), st.integers(1, 3), st.booleans())
def test_any_json_is_passed_on_as_it_came_or_is_one_of_two_errors(
    values: list[Any], choices: int, show_usage: bool
) -> None:
    payloads = [orjson.dumps(value) for value in values]
    try:
        passed = AnswerStream(choices=choices, show_usage=show_usage).take(payloads)
    except (MalformedAnswer, ErrorInAnswer):
        return
    without_null = payloads if show_usage else [data.replace(b',"usage":null', b"") for data in payloads]
    assert set(passed) <= set(without_null)


@quick
@given(JSON | ALMOST, st.booleans())
def test_any_whole_answer_can_be_streamed_or_is_one_of_two_errors(value: Any, show_usage: bool) -> None:
    try:
        chunks = WholeAnswer(orjson.dumps(value)).as_chunks(show_usage=show_usage)
    except (MalformedAnswer, ErrorInAnswer):
        return
    assert all(type(orjson.loads(data)["choices"]) is list for data in chunks)


@quick
@given(st.binary(max_size=60))
def test_any_bytes_are_malformed_or_an_object(data: bytes) -> None:
    try:
        AnswerStream(choices=1, show_usage=True).take([data])
        WholeAnswer(data)
    except (MalformedAnswer, ErrorInAnswer):
        pass
