"""The objects of OpenAI's API, byte for byte where clients look."""

import json
from typing import Any

import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from genkan.serving.shapes import ChatShape, CompletionShape, Shape, Usage

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


def chat(*, usage_in_chunks: bool = False) -> ChatShape:
    return ChatShape(IDENTITY, usage_in_chunks=usage_in_chunks)


def completion(*, usage_in_chunks: bool = False) -> CompletionShape:
    return CompletionShape(IDENTITY, usage_in_chunks=usage_in_chunks)


def chunk(kind: str, choice: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    whole_choice = {"index": 0, **choice, "logprobs": None, "finish_reason": reason}
    return {"object": kind, **IDENTITY, "choices": [whole_choice]}


def test_a_chat_opens_with_the_role() -> None:
    opening = chat().opening()
    assert opening is not None
    assert json.loads(opening) == chunk("chat.completion.chunk", {"delta": {"role": "assistant", "content": ""}})


def test_a_completion_has_no_opening() -> None:
    assert completion().opening() is None


def test_a_piece_of_a_chat_is_a_delta() -> None:
    assert json.loads(chat().text(TEXT)) == chunk("chat.completion.chunk", {"delta": {"content": TEXT}})


def test_a_piece_of_a_completion_is_a_text() -> None:
    assert json.loads(completion().text(TEXT)) == chunk("text_completion", {"text": TEXT})


def test_a_chat_closes_with_an_empty_delta_and_the_reason() -> None:
    assert json.loads(chat().closing("stop")) == chunk("chat.completion.chunk", {"delta": {}}, "stop")


def test_a_completion_closes_with_an_empty_text_and_the_reason() -> None:
    assert json.loads(completion().closing("length")) == chunk("text_completion", {"text": ""}, "length")


@pytest.mark.parametrize("shape", [chat(usage_in_chunks=True), completion(usage_in_chunks=True)])
def test_with_usage_asked_for_every_chunk_before_the_last_has_a_null_one(shape: Shape) -> None:
    pieces = [piece for piece in (shape.opening(), shape.text("a"), shape.closing("stop")) if piece is not None]
    assert [json.loads(piece)["usage"] for piece in pieces] == [None] * len(pieces)


@pytest.mark.parametrize("shape", [chat(), completion()])
def test_without_usage_asked_for_no_chunk_names_it(shape: Shape) -> None:
    assert not any(b"usage" in piece for piece in (shape.opening() or b"", shape.text("a"), shape.closing("stop")))


@pytest.mark.parametrize(
    ("shape", "kind"), [(chat(usage_in_chunks=True), "chat.completion.chunk"), (completion(), "text_completion")]
)
def test_the_usage_chunk_has_no_choices(shape: Shape, kind: str) -> None:
    assert json.loads(shape.usage(USAGE)) == {"object": kind, **IDENTITY, "choices": [], "usage": USAGE_OBJECT}


def test_a_whole_chat_is_a_message() -> None:
    assert json.loads(chat().whole(TEXT, "stop", USAGE)) == {
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


def test_a_whole_completion_is_a_text() -> None:
    assert json.loads(completion().whole(TEXT, "length", USAGE)) == {
        **chunk("text_completion", {"text": TEXT}, "length"),
        "usage": USAGE_OBJECT,
    }


def test_openais_client_reads_a_whole_chat() -> None:
    read = ChatCompletion.model_validate_json(chat().whole(TEXT, "stop", USAGE))
    assert read.choices[0].message.content == TEXT
    assert read.usage is not None
    assert read.usage.prompt_tokens_details is not None
    assert read.usage.prompt_tokens_details.cached_tokens == 4


def test_openais_client_reads_every_chunk_of_a_chat() -> None:
    shape = chat(usage_in_chunks=True)
    stream = [shape.opening() or b"", shape.text(TEXT), shape.closing("stop"), shape.usage(USAGE)]
    read = [ChatCompletionChunk.model_validate_json(piece) for piece in stream]
    assert [one.choices[0].delta.content if one.choices else one.usage for one in read[:3]] == ["", TEXT, None]
    assert read[3].usage is not None


def test_openais_client_reads_a_whole_completion() -> None:
    read = Completion.model_validate_json(completion().whole(TEXT, "stop", USAGE))
    assert (read.choices[0].text, read.choices[0].finish_reason) == (TEXT, "stop")


def test_usage_adds_up_and_mirrors_the_cached_tokens() -> None:
    assert USAGE.as_object() == USAGE_OBJECT


def test_nothing_is_cached_unless_said() -> None:
    assert Usage(1, 2).as_object()["prompt_tokens_details"] == {"cached_tokens": 0}
