"""What is sent and answered: of the sizes that were promised, and wrong answers are seen."""

import json
from collections.abc import Callable

import pytest

from genkan.bench import chat_traffic as traffic
from genkan.bench.http_answer import Answer, AnswerReader, WrongAnswer


def parsed(raw: bytes) -> Answer:
    answer = AnswerReader().feed(raw)
    assert answer is not None
    return answer


def streamed(number: int) -> Answer:
    return parsed(b"".join(traffic.stream_writes(traffic.digits(number))))


def whole(number: int) -> Answer:
    return parsed(traffic.whole_answer(traffic.digits(number)))


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_is_valid_and_of_ordinary_size_and_the_upstream_understands_it(stream: bool) -> None:
    make = traffic.Requests(80, stream=stream)
    head, body = make(7).split(b"\r\n\r\n")
    assert b"\r\nContent-Length: %d" % len(body) in head
    assert json.loads(body)["stream"] is stream
    assert 350 < len(body) < 600
    assert traffic.asked(body) == (b"0000000007", stream)
    assert len(make(123_456_789)) == len(make(7))
    assert make(8) != make(7)


def test_a_body_written_anew_without_blanks_is_understood_too() -> None:
    body = json.loads(traffic.Requests(80, stream=True)(7).split(b"\r\n\r\n")[1])
    assert traffic.asked(json.dumps(body, separators=(",", ":")).encode()) == (b"0000000007", True)


def test_a_request_without_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="no number"):
        traffic.asked(b'{"messages": []}')


def test_a_malformed_request_is_whole_as_http_and_broken_as_json() -> None:
    head, body = traffic.malformed(80).split(b"\r\n\r\n")
    assert b"\r\nContent-Length: %d" % len(body) in head
    with pytest.raises(json.JSONDecodeError):
        json.loads(body)


def test_a_stream_is_what_openai_sends() -> None:
    events = [line.removeprefix(b"data: ") for line in streamed(7).body.split(b"\n\n")[:-1]]
    chunks = [json.loads(event) for event in events[:-1]]
    assert events[-1] == b"[DONE]"
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert sum("content" in chunk["choices"][0]["delta"] for chunk in chunks[1:-2]) == 16
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["usage"]["completion_tokens"] == 16
    assert all(180 < len(event) < 400 for event in events[:-1])
    assert len(events) == traffic.EVENTS


def test_the_headers_and_each_event_are_a_write_of_their_own() -> None:
    writes = traffic.stream_writes(traffic.digits(7))
    assert len(writes) == 1 + traffic.EVENTS
    assert all(write.count(b"data: ") == 1 for write in writes[1:])


def test_the_right_answers_pass() -> None:
    traffic.check_whole(whole(7), 7)
    traffic.check_stream(streamed(7), 7)
    traffic.check_empty(Answer(200, b"{}", closes=False), 7)
    traffic.check_refused(Answer(400, b"", closes=True), 7)


STREAM = streamed(7)


@pytest.mark.parametrize(
    ("check", "answer", "why"),
    [
        (traffic.check_whole, whole(8), "another body"),
        (traffic.check_whole, Answer(200, whole(7).body[:-1], closes=False), "another body"),
        (traffic.check_whole, Answer(503, b"busy", closes=False), "status 503: busy"),
        (traffic.check_stream, streamed(8), "another request"),
        (traffic.check_stream, Answer(200, STREAM.body[:-1], closes=False), "does not end"),
        (traffic.check_stream, Answer(200, STREAM.body.split(b"\n\n", 1)[1], closes=False), "of 19 events"),
        (traffic.check_stream, Answer(429, STREAM.body, closes=False), "status 429"),
        (traffic.check_empty, whole(7), "empty object"),
        (traffic.check_refused, whole(7), "status 200 instead of 400"),
    ],
)
def test_wrong_answers_are_seen(check: Callable[[Answer, int], None], answer: Answer, why: str) -> None:
    with pytest.raises(WrongAnswer, match=why):
        check(answer, 7)
