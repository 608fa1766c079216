"""Answers as upstreams send them: what is one, when it has begun, when it is over, and what of it goes on."""

from typing import Any

import orjson
import pytest
from faults.canonical import USAGE, VENDOR, Canonical
from hypothesis import given
from hypothesis import strategies as st

from genkan.wire.answers import AnswerStream, ErrorInAnswer, MalformedAnswer, WholeAnswer, text_bytes_of

CANONICAL = Canonical("m", include_usage=True)
PLAIN = Canonical("m")
NO_DELTA: dict[str, Any] = {}


def payload(*choices: Any, **fields: Any) -> bytes:
    return orjson.dumps({"id": "1", "choices": list(choices), **fields})


def piece(delta: Any, *, index: Any = 0, reason: Any = None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "finish_reason": reason}


def stream(*, choices: int = 1, show_usage: bool = False) -> AnswerStream:
    return AnswerStream(choices=choices, show_usage=show_usage)


ODD: list[Any] = [None, 0, 1, True, False, 0.0, "", "a", [], ["a"], {}, {"a": 1}]
DELTAS: list[Any] = [
    *ODD,
    *({name: text} for name in ("role", "content", "reasoning_content", "refusal") for text in (*ODD, "é")),
    {"content": "a", "tool_calls": [{"function": {"arguments": "b"}}]},
]
CHOICES: list[Any] = [
    *ODD,
    *(piece(delta) for delta in DELTAS),
    *({"delta": delta} for delta in DELTAS),
    *(piece({"content": "a"}, index=index) for index in ODD),
    *(piece({"content": "a"}, reason=reason) for reason in (*ODD, "stop", "content_filter")),
    *({**piece({"content": "a"}), "error": error} for error in ODD),
]
CHUNKS: list[dict[str, Any]] = [
    *({"choices": choices} for choices in ODD),
    *({"choices": [choice]} for choice in CHOICES),
    *({"choices": [choice, piece({"content": "a"})]} for choice in CHOICES),
    *({"choices": [choice], "usage": usage} for choice in CHOICES for usage in (None, 1, USAGE)),
]
SAID = payload(piece({"content": "a"}))
ROLE = payload(piece({"role": "assistant", "content": "", "refusal": None}))
END = payload(piece(NO_DELTA, reason="stop"))


# --- Streams: begun and over ---


def test_a_healthy_stream_passes_as_it_came() -> None:
    payloads = [orjson.dumps(chunk) for chunk in CANONICAL.chunks()]
    follower = stream(show_usage=True)
    assert follower.take(payloads) == payloads
    assert (follower.started, follower.complete, follower.filtered, follower.usage) == (True, True, False, USAGE)


@pytest.mark.parametrize("chat", [True, False], ids=["chat", "text"])
def test_a_healthy_stream_is_begun_by_its_first_token_and_over_with_its_finish_reason(chat: bool) -> None:
    answer = Canonical("m", chat=chat)
    follower = stream()
    follower.take([orjson.dumps(chunk) for chunk in answer.opening()])
    assert not follower.started
    follower.take([orjson.dumps(chunk) for chunk in answer.tokens(0, 1)])
    assert (follower.started, follower.complete) == (True, False)
    follower.take([orjson.dumps(answer.finish())])
    assert follower.complete


@pytest.mark.parametrize(
    "delta",
    [
        {"content": "a"},
        {"reasoning_content": "hm"},
        {"refusal": "no"},
        {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}}]},
        {"role": "assistant", "content": "a"},
        {"a_vendors_own": 1},
    ],
    ids=str,
)
def test_whatever_is_of_the_answer_begins_it(delta: dict[str, Any]) -> None:
    follower = stream()
    assert follower.take([payload(piece(delta))])
    assert follower.started


@pytest.mark.parametrize(
    "choice",
    [
        piece({"role": "assistant"}),
        piece({"role": "assistant", "content": "", "refusal": None, "tool_calls": []}),
        piece({}),
        piece(None),
        {"index": 0, "text": ""},
        {"index": 0},
    ],
    ids=str,
)
def test_what_says_nothing_begins_nothing_and_is_passed_on(choice: dict[str, Any]) -> None:
    follower = stream()
    assert follower.take([payload(choice)]) == [payload(choice)]
    assert (follower.started, follower.complete) == (False, False)


