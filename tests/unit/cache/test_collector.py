"""One plain text out of what upstreams send, or nothing."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stored_answers import chat, completion

from genkan.cache.collector import AnswerCollector, Collected
from genkan.wire.answers import AnswerStream, WholeAnswer
from genkan.wire.usage import Usage

USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
HEAD = {"id": "c-1", "object": "chat.completion.chunk", "created": 17, "model": "gpt-x", "system_fingerprint": "fp"}


def chunk(delta: dict[str, Any], reason: str | None = None, *, choice: Any = None, **more: Any) -> bytes:
    fields = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason, **(choice or {})}
    return orjson.dumps({**HEAD, "choices": [fields], **more})


def collected(*payloads: bytes, usage: object = None) -> Collected | None:
    collector = AnswerCollector(chat())
    for payload in payloads:
        collector.take([payload])
    together = AnswerCollector(chat())
    together.take(list(payloads))
    assert together.result(usage) == collector.result(usage)
    return collector.result(usage)


def from_body(message: dict[str, Any], *, choice: Any = None, **more: Any) -> Collected | None:
    choices = [{"index": 0, "message": message, "finish_reason": "stop", **(choice or {})}]
    collector = AnswerCollector(chat())
    collector.whole(orjson.dumps({**HEAD, "choices": choices, "usage": USAGE, **more}))
    return collector.result()


END = chunk({}, "stop")
LAST = orjson.dumps({**HEAD, "choices": [], "usage": USAGE})


def test_as_openai_streams_it() -> None:
    answer = collected(
        chunk({"role": "assistant", "content": "", "refusal": None}, service_tier="default", obfuscation="x"),
        chunk({"content": "It"}, obfuscation="abc", usage=None),
        chunk({"content": " is"}, obfuscation="a", usage=None),
        chunk({"content": " “on”\n its"}, obfuscation="ab", usage=None),
        END,
        LAST,
    )
    assert answer == Collected(
        text="It is “on”\n its",
        reasoning="",
        reasoning_name="",
        finish_reason="stop",
        model="gpt-x",
        fingerprint="fp",
        usage=Usage(9, 3),
        created_s=17,
    )


def test_as_vllm_streams_it() -> None:
    more = {"stop_reason": None, "token_ids": None}
    answer = collected(
        chunk({"role": "assistant", "content": ""}, choice=more, prompt_token_ids=None),
        chunk({"reasoning_content": "Well", "reasoning": "Well"}, choice=more),
        chunk({"reasoning_content": ",", "reasoning": ","}, choice=more),
        chunk({"role": "assistant", "content": "Yes", "tool_calls": []}, choice=more, usage=USAGE),
        chunk({"role": "assistant", "content": "!", "tool_calls": []}, choice=more, usage=USAGE),
        chunk({"content": ""}, "stop", choice={**more, "stop_reason": 151645}, usage=USAGE),
    )
    assert answer is not None
    assert (answer.text, answer.reasoning, answer.reasoning_name) == ("Yes!", "Well,", "reasoning_content+reasoning")
    assert answer.usage == Usage(9, 3)


def test_usage_may_be_told_beside_the_stream() -> None:
    answer = collected(chunk({"content": "x"}), END, usage=USAGE)
    assert answer is not None
    assert answer.usage == Usage(9, 3)
    assert collected(chunk({"content": "x"}), END) is not None


def test_an_end_at_the_length_is_told() -> None:
    answer = collected(chunk({"content": "x"}), chunk({}, "length"))
    assert answer is not None
    assert answer.finish_reason == "length"


@given(st.lists(st.text(min_size=1)), st.booleans(), st.sampled_from(["content", "reasoning_content", "reasoning"]))
def test_the_text_is_what_was_said(texts: list[str], escaped: bool, name: str) -> None:
    payloads = [*(chunk({name: text}) for text in texts), END]
    if escaped:
        payloads = [json.dumps(orjson.loads(payload)).encode() for payload in payloads]
    answer = collected(*payloads)
    assert answer is not None
    assert (answer.text if name == "content" else answer.reasoning) == "".join(texts)


@given(st.lists(st.text(alphabet='ab"\\\né한{}:,', min_size=1, max_size=4)), st.booleans())
def test_it_hears_what_an_answer_stream_passes_on(texts: list[str], show_usage: bool) -> None:
    stream, collector = AnswerStream(choices=1, show_usage=show_usage), AnswerCollector(chat())
    for payload in [chunk({"role": "assistant"}), *(chunk({"content": text}, usage=None) for text in texts), END, LAST]:
        collector.take(stream.take([payload]))
    answer = collector.result(stream.usage)
    assert answer is not None
    assert (answer.text, answer.usage) == ("".join(texts), Usage(9, 3))


@given(text=st.text(), reasoning=st.text())
def test_a_body_and_its_chunks_are_the_same(text: str, reasoning: str) -> None:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": text,
        "reasoning": reasoning,
        "refusal": None,
        "annotations": [],
    }
    choices = [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}]
    body = orjson.dumps({**HEAD, "choices": choices, "usage": USAGE})
    whole, streamed = AnswerCollector(chat()), AnswerCollector(chat())
    whole.whole(body)
    streamed.take(WholeAnswer(body).as_chunks(show_usage=True))
    answer = whole.result()
    assert answer == streamed.result()
    assert answer is not None
    assert (answer.text, answer.reasoning) == (text, reasoning)


def test_completions_are_texts() -> None:
    parts = [("Once", None), (" upon", None), ("", "stop")]
    payloads = [
        orjson.dumps({"model": "m", "choices": [{"index": 0, "text": text, "logprobs": None, "finish_reason": reason}]})
        for text, reason in parts
    ]
    collector = AnswerCollector(completion())
    collector.take(payloads)
    answer = collector.result(USAGE)
    assert answer is not None
    assert answer.text == "Once upon"
    body = AnswerCollector(completion())
    body.whole(orjson.dumps({"model": "m", "choices": [{"index": 0, "text": "Once upon", "finish_reason": "stop"}]}))
    assert body.result(USAGE) == answer


@pytest.mark.parametrize(
    "payload",
    [
        chunk({"tool_calls": [{"index": 0}]}),
        chunk({"function_call": {"name": "f"}}),
        chunk({"refusal": "No."}),
        chunk({"audio": {"id": "x"}}),
        chunk({"annotations": [{"type": "url_citation"}]}),
        chunk({"reasoning_details": [{"type": "encrypted"}]}),
        chunk({"content": [{"type": "text", "text": "x"}]}),
        chunk({"content": 5}),
        chunk({"role": "tool", "content": "x"}),
        chunk({"something_new": "x"}),
        chunk({"content": "x"}, choice={"logprobs": {"content": []}}),
        chunk({"content": "x"}, choice={"index": 1}),
        chunk({"content": "x"}, choice={"something_new": 1}),
        chunk({"content": "x"}, choice={"text": "y"}),
        chunk({"content": "x"}, citations=["https://a"]),
        chunk({"reasoning": "a", "reasoning_content": "b"}),
        chunk({"reasoning": "late"}),
        chunk({}, "tool_calls"),
        chunk({}, "content_filter"),
        chunk({"content": "x"}, "eos"),
        orjson.dumps({**HEAD, "error": {"message": "x"}}),
        orjson.dumps({**HEAD, "choices": [{"index": 0, "delta": {}}, {"index": 1, "delta": {}}]}),
        orjson.dumps({**HEAD, "choices": "x"}),
        b"[]",
        b"no JSON",
    ],
)
def test_what_is_more_than_a_text_is_not_kept(payload: bytes) -> None:
    assert collected(chunk({"content": "a"}), chunk({"content": "b"}), END) is not None
    assert collected(chunk({"content": "a"}), chunk({"content": "b"}), payload, END) is None


def test_reasoning_has_one_name() -> None:
    assert collected(chunk({"reasoning": "a"}), chunk({"reasoning_content": "b"}), END) is None


def test_what_has_no_end_or_goes_on_after_it_is_not_kept() -> None:
    assert collected(chunk({"content": "a"}), chunk({"content": "b"})) is None
    assert collected(chunk({"content": "a"}), END, chunk({"content": "b"})) is None
    assert collected(chunk({"content": "a"}), END, chunk({}, "length")) is None
    assert collected() is None


@pytest.mark.parametrize(
    ("message", "choice", "more"),
    [
        ({"content": None, "tool_calls": [{"id": "x"}]}, {}, {}),
        ({"content": "x", "refusal": "No."}, {}, {}),
        ({"content": "x"}, {"logprobs": {"content": []}}, {}),
        ({"content": "x"}, {"finish_reason": "content_filter"}, {}),
        ({"content": "x"}, {"finish_reason": None}, {}),
    ],
)
def test_nor_of_a_body(message: dict[str, Any], choice: dict[str, Any], more: dict[str, Any]) -> None:
    assert from_body({"role": "assistant", "content": "x"}) is not None
    assert from_body(message, choice=choice, **more) is None


def test_several_choices_are_not_one_text() -> None:
    collector = AnswerCollector(chat(n=2))
    collector.take([chunk({"content": "a"}), END])
    assert collector.result() is None


def test_it_holds_so_much_and_no_more() -> None:
    for size, kept in ((100, True), (101, False)):
        collector = AnswerCollector(chat(), max_bytes=100)
        collector.take([chunk({"content": "a"}) for _ in range(size)])
        collector.take([END])
        assert (collector.result() is not None) == kept


def test_a_providers_own_fields_are_kept_if_they_say_the_same_in_every_chunk() -> None:
    sources: dict[str, Any] = {"citations": ["https://a.example"], "x_vendor": {"kept": True}, "x_nothing": None}
    kept = {"citations": ["https://a.example"], "x_vendor": {"kept": True}}
    streamed = collected(
        chunk({"content": "x"}, **sources), chunk({"content": "y"}, **sources), chunk({}, "stop", **sources)
    )
    whole = from_body({"role": "assistant", "content": "xy"}, **sources)
    assert streamed is not None
    assert whole is not None
    assert (streamed.text, streamed.besides) == ("xy", kept) == (whole.text, whole.besides)


@pytest.mark.parametrize("later", [{}, {"citations": ["b"]}, {"citations": ["a"], "more": 1}])
def test_and_make_it_none_if_they_change_on_the_way(later: dict[str, Any]) -> None:
    assert collected(chunk({"content": "x"}, citations=["a"]), chunk({"content": "y"}, "stop", **later)) is None


def test_or_are_too_large() -> None:
    assert from_body({"role": "assistant", "content": "x"}, citations=["x" * 20_000]) is None


@pytest.mark.parametrize("depth", [252, 253, 254, 300, 900])
def test_what_is_nested_too_deep_to_be_written_spoils_no_answer(depth: int) -> None:
    """It is read by whoever asked, and at most not stored."""
    deep = b'{"sources":%b1%b,' % (b"[" * depth, b"]" * depth)
    collector = AnswerCollector(chat())
    collector.take([deep + chunk({"content": "a"})[1:], deep + END[1:]])
    answer = collector.result(USAGE)
    assert answer is None or orjson.dumps((answer.besides,))


def test_nor_does_an_end_that_is_no_word() -> None:
    assert collected(chunk({"content": "a"}), chunk({}, choice={"finish_reason": ["stop"]})) is None
