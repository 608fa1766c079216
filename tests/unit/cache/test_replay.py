"""What was stored is what the client gets, in the form it asked for."""

from collections.abc import Iterable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from stored_answers import chat, completion, stored

from genkan.cache.collector import AnswerCollector
from genkan.cache.replay import body, chunks, pieces
from genkan.wire.answers import AnswerStream
from genkan.wire.usage import Usage

FREE = {
    "prompt_tokens": 12,
    "completion_tokens": 5,
    "total_tokens": 17,
    "prompt_tokens_details": {"cached_tokens": 12},
    "cached_tokens": 12,
    "cached": True,
    "cost_usd": 0.0,
}


def flat(batches: Iterable[list[bytes]]) -> list[dict[str, Any]]:
    return [orjson.loads(payload) for batch in batches for payload in batch]


def test_a_body_is_openais() -> None:
    answer = orjson.loads(body(stored(fingerprint="fp", reasoning="Hm.", reasoning_name="reasoning"), "7"))
    read = ChatCompletion.model_validate(answer, strict=True)
    assert (read.id, read.model, read.created, read.system_fingerprint) == ("chatcmpl-7", "gpt-x", 1_700_000_000, "fp")
    assert read.choices[0].message.content == "It is on its way."
    assert answer["choices"][0]["message"]["reasoning"] == "Hm."
    assert answer["usage"] == FREE


def test_a_completions_body_is_openais() -> None:
    read = Completion.model_validate(orjson.loads(body(stored(is_chat=False), "7")), strict=True)
    assert (read.id, read.object, read.choices[0].text) == ("cmpl-7", "text_completion", "It is on its way.")


def test_a_stream_is_openais() -> None:
    found = flat(chunks(stored(fingerprint="fp"), "7", include_usage=True))
    read = [ChatCompletionChunk.model_validate(chunk, strict=True) for chunk in found]
    assert {chunk.id for chunk in read} == {"chatcmpl-7"}
    assert read[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].delta.content for chunk in read[1:-2]] == ["It", " is", " on", " its", " way."]
    assert read[-2].choices[0].finish_reason == "stop"
    assert (read[-1].choices, found[-1]["usage"]) == ([], FREE)
    assert [chunk["usage"] for chunk in found[:-1]] == [None] * (len(found) - 1)


def test_usage_is_shown_to_those_who_asked() -> None:
    assert not any("usage" in chunk for chunk in flat(chunks(stored(), "7", include_usage=False)))


def test_what_is_new_costs_what_it_cost() -> None:
    answer = stored(usage=Usage(12, 5, 4))
    usage = orjson.loads(body(answer, "7", is_hit=False))["usage"]
    assert usage["cached_tokens"] == usage["prompt_tokens_details"]["cached_tokens"] == 4
    assert "cost_usd" not in usage
    assert "cached" not in usage
    assert flat(chunks(answer, "7", include_usage=True, is_hit=False))[-1]["usage"] == usage
    assert "usage" not in orjson.loads(body(stored(usage=None), "7", is_hit=False))


def test_words_come_some_together() -> None:
    batches = list(chunks(stored(text="word " * 100), "7", include_usage=False))
    assert len(batches) < 12
    assert all(len(batch) <= 16 for batch in batches)


@pytest.mark.parametrize("is_chat", [True, False])
@pytest.mark.parametrize("include_usage", [True, False])
@given(text=st.text(), reasoning=st.text())
def test_what_is_replayed_is_what_was_stored(is_chat: bool, include_usage: bool, text: str, reasoning: str) -> None:
    name = "reasoning_content+reasoning"
    answer = stored(is_chat=is_chat, text=text, reasoning=reasoning if is_chat else "", reasoning_name=name)
    collector = AnswerCollector(chat() if is_chat else completion())
    stream = AnswerStream(choices=1, show_usage=include_usage)
    for batch in chunks(answer, "7", include_usage=include_usage):
        assert not any(b"\n" in payload for payload in batch)
        collector.take(stream.take(batch))
    assert stream.complete
    whole = AnswerCollector(chat() if is_chat else completion())
    whole.whole(body(answer, "7"))
    for collected in (collector.result(FREE), whole.result()):
        assert collected is not None
        assert (collected.text, collected.reasoning) == (text, answer.reasoning)
        assert collected.usage == Usage(12, 5, 12)
        assert (collected.model, collected.finish_reason) == ("gpt-x", "stop")


@given(st.text() | st.text(alphabet="가á\u0301👍\U0001f3fd\u200d👩🇰🇷 \n", min_size=20, max_size=200))
def test_pieces_are_all_of_it(text: str) -> None:
    assert "".join(pieces(text)) == text


@pytest.mark.parametrize("sign", ["e\u0301", "👍\U0001f3fd", "👩\u200d💻", "❤\ufe0f", "🇰🇷"])
def test_no_character_is_parted(sign: str) -> None:
    parts = list(pieces(sign * 100))
    assert all(part.startswith(sign[0]) and part.endswith(sign[-1]) for part in parts)


def test_a_text_without_spaces_is_parted() -> None:
    assert max(map(len, pieces("漢" * 1000))) <= 24
    assert list(pieces("비밀번호를 어떻게 바꾸나요")) == ["비밀번호를", " 어떻게", " 바꾸나요"]
