"""What a stream has said is kept as it was passed on, all of it or nothing."""

from typing import Any

import orjson
import pytest

from genkan.wire.answers import MAX_KEPT_BYTES, AnswerStream, ErrorInAnswer, MalformedAnswer
from genkan.wire.said import Said

HEAD = {"id": "1", "object": "chat.completion.chunk", "created": 7, "model": "m"}


def payload(delta: dict[str, Any], *, end: Any = None, **fields: Any) -> bytes:
    return orjson.dumps({**HEAD, "choices": [{"index": 0, "delta": delta, "finish_reason": end, **fields}]})


def call(index: int, **fields: Any) -> dict[str, Any]:
    return {"index": index, **fields}


def said_by(*payloads: bytes, **options: Any) -> Said:
    """What was said, the payloads coming one by one."""
    follower = AnswerStream(choices=1, show_usage=True, **options)
    for data in payloads:
        follower.take([data])
    assert follower.said is not None
    return follower.said


def runs_of(said: Said) -> list[tuple[Any, ...]]:
    """Each track with what was said there."""
    return [(*track, run.decode()) for track, run in said.runs]


def content(*texts: str) -> list[bytes]:
    return [payload({"content": text}) for text in texts]


def test_text_is_kept_as_it_came_however_it_was_written() -> None:
    texts = ["Xin chào", " 안녕", '"', "\\", "\n", "\u200b", "👨‍👩‍👧", " a", " b"]
    escaped = payload({"content": "@"}).replace(b"@", b"\\ud83d\\ude00")
    said = said_by(*content(*texts), escaped, *content("!"))
    assert said.text == "".join(texts) + "😀!"
    assert (said.pieces, said.size_bytes) == (11, len(said.text.encode()))
    assert said.is_text
    assert said.is_known


@pytest.mark.parametrize("space", [b"", b" "])
def test_a_completions_text_is_text(space: bytes) -> None:
    choices = [{"index": 0, "text": text, "finish_reason": None} for text in ("a", "", "é")]
    chunks = [orjson.dumps({**HEAD, "choices": [choice]}).replace(b":", b":" + space) for choice in choices]
    assert (said_by(*chunks).text, said_by(*chunks).is_text) == ("aé", True)


def test_whose_chunks_they_are_is_what_the_first_with_a_choice_says() -> None:
    filtered = orjson.dumps({"id": "", "choices": [], "prompt_filter_results": []})
    said = said_by(filtered, *content("a"), orjson.dumps({"id": "2", "choices": [{"index": 0, "delta": {}}]}))
    assert said.head == HEAD


@pytest.mark.parametrize(
    ("deltas", "has_role"),
    [
        ([{"role": "assistant", "content": ""}, {"content": "a"}], True),
        ([{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}], True),
        ([{"role": None, "content": "a"}, {"content": "b"}], False),
    ],
)
def test_whether_a_role_was_given(deltas: list[dict[str, Any]], has_role: bool) -> None:
    said = said_by(*map(payload, deltas))
    assert (said.has_role, said.is_text) == (has_role, True)


def test_what_says_nothing_is_nothing() -> None:
    empty: list[dict[str, Any]] = [
        {},
        {"content": None},
        {"content": ""},
        {"content": None, "refusal": None, "tool_calls": []},
    ]
    usage = orjson.dumps({**HEAD, "choices": [], "usage": {"prompt_tokens": 1}})
    said = said_by(*map(payload, empty), *content("a"), usage, *map(payload, empty))
    assert (said.text, said.pieces, runs_of(said)) == ("a", 1, [("text", "a")])


def test_thoughts_under_two_names_are_thought_once() -> None:
    thoughts = [payload({"content": None, "reasoning_content": text, "reasoning": text}) for text in ("hm", ", yes")]
    said = said_by(*thoughts, *content("a", "b"))
    assert runs_of(said) == [("reasoning", "hm, yes"), ("text", "ab")]
    assert said.reasoning_names == ("reasoning_content", "reasoning")
    assert (said.is_known, said.is_text, said.text) == (True, False, "ab")


