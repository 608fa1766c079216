"""What the template of a chunk knows is what a parse would have told; what it cannot know it does not claim to."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genkan.wire.answers import AnswerStream, ErrorInAnswer, MalformedAnswer
from genkan.wire.chunk_template import ChunkTemplate


def chunk(text: Any, **fields: Any) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}
    return orjson.dumps({"id": "chatcmpl-1", "model": "m", "choices": [choice], "usage": None, **fields})


@pytest.fixture
def template() -> ChunkTemplate:
    made = ChunkTemplate()
    made.learn(chunk(" Hello"), " Hello")
    return made


@pytest.mark.parametrize(
    "text", ["a", " ", "Xin chào", "안녕하세요", "日本語", "🍣", "x" * 10_000, "'", "}", ":", "content"]
)
def test_the_same_chunk_with_another_text_is_known(template: ChunkTemplate, text: str) -> None:
    assert template.text_bytes(chunk(text)) == len(text.encode())


def test_what_is_known_goes_where_that_went_which_was_learnt() -> None:
    template, kept = ChunkTemplate(), bytearray(b" Hello")
    template.learn(chunk(" Hello"), " Hello", kept)
    for text in (", ", "안녕", 'a"b', " 🍣"):
        template.text_bytes(chunk(text))
    assert kept.decode() == " Hello, 안녕 🍣"
    template.forget()
    template.text_bytes(chunk("more"))
    assert kept.decode() == " Hello, 안녕 🍣"


@pytest.mark.parametrize(
    "data",
    [
        chunk(""),
        chunk(None),
        chunk('a"b'),
        chunk("a\\b"),
        chunk("a\nb"),
        chunk("a\u200bb"),
        chunk("a", id="chatcmpl-2"),
        chunk("a", usage={}),
        chunk(" Hello")[:-1],
        chunk(" Hello").replace(b" Hello", b" \xff"),
        chunk(" Hello").replace(b" Hello", b" \xed\xa0\x80"),  # a surrogate
        chunk(" Hello").replace(b" Hello", b"a\x01b"),
        chunk(" Hello").replace(b" Hello", b'","content":"'),
        b"",
    ],
)
def test_whatever_else_it_is_has_to_be_parsed(template: ChunkTemplate, data: bytes) -> None:
    assert template.text_bytes(data) == 0


@pytest.mark.parametrize(
    "data",
    [
        chunk("Hello", system_fingerprint="Hello"),  # there twice
        chunk("Hello").replace(b"Hello", b"\\u0048ello"),  # written otherwise
        chunk("Hello").replace(b'"content"', b'"text"'),
    ],
)
def test_where_it_is_not_known_where_the_text_stands_nothing_is_learnt(data: bytes) -> None:
    template = ChunkTemplate()
    template.learn(data, "Hello")
    assert template.text_bytes(data) == template.text_bytes(chunk("Hello")) == 0


def test_chunks_of_which_no_two_are_alike_are_not_learnt_for_ever() -> None:
    template = ChunkTemplate()
    for number in range(20):
        template.learn(chunk("a", number=number), "a")
    assert template.text_bytes(chunk("b", number=19)) == 0
    assert template.text_bytes(chunk("b", number=7)) == 1  # the last that was


def test_one_that_is_forgotten_is_known_no_more(template: ChunkTemplate) -> None:
    template.forget()
    assert template.text_bytes(chunk(" Hello")) == 0


TEXTS = st.one_of(
    st.sampled_from(["a", " b", "Chào", "안녕", 'quote "', "back\\slash", "\n", "\u200b", "", "🍣"]),
    st.text(max_size=5),
)
DELTAS = st.one_of(
    st.builds(lambda text: {"content": text}, TEXTS),
    st.builds(lambda text: {"role": "assistant", "content": text}, TEXTS),
    st.builds(lambda text: {"content": None, "reasoning_content": text}, TEXTS),
    st.builds(lambda text: {"content": text, "refusal": text}, TEXTS),
    st.just({"tool_calls": [{"index": 0}]}),
)
CHUNKS = st.builds(
    lambda delta, end, fields, spaced: orjson.dumps(
        {"id": "1", "choices": [{"index": 0, "delta": delta, "finish_reason": end}], **fields},
        option=orjson.OPT_INDENT_2 if spaced else 0,
    ),
    DELTAS,
    st.sampled_from([None, None, None, None, "stop"]),
    st.sampled_from([{}, {}, {"usage": None}, {"usage": {"prompt_tokens": 1, "completion_tokens": 1}}, {"error": "e"}]),
    st.booleans(),
)


def outcome(chunks: list[bytes], *, show_usage: bool) -> tuple[list[bytes], str, tuple[Any, ...]]:
    stream, passed, error = AnswerStream(choices=1, show_usage=show_usage), list[bytes](), ""
    try:
        for data in chunks:
            passed += stream.take([data])
    except (MalformedAnswer, ErrorInAnswer) as raised:
        error = repr(raised)
    told = stream.started, stream.pieces, stream.text_bytes, stream.complete, stream.usage, repr(stream.failure)
    said = stream.said
    assert said is not None
    return passed, error, (*told, said.runs, said.is_known, said.has_role)


@given(st.lists(CHUNKS, max_size=8), st.booleans())
def test_a_stream_is_the_same_with_a_template_and_without(chunks: list[bytes], show_usage: bool) -> None:
    with_template = outcome(chunks, show_usage=show_usage)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ChunkTemplate, "text_bytes", lambda self, data: 0)
        assert outcome(chunks, show_usage=show_usage) == with_template
