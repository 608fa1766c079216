"""The objects of OpenAI's API, byte for byte where clients look."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from genkan.engine.logprobs import TokenLogprobs
from genkan.serving.logprobs import TokenWords
from genkan.serving.pieces import Piece, Scored, Usage, WholeAnswer
from genkan.serving.shapes import ChatShape, CompletionShape, Shape
from genkan.serving.tools.deltas import CallArguments, CallBegan, Delta, TextDelta
from genkan.upstream.tokenizer import TextTokenizer

IDENTITY: dict[str, Any] = {"id": "x-1", "created": 7, "model": "m", "system_fingerprint": "f"}
USAGE = Usage(prompt_tokens=10, completion_tokens=3, cached_tokens=4)
USAGE_OBJECT = {
    "prompt_tokens": 10,
    "completion_tokens": 3,
    "total_tokens": 13,
    "prompt_tokens_details": {"cached_tokens": 4},
    "cached_tokens": 4,
}
TEXT = 'a "quoted"\n日本\\ 😀'
CALLS: list[Delta] = [
    CallBegan(0, "call_a", "add"),
    CallArguments(0, '{"a":'),
    CallArguments(0, "1}"),
    CallBegan(1, "call_b", "sub"),
    CallArguments(1, "{}"),
]
OPENING = {"delta": {"role": "assistant", "content": ""}}


class Shapes:
    """Makes shapes of one model."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self._words = TokenWords(tokenizer)

    def chat(self, *, usage_in_chunks: bool = False) -> ChatShape:
        return ChatShape(IDENTITY, self._words, usage_in_chunks=usage_in_chunks)

    def completion(self, *, usage_in_chunks: bool = False) -> CompletionShape:
        return CompletionShape(IDENTITY, self._words, usage_in_chunks=usage_in_chunks)

    def both(self, *, usage_in_chunks: bool = False) -> tuple[Shape, Shape]:
        return self.chat(usage_in_chunks=usage_in_chunks), self.completion(usage_in_chunks=usage_in_chunks)


@pytest.fixture
def shapes(tokenizer: TextTokenizer) -> Shapes:
    return Shapes(tokenizer)


def chunk(kind: str, choice: dict[str, Any], reason: str | None = None, *, index: int = 0) -> dict[str, Any]:
    whole_choice = {"index": index, **choice, "logprobs": None, "finish_reason": reason}
    return {"object": kind, **IDENTITY, "choices": [whole_choice]}


def chat_chunk(choice: dict[str, Any], reason: str | None = None, *, index: int = 0) -> dict[str, Any]:
    return chunk("chat.completion.chunk", choice, reason, index=index)


def chunks(shape: Shape, *pieces: Piece) -> list[Any]:
    return [json.loads(one) for piece in pieces for one in shape.chunks(piece)]


def says(text: str, answer: int = 0) -> Piece:
    return Piece(answer, (TextDelta(text),))


def ends(reason: str, answer: int = 0) -> Piece:
    return Piece(answer, (), (), reason)


def answered(deltas: Sequence[Delta], reason: str, scored: Sequence[Scored] = ()) -> WholeAnswer:
    answer = WholeAnswer()
    answer.take(Piece(0, deltas, scored, reason))
    return answer


# Streams


def test_a_chat_opens_with_the_role_and_goes_on_with_text(shapes: Shapes) -> None:
    assert chunks(shapes.chat(), says(TEXT), says("b")) == [
        chat_chunk(OPENING),
        chat_chunk({"delta": {"content": TEXT}}),
        chat_chunk({"delta": {"content": "b"}}),
    ]


def test_a_completion_begins_with_its_text(shapes: Shapes) -> None:
    assert chunks(shapes.completion(), says(TEXT)) == [chunk("text_completion", {"text": TEXT})]


def test_a_chat_closes_with_an_empty_delta_and_the_reason(shapes: Shapes) -> None:
    assert chunks(shapes.chat(), says("a"), ends("stop"))[-1] == chat_chunk({"delta": {}}, "stop")


def test_a_completion_closes_with_an_empty_text_and_the_reason(shapes: Shapes) -> None:
    assert chunks(shapes.completion(), ends("length")) == [chunk("text_completion", {"text": ""}, "length")]


def test_a_piece_that_ends_its_answer_is_two_chunks(shapes: Shapes) -> None:
    last = Piece(0, (TextDelta("b"),), (), "stop")
    assert [one["choices"][0]["finish_reason"] for one in chunks(shapes.completion(), last)] == [None, "stop"]
    assert [one["choices"][0]["finish_reason"] for one in chunks(shapes.chat(), says("a"), last)[2:]] == [None, "stop"]