def test_tracks_are_kept_in_the_order_in_which_they_were_said() -> None:
    """With a template learnt for each in between."""
    think = [payload({"reasoning": text}) for text in ("1", "2", "3")]
    again = [payload({"reasoning": text}) for text in ("4", "5", "6")]
    refused = payload({"refusal": "no"})
    said = said_by(*think, *content("a", "b", "c"), *again, refused, *content("d", "e"))
    assert runs_of(said) == [
        ("reasoning", "123"),
        ("text", "abc"),
        ("reasoning", "456"),
        ("refusal", "no"),
        ("text", "de"),
    ]


def test_one_chunk_may_say_several_things() -> None:
    calls = [
        call(0, id="x", type="function", function={"arguments": "{}", "name": "f"}),
        call(1, id="y", type="function", function={"name": "g", "arguments": ""}),
    ]
    more = payload({"tool_calls": [call(1, function={"arguments": "[1"}), call(1, function={"arguments": "]"})]})
    said = said_by(payload({"tool_calls": calls, "content": "b", "reasoning": "a"}), more)
    assert runs_of(said) == [
        ("reasoning", "a"),
        ("text", "b"),
        ("tool", 0, "id", "*"),
        ("tool", 0, "function", "name", "f"),
        ("tool", 0, "function", "arguments", "{}"),
        ("tool", 1, "id", "*"),
        ("tool", 1, "function", "name", "g"),
        ("tool", 1, "function", "arguments", "[1]"),
    ]
    assert (said.calls, said.is_known, said.is_text) == ({0, 1}, True, False)


def test_ids_that_are_repeated_count_once() -> None:
    begun = payload({"tool_calls": [call(0, id="x", function={"name": "f"})]})
    more = payload({"tool_calls": [call(0, id="x", function={"arguments": "{}"})]})
    assert [track[-1] for track, _ in said_by(begun, more, more).runs] == ["id", "name", "arguments"]


def test_a_call_of_the_older_kind_is_known() -> None:
    deltas = [{"function_call": {"name": "f", "arguments": ""}}, {"function_call": {"arguments": "{}"}}]
    said = said_by(*map(payload, deltas))
    assert runs_of(said) == [("function_call", "name", "f"), ("function_call", "arguments", "{}")]


@pytest.mark.parametrize(
    "odd",
    [
        payload({"audio": {"data": "a"}}),
        payload({"content": [{"type": "text", "text": "a"}]}),
        payload({"reasoning": "a", "reasoning_content": "b"}),
        payload({"content": "a"}, text="a"),
        payload({"content": "a"}, message={"content": "a"}),
        payload({"tool_calls": "f"}),
        payload({"tool_calls": ["f"]}),
        payload({"tool_calls": [{"id": "x", "function": {"name": "f"}}]}),  # no index
        payload({"tool_calls": [call(0, extra_content={"signature": "s"})]}),
        payload({"tool_calls": [call(0, function={"arguments": {"a": 1}})]}),
        payload({"tool_calls": [call(0, function="f")]}),
        payload({"function_call": "f"}),
    ],
    ids=str,
)
def test_what_nobody_knows_makes_all_of_it_unknown(odd: bytes) -> None:
    said = said_by(*content("a", "b"), odd, *content("c", "d"))
    assert (said.is_known, said.is_text, said.size_bytes) == (False, False, 0)


def test_another_call_with_the_same_number_is_unknown() -> None:
    whole = payload({"tool_calls": [call(0, id="x", function={"name": "f", "arguments": "{}"})]})
    assert said_by(whole).is_known
    assert not said_by(whole, whole).is_known


def test_fields_that_say_nothing_of_the_answer_do_not_matter() -> None:
    said = said_by(payload({"content": "a", "audio": None}, stop_reason=1, logprobs={"content": []}, seed=None))
    assert said.is_text


@pytest.mark.parametrize("end", ["stop", "length", "content_filter"])
def test_an_answer_that_has_ended_is_not_gone_on_with(end: str) -> None:
    said = said_by(*content("a"), payload({"content": "b"}, end=end))
    assert (said.text, said.has_ended, said.is_known, said.is_text) == ("ab", True, False, False)


