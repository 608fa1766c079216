"""The client's reader of answers: complete or not yet, however they come, and never fooled."""

import pytest

from genkan.bench.http_answer import Answer, AnswerReader, WrongAnswer

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\ndate: today\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nA\r\n to you al\r\n0\r\n\r\n"
LOOKS_ENDED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\n0\r\n\r\n0\r\n\r\n"


@pytest.mark.parametrize(("raw", "body"), [(WHOLE, b"hello"), (CHUNKED, b"hello to you al"), (LOOKS_ENDED, b"0\r\n")])
def test_an_answer_is_there_with_its_last_byte_and_no_sooner(raw: bytes, body: bytes) -> None:
    for cut in range(1, len(raw)):
        reader = AnswerReader()
        assert reader.feed(raw[:cut]) is None
        assert reader.feed(raw[cut:]) == Answer(200, body, closes=False)


def test_one_byte_after_the_other() -> None:
    reader = AnswerReader()
    answers = [reader.feed(bytes([byte])) for byte in WHOLE + CHUNKED]
    assert [answer.body for answer in answers if answer] == [b"hello", b"hello to you al"]


def test_an_empty_body_and_a_connection_that_ends() -> None:
    answer = AnswerReader().feed(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\nContent-Length: 0\r\n\r\n")
    assert answer == Answer(400, b"", closes=True)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"SSH-2.0\r\n\r\n", "no HTTP answer"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "neither content-length nor chunks"),
        (WHOLE + b"H", "after the end of the body"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nhello\r\n0\r\n\r\n", "without a size"),
        (CHUNKED + b"0\r\n\r\n", "after the last chunk"),
    ],
)
def test_what_is_no_answer_is_refused(raw: bytes, why: str) -> None:
    with pytest.raises(WrongAnswer, match=why):
        AnswerReader().feed(raw)