def test_an_end_without_a_word_begins_and_ends_the_answer() -> None:
    follower = stream()
    assert follower.take([ROLE, payload(piece(NO_DELTA, reason="content_filter"))])
    assert (follower.started, follower.complete, follower.filtered) == (True, True, True)


def test_a_stream_is_over_when_every_choice_is() -> None:
    follower = stream(choices=3)
    seen = []
    for index in (1, 0, 2):
        follower.take([payload(piece({"content": "a"}, index=index), piece(NO_DELTA, index=index, reason="length"))])
        seen.append(follower.complete)
    assert seen == [False, False, True]


def test_a_choice_without_an_index_is_the_first() -> None:
    follower = stream()
    follower.take([payload({"delta": {"content": "a"}, "finish_reason": "stop"})])
    assert follower.complete


def without_first_index(chunk: dict[str, Any]) -> dict[str, Any]:
    """The same chunk: a choice without an index is the first. Such are not taken at once."""
    choices = chunk["choices"]
    if type(choices) is not list:
        return chunk
    return {**chunk, "choices": [_without_first_index(choice) for choice in choices]}


def _without_first_index(choice: Any) -> Any:
    if type(choice) is not dict or type(choice.get("index")) is not int or choice["index"] != 0:
        return choice
    return {name: value for name, value in choice.items() if name != "index"}


def outcome(chunks: list[dict[str, Any]]) -> object:
    """What becomes of a stream of them, and how many of them are passed on before it fails."""
    follower, passed = stream(show_usage=True), 0
    try:
        for chunk in chunks:
            passed += len(follower.take([orjson.dumps(chunk)]))
    except (MalformedAnswer, ErrorInAnswer) as error:
        return passed, type(error), str(error)
    said = follower.started, follower.pieces, follower.text_bytes
    return passed, said, follower.complete, follower.complete_when_done, follower.filtered, follower.usage


@given(st.lists(st.sampled_from(CHUNKS), max_size=3))
def test_what_is_taken_at_once_is_taken_the_same_when_all_is_looked_at(chunks: list[dict[str, Any]]) -> None:
    assert outcome(chunks) == outcome([without_first_index(chunk) for chunk in chunks])


# --- Streams: order and indexes ---


@pytest.mark.parametrize("late", [{"content": "b"}, {"tool_calls": [{"index": 0}]}], ids=str)
def test_text_after_the_end_of_its_answer_is_malformed(late: dict[str, Any]) -> None:
    follower = stream()
    follower.take([SAID, END])
    with pytest.raises(MalformedAnswer, match="after the end"):
        follower.take([payload(piece(late))])


def test_repeated_ends_are_dropped_and_empty_pieces_after_the_end_are_not() -> None:
    # Azure's filter says what it found in pieces of their own, after the end.
    found = payload({**piece(NO_DELTA), "content_filter_results": {"hate": {"filtered": False}}})
    follower = stream(choices=2)
    assert follower.take([SAID, END, END, found, ROLE]) == [SAID, END, found, ROLE]
    both = payload(piece(NO_DELTA, reason="stop"), piece({"content": "b"}, index=1))
    assert follower.take([both]) == [both]


@pytest.mark.parametrize("index", [1, 7, -1, "0", 0.0, None, True, [], {}], ids=repr)
def test_a_choice_that_nobody_asked_for_is_malformed(index: Any) -> None:
    with pytest.raises(MalformedAnswer, match="index"):
        stream().take([payload(piece({"content": "a"}, index=index))])


def test_an_index_as_deep_as_json_may_be_is_malformed_too() -> None:
    deep = b'{"choices":[{"index":%b%b}]}' % (b"[" * 900, b"]" * 900)
    with pytest.raises(MalformedAnswer, match="index"):
        stream().take([deep])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b'{"choices":{}}',
        b'{"choices":"a"}',
        b'{"choices":[1]}',
        b'{"choices":[null]}',
        b'{"choices":[{"delta":"a"}]}',
        b'{"choices":[{"delta":[1]}]}',
        b'{"choices":[{"delta":{"content":"\xc3\x28"}}]}',
        b'{"choices":' + b"[" * 2000 + b"]" * 2000 + b"}",
    ],
)
def test_what_is_no_chunk_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedAnswer):
        stream().take([data])


