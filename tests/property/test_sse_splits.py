"""Event streams cut anywhere, against a decoder written from the standard's own words."""

import re
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from genkan.wire.sse import SseDecoder, encode_event

quick = settings(max_examples=300, deadline=None)

#: What a stream is made of, so that random ones are dense in what matters.
FRAGMENTS = st.one_of(
    st.sampled_from(
        [
            "data", "data:", "data: ", ":", " ", "\r", "\n", "\r\n", "\n\n", "\r\r", "\ufeff", "\0", "event: x",
            "id: 1", "retry: 1", "é", "日本", "😀", "\u2028", "\x85", "\x0b", "[DONE]", '{"a":1}',
        ]
    ),
    st.text(max_size=3),
)  # fmt: skip
STREAMS = st.lists(FRAGMENTS, max_size=30).map("".join)
PAYLOADS = st.lists(st.one_of(st.binary(max_size=20), st.text(max_size=10).map(str.encode)), max_size=6)
CUTS = st.lists(st.integers(0, 400), max_size=12)


def reference(stream: str) -> list[str]:
    """Section 9.2.6 of the standard, sentence by sentence, over a stream that has ended."""
    stream = stream.removeprefix("\ufeff")
    lines = re.split("\r\n|\r|\n", stream)[:-1]  # "the final line is incomplete: discard"
    events: list[str] = []
    data_buffer = ""
    for line in lines:
        if line == "":  # "dispatch the event"
            if data_buffer != "":
                events.append(data_buffer[:-1])
            data_buffer = ""
        elif line.startswith(":"):  # "ignore the line"
            continue
        else:
            field, value = line.split(":", 1) if ":" in line else (line, "")
            if field == "data":
                data_buffer += (value[1:] if value.startswith(" ") else value) + "\n"
    return events


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    """``stream`` in pieces that end at ``places``, counted round and round; empty pieces included."""
    ends = sorted(place % (len(stream) + 1) for place in places)
    return [stream[start:end] for start, end in pairwise([0, *ends, len(stream)])]


def decoded(pieces: list[bytes]) -> list[bytes]:
    decoder = SseDecoder()
    return [event for piece in pieces for event in decoder.feed(piece)]


def with_lf(payload: bytes) -> bytes:
    """What a payload is after the trip: an event stream keeps that lines end, not how."""
    return payload.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


@quick
@given(STREAMS, CUTS)
def test_any_split_of_any_stream_reads_as_the_standard_says(stream: str, places: list[int]) -> None:
    assert [event.decode() for event in decoded(cut(stream.encode(), places))] == reference(stream)


@quick
@given(st.lists(FRAGMENTS, max_size=12).map("".join))
def test_every_single_cut_and_all_of_them_together_read_alike(stream: str) -> None:
    text = stream.encode()
    expected = reference(stream)
    for places in [*([place] for place in range(len(text) + 1)), list(range(len(text)))]:
        assert [event.decode() for event in decoded(cut(text, places))] == expected


@quick
@given(st.binary(max_size=100), CUTS)
def test_bytes_that_are_no_text_read_alike_in_any_split(stream: bytes, places: list[int]) -> None:
    assert decoded(cut(stream, places)) == decoded([stream])


@quick
@given(PAYLOADS, CUTS)
def test_what_was_encoded_is_decoded(payloads: list[bytes], places: list[int]) -> None:
    stream = b"".join(encode_event(payload) for payload in payloads)
    assert decoded(cut(stream, places)) == [with_lf(payload) for payload in payloads]


@quick
@given(PAYLOADS, CUTS, st.sampled_from([b"\n", b"\r", b"\r\n"]), st.booleans())
def test_comments_a_mark_and_other_line_ends_change_nothing(
    payloads: list[bytes], places: list[int], end: bytes, mark: bool
) -> None:
    stream = b"".join(b": alive\n\n" + encode_event(payload) for payload in payloads).replace(b"\n", end)
    marked = b"\xef\xbb\xbf" * mark + stream
    assert decoded(cut(marked, places)) == [with_lf(payload) for payload in payloads]