def test_each_of_several_answers_opens_and_closes_for_itself(shapes: Shapes) -> None:
    pieces = [says("b", 1), says("a", 0), ends("stop", 1), says("c", 0), ends("length", 0)]
    assert chunks(shapes.chat(), *pieces) == [
        chat_chunk(OPENING, index=1),
        chat_chunk({"delta": {"content": "b"}}, index=1),
        chat_chunk(OPENING),
        chat_chunk({"delta": {"content": "a"}}),
        chat_chunk({"delta": {}}, "stop", index=1),
        chat_chunk({"delta": {"content": "c"}}),
        chat_chunk({"delta": {}}, "length"),
    ]


def test_calls_come_as_openai_sends_them(shapes: Shapes) -> None:
    def call(**fields: Any) -> dict[str, Any]:
        return chat_chunk({"delta": {"tool_calls": [fields]}})

    first = {"index": 0, "id": "call_a", "type": "function", "function": {"name": "add", "arguments": ""}}
    second = {"index": 1, "id": "call_b", "type": "function", "function": {"name": "sub", "arguments": ""}}
    assert chunks(shapes.chat(), *(Piece(0, (delta,)) for delta in CALLS), ends("tool_calls")) == [
        chat_chunk({"delta": {"role": "assistant", "content": None}}),
        call(**first),
        call(index=0, function={"arguments": '{"a":'}),
        call(index=0, function={"arguments": "1}"}),
        call(**second),
        call(index=1, function={"arguments": "{}"}),
        chat_chunk({"delta": {}}, "tool_calls"),
    ]


def test_an_answer_that_speaks_before_it_calls_opens_with_text(shapes: Shapes) -> None:
    opening, text, *_ = chunks(shapes.chat(), Piece(0, (TextDelta("I look."), *CALLS)))
    assert opening == chat_chunk(OPENING)
    assert text == chat_chunk({"delta": {"content": "I look."}})


def test_with_usage_asked_for_every_chunk_before_the_last_has_a_null_one(shapes: Shapes) -> None:
    for shape in shapes.both(usage_in_chunks=True):
        assert {one["usage"] for one in chunks(shape, says("a"), ends("stop"))} == {None}


def test_without_usage_asked_for_no_chunk_names_it(shapes: Shapes) -> None:
    for shape in shapes.both():
        assert not any("usage" in one for one in chunks(shape, says("a"), ends("stop")))


def test_the_usage_chunk_has_no_choices(shapes: Shapes) -> None:
    for shape, kind in zip(
        shapes.both(usage_in_chunks=True), ("chat.completion.chunk", "text_completion"), strict=True
    ):
        assert json.loads(shape.usage(USAGE)) == {"object": kind, **IDENTITY, "choices": [], "usage": USAGE_OBJECT}


# Log probabilities


@pytest.fixture
def scored(tokenizer: TextTokenizer) -> list[Scored]:
    hello, there = tokenizer.encode("Hello there")
    return [
        Scored(hello, TokenLogprobs(-0.5, ((hello, -0.5), (there, -1.5))), 0),
        Scored(there, TokenLogprobs(-2.0, ((hello, float("-inf")), (hello, float("-inf")))), 5),
    ]


def test_log_probabilities_go_with_the_first_chunk_of_their_piece(shapes: Shapes, scored: list[Scored]) -> None:
    piece = Piece(0, (TextDelta("Hello"), *CALLS[:2]), scored, "tool_calls")
    logprobs = [one["choices"][0]["logprobs"] for one in chunks(shapes.chat(), piece)]
    assert [each is None for each in logprobs] == [True, False, True, True, True]
    assert [entry["token"] for entry in logprobs[1]["content"]] == ["Hello", " there"]


def test_without_a_text_they_have_a_chunk_of_their_own(shapes: Shapes, scored: list[Scored]) -> None:
    opening, own, closing = chunks(shapes.chat(), Piece(0, (), scored, "length"))
    assert own["choices"][0]["delta"] == {"content": ""}
    assert len(own["choices"][0]["logprobs"]["content"]) == 2
    assert [one["choices"][0]["logprobs"] for one in (opening, closing)] == [None, None]


def test_more_than_the_gateway_reads_in_one_event_are_divided(shapes: Shapes, scored: list[Scored]) -> None:
    for shape in shapes.both():
        sent = chunks(shape, Piece(0, (TextDelta("Hello" * 3000),), scored * 1500, "length"))
        written = [one["choices"][0]["logprobs"] for one in sent]
        sizes = [len(each.get("content") or each["tokens"]) for each in written if each is not None]
        assert sum(sizes) == 3000
        assert len(sizes) > 1
        assert max(len(json.dumps(one)) for one in sent) < 1 << 19


# Whole answers