def test_what_came_before_the_fault_of_an_answer_that_has_started_is_passed_on() -> None:
    follower = stream()
    follower.take([SAID])
    assert follower.take([SAID, SAID, b"{", SAID]) == [SAID, SAID]
    assert isinstance(follower.failure, MalformedAnswer)


def test_an_answer_that_has_not_started_fails_as_a_whole() -> None:
    follower = stream()
    follower.take([ROLE])
    with pytest.raises(MalformedAnswer):
        follower.take([SAID, b"{"])


# --- Streams: errors, usage, other people's events ---


@pytest.mark.parametrize("error", [{"message": "no"}, "no", 1, ["no"]], ids=str)
def test_an_error_object_is_raised_with_what_stands_in_it(error: Any) -> None:
    with pytest.raises(ErrorInAnswer) as caught:
        stream().take([SAID, orjson.dumps({"error": error})])
    assert caught.value.error == error


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (piece(NO_DELTA, reason="error"), "error"),
        ({**piece(NO_DELTA, reason="error"), "error": {"code": 502}}, {"code": 502}),
        ({**piece({"content": "a"}), "error": {"code": 502}}, {"code": 502}),
    ],
    ids=str,
)
@pytest.mark.parametrize("choices", [1, 2])
def test_a_choice_that_ends_in_an_error_is_no_answer(choice: dict[str, Any], said: Any, choices: int) -> None:
    follower = stream(choices=choices)
    with pytest.raises(ErrorInAnswer) as caught:
        follower.take([SAID, payload(choice)])
    assert caught.value.error == said
    assert not follower.complete


def test_an_error_that_is_null_is_none() -> None:
    data = payload(piece({"content": "a"}), error=None)
    assert stream().take([data]) == [data]


@pytest.mark.parametrize("show_usage", [True, False])
def test_the_usage_is_known_in_any_case_and_passed_to_who_asked(show_usage: bool) -> None:
    alone, beside = payload(usage=USAGE), payload(piece(NO_DELTA, reason="stop"), usage=USAGE)
    for data, passed in ((alone, show_usage), (beside, True)):
        follower = stream(show_usage=show_usage)
        assert follower.take([data]) == ([data] if passed else [])
        assert follower.usage == USAGE


def test_usage_that_counts_on_keeps_the_last() -> None:
    follower = stream()
    for tokens in (1, 2):
        follower.take([payload(piece({"content": "a"}), usage={"completion_tokens": tokens})])
    assert follower.usage == {"completion_tokens": 2}


@pytest.mark.parametrize(
    "later",
    [
        {},
        {"prompt_tokens": None, "completion_tokens": None},
        {"prompt_tokens": "many"},
        {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    ],
    ids=str,
)
def test_a_later_usage_that_says_nothing_does_not_make_up_for_one_that_does(later: dict[str, Any]) -> None:
    follower = stream(show_usage=True)
    follower.take([SAID, END, payload(usage=later), payload(usage=USAGE), payload(usage=later)])
    assert follower.usage == USAGE


CALL = {"id": "call_1", "type": "function", "function": {"name": "four", "arguments": "x" * 100}}


@pytest.mark.parametrize(
    ("delta", "text_bytes"),
    [
        ({"content": "word"}, 4),
        ({"content": "한국어"}, 9),
        ({"role": "assistant", "content": "word", "reasoning_content": None}, 4),
        ({"content": "word", "tool_calls": [CALL]}, 108),
        ({"tool_calls": [CALL, CALL]}, 208),
        ({"function_call": {"name": "four", "arguments": "x" * 100}}, 104),
        ({"reasoning_content": "hm", "content": None}, 2),
        ({"reasoning": "hm", "reasoning_content": "hm", "reasoning_details": [{"text": "hm"}]}, 2),
        ({"refusal": "no"}, 2),
        ({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"text": "word"}]}, 6),
        ({"audio": {"id": "audio_1", "data": "A" * 999, "transcript": "word"}}, 4),
        ({"of next year": {"text": "word"}}, 0),
    ],
)
@pytest.mark.parametrize("reason", [None, "stop"])
def test_how_much_an_answer_says_is_the_same_in_pieces_and_whole(
    delta: dict[str, Any], text_bytes: int, reason: str | None
) -> None:
    follower = stream()
    follower.take([ROLE, payload(piece(delta, reason=reason))])
    assert (follower.pieces, follower.text_bytes) == (1, text_bytes)
    choice = {"index": 0, "message": delta, "finish_reason": "stop", "logprobs": {"content": [{"token": "word"}]}}
    assert text_bytes_of(payload(choice)) == text_bytes


