"""Event streams: what is an event, and what is not."""

import pytest

from genkan.wire.sse import DONE, DONE_DATA, EventTooLarge, SseDecoder, encode_event, encode_events


def decode(stream: bytes) -> list[bytes]:
    return SseDecoder().feed(stream)


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"], ids=["LF", "CR", "CRLF"])
def test_a_line_ends_in_any_of_three_ways(end: bytes) -> None:
    assert decode(end.join([b"data: a", b"data: b", b"", b"data: c", b"", b""])) == [b"a\nb", b"c"]


@pytest.mark.parametrize(
    ("stream", "payloads"),
    [
        (b"data:a\n\n", [b"a"]),
        (b"data:  a\n\n", [b" a"]),
        (b"data: a:b\n\n", [b"a:b"]),
        (b"data\n\n", [b""]),
        (b"data:\n\n", [b""]),
        (b"data\ndata\n\n", [b"\n"]),
        (b"\n\ndata: a\n\n\n", [b"a"]),
        (b"data: a\n: data: b\n\n", [b"a"]),
        (b":\n\n", []),
        (b"event: x\nid: 1\nretry: 5\n\n", []),
        (b"event: x\nid: 1\nretry: 5\ndata: a\n\n", [b"a"]),
        (b"Data: a\n\n", []),
        (b" data: a\n\n", []),
        (b"datax: a\n\n", []),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b"\xef\xbb\xbf\ndata: a\n\n", [b"a"]),
        (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n", []),
        (b"\n\xef\xbb\xbfdata: a\n\n", []),
        (b"data: \xef\xbb\xbf\n\n", [b"\xef\xbb\xbf"]),
        ("data: 日本\u2028語\x85\x0b\n\n".encode(), ["日本\u2028語\x85\x0b".encode()]),
    ],
)
def test_reads_a_stream_as_the_standard_says(stream: bytes, payloads: list[bytes]) -> None:
    assert decode(stream) == payloads


@pytest.mark.parametrize("stream", [b"data: a", b"data: a\n", b"data: a\r", b"data: a\r\n", b""])
def test_an_event_that_is_not_finished_is_not_dispatched(stream: bytes) -> None:
    assert decode(stream) == []


def test_an_event_comes_with_the_byte_that_completes_it() -> None:
    decoder = SseDecoder()
    assert [decoder.feed(bytes([byte])) for byte in b"data: a\r\r\n"][-2:] == [[b"a"], []]


def test_a_line_feed_that_comes_later_belongs_to_its_carriage_return() -> None:
    decoder = SseDecoder()
    assert [decoder.feed(part) for part in (b"data: a\r", b"\ndata: b\r", b"", b"\n\r\n")] == [[], [], [], [b"a\nb"]]


def test_done_is_an_event() -> None:
    assert decode(DONE) == [DONE_DATA]


def test_an_event_is_one_data_line() -> None:
    assert encode_event(b'{"a":1}') == b'data: {"a":1}\n\n'


@pytest.mark.parametrize("data", [b"a\nb", b"a\rb", b"a\r\nb"])
def test_a_line_break_in_a_payload_becomes_a_second_data_line(data: bytes) -> None:
    assert encode_event(data) == b"data: a\ndata: b\n\n"


@pytest.mark.parametrize(
    "parts",
    [
        [b"data: " + b"x" * 100],
        [b"x" * 60, b"x" * 60],
        [b"data: " + b"x" * 50 + b"\n", b"data: " + b"x" * 50 + b"\n"],
        [b"data: " + b"x" * 50 + b"\n", b"data: " + b"x" * 50],
        [b"data: " + b"x" * 200 + b"\n\n"],
        [b"data\n" * 101],
    ],
    ids=["an unfinished line", "in pieces", "two lines", "a line and a half", "a whole event", "empty lines"],
)
def test_an_event_that_is_too_large_is_refused(parts: list[bytes]) -> None:
    decoder = SseDecoder(max_event_bytes=100)
    for part in parts[:-1]:
        assert decoder.feed(part) == []
    with pytest.raises(EventTooLarge, match="at most 100 bytes"):
        decoder.feed(parts[-1])


def test_a_stream_may_be_longer_than_an_event() -> None:
    decoder = SseDecoder(max_event_bytes=100)
    events = [decoder.feed(b": " + b"c" * 90 + b"\ndata: " + b"x" * 60 + b"\n\n") for _ in range(10)]
    assert events == [[b"x" * 60]] * 10


@pytest.mark.parametrize("payloads", [[b"{}"], [b'{"a":1}', b"[DONE]", b"x"]], ids=len)
def test_events_are_encoded_together_as_one_by_one(payloads: list[bytes]) -> None:
    assert encode_events(payloads) == b"".join(map(encode_event, payloads))