def test_a_whole_chat_is_a_message(shapes: Shapes) -> None:
    assert json.loads(shapes.chat().whole([answered([TextDelta(TEXT)], "stop")], USAGE)) == {
        "object": "chat.completion",
        **IDENTITY,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": TEXT, "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": USAGE_OBJECT,
    }


def test_a_whole_completion_is_a_text(shapes: Shapes) -> None:
    assert json.loads(shapes.completion().whole([answered([TextDelta(TEXT)], "length")], USAGE)) == {
        **chunk("text_completion", {"text": TEXT}, "length"),
        "usage": USAGE_OBJECT,
    }


@pytest.mark.parametrize(("said", "content"), [("", None), ("I look.", "I look.")])
def test_a_whole_chat_has_its_calls(shapes: Shapes, said: str, content: str | None) -> None:
    deltas: list[Delta] = [*([TextDelta(said)] if said else []), *CALLS]
    (choice,) = json.loads(shapes.chat().whole([answered(deltas, "tool_calls")], USAGE))["choices"]
    assert choice["message"] == {
        "role": "assistant",
        "content": content,
        "refusal": None,
        "tool_calls": [
            {"id": "call_a", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}},
            {"id": "call_b", "type": "function", "function": {"name": "sub", "arguments": "{}"}},
        ],
    }
    assert choice["finish_reason"] == "tool_calls"


def test_several_answers_are_choices_in_order(shapes: Shapes) -> None:
    answers = [answered([TextDelta(text)], "stop") for text in "abc"]
    for shape in shapes.both():
        choices = json.loads(shape.whole(answers, USAGE))["choices"]
        assert [choice["index"] for choice in choices] == [0, 1, 2]
        assert [choice.get("text") or choice["message"]["content"] for choice in choices] == ["a", "b", "c"]


# OpenAI's own client


def strictly(model: Any, data: bytes) -> Any:
    return model.model_validate_json(data, strict=True)


def test_openais_client_reads_a_whole_chat(shapes: Shapes, scored: list[Scored]) -> None:
    answers = [answered([TextDelta(TEXT)], "stop", scored), answered(CALLS, "tool_calls")]
    first, second = strictly(ChatCompletion, shapes.chat().whole(answers, USAGE)).choices
    assert first.message.content == TEXT
    assert [entry.token for entry in first.logprobs.content] == ["Hello", " there"]
    assert [entry.logprob for entry in first.logprobs.content[0].top_logprobs] == [-0.5, -1.5]
    assert [call.function.name for call in second.message.tool_calls] == ["add", "sub"]


def test_openais_client_reads_the_usage(shapes: Shapes) -> None:
    read = strictly(ChatCompletion, shapes.chat().whole([answered([], "stop")], USAGE))
    assert read.usage.prompt_tokens_details.cached_tokens == 4


def test_openais_client_reads_every_chunk_of_a_chat(shapes: Shapes, scored: list[Scored]) -> None:
    shape = shapes.chat(usage_in_chunks=True)
    pieces = [Piece(0, (TextDelta(TEXT),), scored), Piece(1, CALLS), ends("stop"), ends("tool_calls", 1)]
    stream = [one for piece in pieces for one in shape.chunks(piece)]
    read = [strictly(ChatCompletionChunk, one) for one in (*stream, shape.usage(USAGE))]
    assert "".join(one.choices[0].delta.content or "" for one in read[:-1]) == TEXT
    calls = [call for one in read[:-1] for call in one.choices[0].delta.tool_calls or ()]
    assert [call.function.name for call in calls if call.id] == ["add", "sub"]
    assert "".join(call.function.arguments for call in calls) == '{"a":1}{}'
    assert read[-1].usage is not None


def test_openais_client_reads_a_completion(shapes: Shapes, scored: list[Scored]) -> None:
    shape = shapes.completion()
    data = shape.whole([answered([TextDelta(TEXT)], "stop", scored)], USAGE)
    (choice,) = strictly(Completion, data).choices
    assert (choice.text, choice.finish_reason) == (TEXT, "stop")
    assert choice.logprobs.tokens == ["Hello", " there"]
    assert choice.logprobs.token_logprobs == [-0.5, -2.0]
    assert choice.logprobs.text_offset == [0, 5]
    (part,) = chunks(shape, Piece(0, (TextDelta(TEXT),), scored))
    assert part["choices"][0]["logprobs"] == json.loads(data)["choices"][0]["logprobs"]


def test_usage_adds_up_and_mirrors_the_cached_tokens() -> None:
    assert USAGE.as_object() == USAGE_OBJECT


def test_nothing_is_cached_unless_said() -> None:
    assert Usage(1, 2).as_object()["prompt_tokens_details"] == {"cached_tokens": 0}