def test_how_much_completions_say() -> None:
    follower = AnswerStream(choices=2, show_usage=False)
    follower.take([payload({"index": index, "text": "word"}) for index in (0, 1, 0)])
    assert (follower.pieces, follower.text_bytes) == (3, 12)
    assert text_bytes_of(payload({"index": 0, "text": "word"}, {"index": 1, "text": "é"})) == 6


def test_what_is_no_answer_says_nothing_and_neither_does_what_is_too_deep() -> None:
    deep = b'{"choices":' + b"[" * 900 + b'"word"' + b"]" * 900 + b"}"
    assert [text_bytes_of(body) for body in (b"", b"[]", b"{}", b'{"choices":5}', deep)] == [0] * 5


def test_a_null_usage_is_cut_out_for_who_did_not_ask_for_it() -> None:
    data = b'{"choices":[{"index":0,"delta":{"content":"a,\\"usage\\":null"}}],"usage":null,"x":1}'
    assert stream().take([data]) == [b'{"choices":[{"index":0,"delta":{"content":"a,\\"usage\\":null"}}],"x":1}']
    assert stream(show_usage=True).take([data]) == [data]


@pytest.mark.parametrize("data", [b"{}", b'{"type":"ping"}', b'{"usage":null}', b'{"choices":null}'])
def test_a_vendors_own_event_is_dropped(data: bytes) -> None:
    follower = stream(show_usage=True)
    assert follower.take([data]) == []
    assert not follower.started


def test_an_event_without_choices_that_is_no_usage_is_passed_on() -> None:
    # Azure's first event holds the filter's results of the prompt, and an empty list of choices.
    data = payload(prompt_filter_results=[])
    assert stream().take([data]) == [data]


def test_line_breaks_between_tokens_of_json_do_not_break_the_event_stream() -> None:
    data = b'{\n"choices": [\n{"index": 0, "delta": {"content": "a\\nb"}}]}'
    (passed,) = stream().take([data])
    assert b"\n" not in passed
    assert orjson.loads(passed) == orjson.loads(data)


# --- Whole answers ---


@pytest.mark.parametrize("chat", [True, False], ids=["chat", "text"])
def test_a_whole_answer_tells_its_usage(chat: bool) -> None:
    whole = WholeAnswer(orjson.dumps(Canonical("m", chat=chat).whole()))
    assert (whole.usage, whole.filtered) == (USAGE, False)


def test_a_whole_answer_that_a_filter_ended_says_so() -> None:
    assert WholeAnswer(orjson.dumps(PLAIN.whole(finish_reason="content_filter", text=""))).filtered


@pytest.mark.parametrize("usage", [None, [], "7", 7], ids=repr)
def test_usage_that_is_no_object_is_none(usage: Any) -> None:
    assert WholeAnswer(orjson.dumps({**PLAIN.whole(), "usage": usage})).usage is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"choices":[]}',
        b'{"choices":{"message":{}}}',
        b'{"choices":[{}]}',
        b'{"choices":[null]}',
        b'{"choices":[{"message":"a"}]}',
        b'{"choices":[{"text":null}]}',
        b'{"choices":[{"index":7,"message":{}}]}',
        b'{"choices":[{"index":"0","message":{}}]}',
        b'{"choices":[{"index":0,"message":{"content":"\xff"}}]}',
        b'{"status":"ok"}',
    ],
)
def test_what_is_no_whole_answer_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedAnswer):
        WholeAnswer(body)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"error": {"code": 502}}, {"code": 502}),
        ({**PLAIN.whole(), "error": {"code": 502}}, {"code": 502}),
        (PLAIN.whole(finish_reason="error"), "error"),
        ({"choices": [{"message": {}, "finish_reason": "stop", "error": {"code": 502}}]}, {"code": 502}),
        ({"choices": [{"text": "a", "finish_reason": "error", "error": {"code": 502}}]}, {"code": 502}),
    ],
    ids=["alone", "beside choices", "finish_reason", "in a choice", "both"],
)
def test_an_error_in_a_whole_answer_is_raised(body: dict[str, Any], error: Any) -> None:
    with pytest.raises(ErrorInAnswer) as caught:
        WholeAnswer(orjson.dumps(body))
    assert caught.value.error == error