# --- What is kept, and how much ---


@pytest.mark.parametrize("options", [{"choices": 2}, {"choices": 1, "keep_bytes": 0}])
def test_what_cannot_be_gone_on_with_is_not_kept(options: dict[str, int]) -> None:
    follower = AnswerStream(show_usage=True, **options)
    assert follower.take(content("a", "b", "c")) == content("a", "b", "c")
    assert follower.said is None


@pytest.mark.parametrize("texts", [["abc"] * 5, ['"b"'] * 5, ["a" * 13]], ids=["known", "parsed", "at once"])
def test_beyond_the_limit_nothing_is_kept_any_more(texts: list[str]) -> None:
    assert said_by(*content(*texts[:-1], "12"), keep_bytes=14).is_known
    said = said_by(*content(*texts, "xy"), keep_bytes=14)
    assert (said.is_known, said.size_bytes, said.runs) == (False, 0, [])


def test_no_limit_is_higher_than_all() -> None:
    said = said_by(*content("a", *["b" * (1 << 20)] * 4), keep_bytes=MAX_KEPT_BYTES * 2)
    assert (said.is_known, said.size_bytes) == (False, 0)


def test_an_answer_that_goes_to_and_fro_for_ever_is_not_kept() -> None:
    both = [data for _ in range(600) for data in (payload({"reasoning": "a"}), *content("b"))]
    assert said_by(*both[:1024]).is_known
    assert not said_by(*both).is_known


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (b'{"error":{"message":"no"}}', ErrorInAnswer),
        (payload({"content": "x"}, index=1), MalformedAnswer),
        (b"{", MalformedAnswer),
    ],
)
def test_only_what_was_passed_on_was_said(bad: bytes, error: type[Exception]) -> None:
    follower = AnswerStream(choices=1, show_usage=False)
    follower.take(content("a"))
    assert follower.take([*content("b"), bad, *content("c")]) == content("b")
    assert isinstance(follower.failure, error)
    assert follower.said is not None
    assert (follower.said.text, follower.said.pieces) == ("ab", 2)


# --- Going on ---


@pytest.mark.parametrize(
    ("stops", "is_within"),
    [([], False), (["\n\n"], True), (["b"], False), (["\nEND", "x"], True), (["x\n"], False), (["a b\n"], False)],
)
def test_whether_a_text_ends_within_a_stop_string(stops: list[str], is_within: bool) -> None:
    assert said_by(*content("a b", "\n")).ends_within(stops) == is_within


def test_an_extended_answer_is_both() -> None:
    first = said_by(payload({"role": "assistant", "reasoning": "hm"}), *content("a", "b"))
    other = said_by(*content("c"), payload({"tool_calls": [call(0, id="x")]}))
    both = first.extended(other)
    assert runs_of(both) == [("reasoning", "hm"), ("text", "abc"), ("tool", 0, "id", "*")]
    assert (both.pieces, both.calls, both.has_role, both.reasoning_names) == (5, {0}, True, ("reasoning",))
    assert (first.text, first.calls) == ("ab", set())
    assert both.head == first.head


def test_what_is_extended_by_the_unknown_is_unknown() -> None:
    odd = said_by(payload({"audio": {"data": "a"}}))
    known = said_by(*content("a"))
    assert not known.extended(odd).is_known
    assert not odd.extended(known).is_known
    assert not known.replayed(odd).is_known


def test_a_replayed_answer_keeps_whose_it_is() -> None:
    first = said_by(payload({"reasoning": "h"}))
    deltas = [{"role": "assistant", "reasoning_content": "hm"}, {"content": "a"}]
    other = said_by(*(orjson.dumps({"id": "2", "choices": [{"index": 0, "delta": delta}]}) for delta in deltas))
    now = first.replayed(other)
    assert (now.head, now.reasoning_names, now.has_role) == (HEAD, ("reasoning",), True)
    assert (runs_of(now), now.pieces) == ([("reasoning", "hm"), ("text", "a")], 2)
