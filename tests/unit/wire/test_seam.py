"""Where another stream goes on: what of it is new, and whose it is then."""

from typing import Any

import orjson
import pytest

from genkan.wire.answers import AnswerStream
from genkan.wire.said import Said
from genkan.wire.seam import Diverged, Seam, with_usage

HEAD = {"id": "1", "object": "chat.completion.chunk", "created": 7, "model": "m", "system_fingerprint": "fp"}
OTHER = {**HEAD, "id": "2", "created": 8, "model": "n", "system_fingerprint": "fq"}
LOGPROBS = {"content": [{"token": "a", "logprob": -1.0}]}


def chunk(delta: dict[str, Any], *, end: str | None = None, head: dict[str, Any] = OTHER, **fields: Any) -> bytes:
    return orjson.dumps({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": end, **fields}]})


def texts(*each: str, head: dict[str, Any] = OTHER) -> list[bytes]:
    return [chunk({"content": text}, head=head) for text in each]


def said_by(*deltas: dict[str, Any], head: dict[str, Any] = HEAD) -> Said:
    follower = AnswerStream(choices=1, show_usage=True)
    follower.take([chunk(delta, head=head) for delta in deltas])
    assert follower.said is not None
    return follower.said


def replay(*deltas: dict[str, Any]) -> Seam:
    return Seam(said_by(*deltas), "replay")


def after(seam: Seam, *deltas: dict[str, Any], **options: Any) -> list[dict[str, Any]]:
    """The deltas that the client gets of these."""
    passed = [orjson.loads(data) for data in seam.take([chunk(delta, **options) for delta in deltas])]
    return [choice["delta"] for each in passed for choice in each["choices"]]


def calls(*each: dict[str, Any]) -> dict[str, Any]:
    return {"tool_calls": list(each)}


def call(name: str, arguments: str, *, identity: str = "x", index: int = 0) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"index": index, "id": identity, "type": "function", "function": function}


def more(arguments: str, index: int = 0) -> dict[str, Any]:
    return {"index": index, "function": {"arguments": arguments}}


# --- What is new ---


def test_the_chunk_in_which_the_last_byte_is_found_is_cut_there() -> None:
    seam = replay({"content": "Xin "}, {"content": "ch"})
    assert (after(seam, {"role": "assistant", "content": ""}, {"content": "Xi"}), seam.joined) == ([], False)
    assert (after(seam, {"content": "n chào"}, {"content": "!"}), seam.joined) == (
        [{"content": "ào"}, {"content": "!"}],
        True,
    )
    seam.end()


def test_a_seam_on_a_chunks_edge_cuts_none() -> None:
    seam = replay({"content": "ab"})
    assert (after(seam, {"content": "a"}, {"content": "b"}), seam.joined) == ([], True)
    assert after(seam, {"content": "c"}) == [{"content": "c"}]


@pytest.mark.parametrize("way", ["prompt", "prefill"])
def test_what_goes_on_by_itself_is_new_from_its_first_word(way: Any) -> None:
    seam = Seam(said_by({"role": "assistant", "content": "ab"}), way)
    assert after(seam, {"role": "assistant", "content": ""}, {"content": "bc"}) == [{"content": "bc"}]


def test_a_prefill_says_the_space_at_the_texts_end_again() -> None:
    said = said_by({"content": "Xin chào\n"})
    seam = Seam(said, "prefill")
    assert after(seam, {"role": "assistant", "content": ""}) == []
    assert (seam.joined, seam.now(said_by({}))) == (False, said)
    assert after(seam, {"content": "\n\nb"}) == [{"content": "\nb"}]
    assert seam.now(said_by({"content": "\n\nb"})).text == "Xin chào\n\nb"
    assert said.text == "Xin chào\n"
    for other in ({"content": "Xin chào\n"}, {"content": " b"}, {"reasoning": "\n"}):
        with pytest.raises(Diverged, match="after 8 characters"):
            after(Seam(said, "prefill"), other)
    assert after(Seam(said, "prompt"), {"content": "b"}) == [{"content": "b"}]  # that is given all of it


ANEW = "chúng ta bắt đầu"


def test_a_prefill_that_begins_anew_is_another_answer() -> None:
    seam = Seam(said_by({"role": "assistant", "content": ANEW}), "prefill")
    assert after(seam, {"role": "assistant", "content": ""}, *({"content": each} for each in ANEW[:-1])) == []
    with pytest.raises(Diverged, match="begins anew after 16 characters"):
        after(seam, {"content": ANEW[-1]})
    with pytest.raises(Diverged, match="begins anew"):
        after(Seam(said_by({"content": ANEW}), "prefill"), {"content": f"{ANEW} và"})


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_nor_does_a_prefill_begin_with_thoughts(name: str) -> None:
    with pytest.raises(Diverged, match="begins anew"):
        after(Seam(said_by({"content": "a"}), "prefill"), {name: "hm"})


@pytest.mark.parametrize(
    "last", [{"content": "á"}, {"content": ANEW[5:7] + "x"}, {"refusal": "no"}, calls(call("f", ""))], ids=str
)
def test_what_only_begins_like_the_text_is_held_back_until_it_differs(last: dict[str, Any]) -> None:
    seam = Seam(said_by({"content": ANEW}), "prefill")
    assert after(seam, {"content": ANEW[:2]}, {"content": ANEW[2:5]}) == []
    passed = after(seam, last, {"content": ANEW}, {"reasoning": "hm"})
    assert passed == [{"content": ANEW[:2]}, {"content": ANEW[2:5]}, last, {"content": ANEW}, {"reasoning": "hm"}]


def test_an_end_lets_go_what_was_held_back() -> None:
    seam = Seam(said_by({"content": ANEW}), "prefill")
    assert after(seam, {"content": ANEW[:2]}) == []
    assert after(seam, {}, end="stop") == [{"content": ANEW[:2]}, {}]


def test_a_prefill_that_is_echoed_is_found_like_a_replay() -> None:
    seam = Seam(said_by({"content": "ab"}), "prefill", echoes=True)
    assert after(seam, {"content": "abc"}) == [{"content": "c"}]


def test_after_nothing_everything_is_new() -> None:
    assert after(replay({"role": "assistant"}), {"role": "assistant"}, {"content": "a"}) == [{"content": "a"}]


def test_an_end_with_the_last_text_goes_on_without_it() -> None:
    (data,) = replay({"content": "ab"}).take([chunk({"content": "ab"}, end="stop", logprobs=LOGPROBS)])
    assert orjson.loads(data)["choices"] == [{"index": 0, "delta": {}, "finish_reason": "stop", "logprobs": None}]


def test_a_completions_choice_keeps_its_text() -> None:
    choice = {"index": 0, "text": "ab", "finish_reason": "stop"}
    follower = AnswerStream(choices=1, show_usage=True)
    follower.take([orjson.dumps({"id": "1", "choices": [{**choice, "finish_reason": None}]})])
    assert follower.said is not None
    (data,) = Seam(follower.said, "replay").take([orjson.dumps({"id": "2", "choices": [choice]})])
    assert orjson.loads(data) == {"id": "1", "choices": [{**choice, "text": ""}]}


@pytest.mark.parametrize("name", ["logprobs", "token_ids"])
def test_what_tells_of_all_of_a_chunks_text_cannot_be_cut(name: str) -> None:
    field: dict[str, Any] = {name: LOGPROBS}
    on_edge = replay({"content": "ab"})
    assert on_edge.take([chunk({"content": "ab"}, **field)]) == []
    assert orjson.loads(on_edge.take([chunk({"content": "c"}, **field)])[0])["choices"][0][name] == LOGPROBS
    with pytest.raises(Diverged, match=name):
        replay({"content": "ab"}).take([chunk({"content": "abc"}, **field)])


def test_chunks_without_a_choice_are_the_clients_once_it_is_joined() -> None:
    filtered, usage = orjson.dumps({**OTHER, "choices": []}), orjson.dumps({**OTHER, "choices": [], "usage": {"a": 1}})
    seam = replay({"content": "a"})
    assert seam.take([filtered, usage, *texts("a")]) == []
    assert [orjson.loads(data) for data in seam.take([usage])] == [{**HEAD, "choices": [], "usage": {"a": 1}}]


def test_chunks_that_say_nothing_pass_as_long_as_nothing_was_taken_from_them() -> None:
    seam = replay({"content": "a"})
    assert after(seam, {"content": "a"}, {}, {"content": ""}) == [{}, {"content": ""}]


# --- Another answer ---


@pytest.mark.parametrize(
    ("said", "came", "after_chars"),
    [
        ([{"content": "Chào bạn"}], [{"content": "Chào "}, {"content": "anh"}], 5),
        ([{"content": "Chào bạn"}], [{"content": "chào"}], 0),
        ([{"content": "é"}], [{"content": "è"}], 0),  # two bytes, of which one is the same
        ([{"content": "é"}], [{"content": "e\u0301"}], 0),
        ([{"content": "ab"}], [{"content": "a"}, {"reasoning": "b"}], 1),
        ([{"reasoning": "a"}, {"content": "b"}], [{"reasoning": "ab"}], 1),
        ([{"reasoning": "a"}, {"content": "b"}], [{"content": "b"}], 0),
        ([{"content": "a"}, calls(call("f", "{"))], [{"content": "a"}, {"content": "b"}], 1),
        ([calls(call("f", "{"))], [calls(call("g", "{"))], 0),
        ([calls(call("f", "{"))], [calls(call("f", "["))], 1),
        ([calls(call("f", "{", index=1))], [calls(call("f", "{"))], 0),
        ([calls(call("f", "{}"))], [{"content": "I cannot"}], 0),
        ([{"content": "ab"}], [{"content": "a"}, {"audio": {"data": "b"}}], 1),
    ],
    ids=str,
)
def test_what_differs_is_another_answer(
    said: list[dict[str, Any]], came: list[dict[str, Any]], after_chars: int
) -> None:
    seam = replay(*said)
    assert after(seam, *came[:-1]) == []
    with pytest.raises(Diverged) as caught:
        after(seam, came[-1])
    assert caught.value.after_chars == after_chars
    assert str(caught.value).endswith(f"after {after_chars} characters")
    assert not seam.joined


def test_an_answer_that_ends_too_soon_is_another() -> None:
    seam = replay({"content": "ab"})
    with pytest.raises(Diverged, match="ended after 1 characters"):
        seam.take([chunk({"content": "a"}, end="stop")])
    with pytest.raises(Diverged, match="ended after 1 characters"):
        seam.end()


def test_what_nobody_knows_passes_once_it_is_joined() -> None:
    seam = replay({"content": "a"})
    assert after(seam, {"content": "a"}, {"audio": {"data": "b"}}) == [{"audio": {"data": "b"}}]


def test_a_chunk_that_nobody_can_write_is_no_answer() -> None:
    deep = b"[" * 300 + b"]" * 300
    seam = replay({"content": "a"})
    seam.take(texts("a"))
    with pytest.raises(Diverged, match="nested"):
        seam.take([chunk({"content": "b"}).replace(b'"b"', b'"b","x":' + deep)])


# --- Whose it is ---


@pytest.mark.parametrize("missing", [None, "system_fingerprint", "created"])
def test_every_chunk_is_the_first_streams(missing: str | None) -> None:
    head = {name: value for name, value in HEAD.items() if name != missing}
    seam = Seam(said_by({"content": "a"}, head=head), "prefill")
    for data in seam.take([*texts("b"), orjson.dumps({"choices": []})]):
        assert {name: value for name, value in orjson.loads(data).items() if name != "choices"} == head


def test_other_fields_stay_the_other_streams() -> None:
    seam = Seam(said_by({"content": "a"}), "prefill")
    (data,) = seam.take([chunk({"content": "b"}, head={**OTHER, "provider": "p"})])
    assert orjson.loads(data)["provider"] == "p"


def test_a_mark_goes_with_the_first_chunk_that_the_client_gets() -> None:
    seam = Seam(said_by({"content": "a"}), "replay", mark={"model": "n", "way": "replay"})
    passed = [orjson.loads(data) for data in seam.take(texts("a", "b", "c"))]
    assert [each.get("genkan") for each in passed] == [{"resumed": {"model": "n", "way": "replay"}}, None]


@pytest.mark.parametrize(("said", "roles"), [({"role": "assistant", "content": "a"}, 0), ({"content": "a"}, 1)])
def test_a_role_is_given_once(said: dict[str, Any], roles: int) -> None:
    both = {"role": "assistant", "content": "b"}
    passed = after(Seam(said_by(said), "prefill"), both, both)
    assert [delta["content"] for delta in passed] == ["b", "b"]
    assert sum("role" in delta for delta in passed) == roles


@pytest.mark.parametrize("names", [["reasoning"], ["reasoning_content"], ["reasoning_content", "reasoning"]])
@pytest.mark.parametrize("others", [["reasoning"], ["reasoning_content"], ["reasoning_content", "reasoning"]])
def test_thoughts_go_on_under_the_names_that_they_had(names: list[str], others: list[str]) -> None:
    seam = replay(dict.fromkeys(names, "hm"))
    passed = after(seam, dict.fromkeys(others, "hm, "), dict.fromkeys(others, "yes"), {"content": "a"})
    assert passed == [dict.fromkeys(names, ", "), dict.fromkeys(names, "yes"), {"content": "a"}]


# --- Calls ---


def test_a_call_goes_on_without_what_the_client_has_of_it() -> None:
    seam = replay({"content": "a"}, calls(call("f", "")), calls(more('{"a"')))
    assert after(seam, {"content": "a"}, calls(call("f", '{"', identity="y"))) == []
    assert after(seam, calls(more('a": 1')), calls(more("}"))) == [calls(more(": 1")), calls(more("}"))]


def test_a_call_of_which_only_the_name_was_said_goes_on_with_its_arguments() -> None:
    seam = replay(calls(call("f", "")))
    assert after(seam, calls(call("f", "{}", identity="y"))) == [calls(more("{}"))]
    assert after(seam, calls({"index": 0, "id": "y", "function": {"arguments": ""}})) == []


def test_calls_that_begin_after_the_seam_pass_as_they_are() -> None:
    new = call("g", "[", identity="z", index=1)
    seam = replay(calls(call("f", "{")))
    assert after(seam, calls(call("f", "{}", identity="y"), new)) == [calls(more("}"), new)]
    assert after(seam, calls(more("]", index=1))) == [calls(more("]", index=1))]


def test_another_call_with_the_same_number_passes_as_it_is() -> None:
    seam = replay(calls(call("f", "{}")))
    assert after(seam, calls(call("f", "{}", identity="y"))) == []
    assert after(seam, calls(call("f", "{}", identity="z"))) == [calls(call("f", "{}", identity="z"))]


def test_ids_that_are_repeated_are_given_once() -> None:
    again = {"index": 0, "id": "y", "type": "function", "function": {"arguments": "}"}}
    seam = replay(calls(call("f", "{")))
    assert after(seam, calls(call("f", "{", identity="y")), calls(again)) == [calls(more("}"))]


@pytest.mark.parametrize("odd", [calls("f"), {"tool_calls": "f"}, calls({"index": 0, "function": "f"})], ids=str)  # type: ignore[arg-type]  # what servers may send
def test_odd_calls_pass_once_it_is_joined(odd: dict[str, Any]) -> None:
    assert after(Seam(said_by({"content": "a"}), "prefill"), odd) == [odd]


# --- What the client has now ---


def test_what_the_client_has_grows_once_it_is_joined() -> None:
    said = said_by({"content": "ab"})
    seam = Seam(said, "replay")
    seam.take(texts("a"))
    assert seam.now(said_by({"content": "a"})) is said
    seam.take(texts("bc"))
    assert seam.now(said_by({"content": "a"}, {"content": "bc"}, head=OTHER)).text == "abc"
    on = Seam(said, "prompt").now(said_by({"content": "c"}, head=OTHER))
    assert (on.text, on.head) == ("abc", HEAD)


def test_usage_takes_the_place_of_usage() -> None:
    data = orjson.dumps({**HEAD, "choices": [], "usage": {"total_tokens": 1}})
    assert orjson.loads(with_usage(data, {"total_tokens": 2})) == {**HEAD, "choices": [], "usage": {"total_tokens": 2}}


def test_a_usage_that_stands_elsewhere_is_none_of_ours() -> None:
    data = chunk({}, end="stop", head={**HEAD, "x_groq": {"usage": {"total_tokens": 1}}})
    assert with_usage(data, {"total_tokens": 2}) == data