# --- A whole answer as a stream ---


@pytest.mark.parametrize("show_usage", [True, False])
@pytest.mark.parametrize("chat", [True, False], ids=["chat", "text"])
def test_a_whole_answer_in_chunks_is_a_complete_stream(chat: bool, show_usage: bool) -> None:
    answer = Canonical("m", chat=chat)
    follower = stream(show_usage=show_usage)
    chunks = follower.take(WholeAnswer(orjson.dumps(answer.whole())).as_chunks(show_usage=show_usage))
    said, *usage = map(orjson.loads, chunks)
    whole = answer.whole()
    assert follower.complete
    assert said["object"] == ("chat.completion.chunk" if chat else "text_completion")
    assert (said["id"], said["model"], said["x_vendor"]) == (whole["id"], "m", VENDOR)
    assert "usage" not in said
    assert [chunk["usage"] for chunk in usage] == ([USAGE] if show_usage else [])
    (choice,) = said["choices"]
    assert choice["finish_reason"] == "stop"
    if chat:
        assert choice["delta"] == {"role": "assistant", "content": whole["choices"][0]["message"]["content"]}
        assert "message" not in choice
    else:
        assert choice == whole["choices"][0]


def test_tool_calls_get_the_indexes_that_chunks_have() -> None:
    calls = [{"id": "a", "type": "function"}, {"id": "b", "type": "function"}]
    body = orjson.dumps(
        {"choices": [{"message": {"content": None, "tool_calls": calls}, "finish_reason": "tool_calls"}]}
    )
    (chunk,) = WholeAnswer(body).as_chunks(show_usage=True)
    (choice,) = orjson.loads(chunk)["choices"]
    assert choice["delta"] == {"tool_calls": [{"index": 0, **calls[0]}, {"index": 1, **calls[1]}]}


def test_an_answer_that_is_nested_too_deeply_to_be_written_is_malformed() -> None:
    deep = b'{"choices":[{"message":{"x":%b%b},"finish_reason":"stop"}]}' % (b"[" * 300, b"]" * 300)
    whole = WholeAnswer(deep)
    with pytest.raises(MalformedAnswer, match="nested"):
        whole.as_chunks(show_usage=True)


@pytest.mark.parametrize(
    ("payloads", "complete"),
    [
        ([SAID], False),
        ([SAID, END], True),  # one choice of the two that were asked for: this server gives no more
        ([SAID, END, payload(piece({"content": "b"}, index=1))], False),
        ([SAID, END, payload(piece({"content": "b"}, index=1)), payload(piece({}, index=1, reason="stop"))], True),
        ([payload(piece({"content": "b"}, index=1)), payload(piece({}, index=1, reason="stop"))], False),
    ],
)
def test_an_upstream_that_says_it_is_done_needs_an_end_for_each_choice_that_began(
    payloads: list[bytes], complete: bool
) -> None:
    follower = stream(choices=2)
    follower.take(payloads)
    assert follower.complete_when_done is complete


def test_a_whole_answer_needs_no_reason_for_its_end_as_its_end_is_there() -> None:
    assert not WholeAnswer(b'{"choices":[{"index":0,"message":{"content":"a"},"finish_reason":null}]}').filtered


def test_each_prompt_needs_its_answer_even_when_the_upstream_says_it_is_done() -> None:
    follower = AnswerStream(choices=3, show_usage=False, at_least=3)
    follower.take([SAID, END])
    assert not follower.complete_when_done
