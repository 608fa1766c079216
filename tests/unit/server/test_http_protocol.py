"""Responses are on the wire as uvicorn would have written them, and refused where it would have refused them."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from genkan.server.http_protocol import _send, _uvicorns_send

Message = dict[str, Any]
DATE = [(b"date", b"Sat, 21 Nov 2026 16:25:01 GMT")]


class Transport:
    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def close(self) -> None:
        self.closed = True


class Flow:
    write_paused = False


def cycle(method: str = "POST", *, keep_alive: bool = True) -> tuple[RequestResponseCycle, Transport, list[str]]:
    transport, told = Transport(), list[str]()
    made = RequestResponseCycle(
        scope={"method": method},  # type: ignore[typeddict-item]
        transport=transport,  # type: ignore[arg-type]
        flow=Flow(),  # type: ignore[arg-type]
        logger=logging.getLogger("test"),
        access_logger=logging.getLogger("test"),
        access_log=False,
        default_headers=DATE,
        message_event=asyncio.Event(),
        expect_100_continue=False,
        keep_alive=keep_alive,
        on_response=lambda: told.append("complete"),
    )
    return made, transport, told


def start(*headers: tuple[bytes, bytes], status: int = 200) -> Message:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(data: bytes = b"", *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


def outcome(send: Any, messages: Sequence[Message], **options: Any) -> tuple[Any, ...]:
    """All that shows of a response: its bytes, and what became of the connection."""
    made, transport, told = cycle(**options)
    try:
        for message in messages:
            asyncio.run(send(made, message))
    except (RuntimeError, ValueError):
        return ("refused",)  # of which two things is told first differs, and whether a head went out before
    return b"".join(transport.writes), transport.closed, told, made.keep_alive, made.response_complete


LENGTH_5 = (b"content-length", b"5")
CASES: dict[str, tuple[list[Message], dict[str, Any]]] = {
    "a whole answer": ([start(LENGTH_5), body(b"hello")], {}),
    "in two pieces": ([start(LENGTH_5), body(b"he", more=True), body(b"llo")], {}),
    "too long": ([start(LENGTH_5), body(b"hello!")], {}),
    "too short": ([start(LENGTH_5), body(b"hell")], {}),
    "a stream": ([start(), body(b"data: 1\n\n", more=True), body(b"data: 2\n\n", more=True), body()], {}),
    "a stream that is empty": ([start(), body()], {}),
    "a stream whose first piece is empty": ([start(), body(more=True), body(b"x")], {}),
    "chunks by a header": ([start((b"transfer-encoding", b"chunked")), body(b"x")], {}),
    "another coding": ([start((b"transfer-encoding", b"gzip")), body(b"x")], {}),
    "a length and then chunks": ([start(LENGTH_5, (b"transfer-encoding", b"chunked")), body(b"x")], {}),
    "HEAD": ([start(LENGTH_5), body(b"hello")], {"method": "HEAD"}),
    "HEAD of a stream": ([start(), body(b"x", more=True), body()], {"method": "HEAD"}),
    "no content": ([start(status=204), body()], {}),
    "the connection is closed by us": ([start(LENGTH_5, (b"Connection", b"keep-alive, Close")), body(b"hello")], {}),
    "the client closes it": ([start(LENGTH_5), body(b"hello")], {"keep_alive": False}),
    "both do": ([start(LENGTH_5, (b"connection", b"close")), body(b"hello")], {"keep_alive": False}),
    "names in capitals": ([start((b"Content-Length", b"5"), (b"X-Request-Id", b"1")), body(b"hello")], {}),
    "a line break in a value": ([start(LENGTH_5, (b"x", b"a\r\nset-cookie: b")), body(b"hello")], {}),
    "a single LF in a value": ([start(LENGTH_5, (b"x", b"a\nb")), body(b"hello")], {}),
    "NUL in a value": ([start(LENGTH_5, (b"x", b"a\0b")), body(b"hello")], {}),
    "a tab in a value": ([start(LENGTH_5, (b"x", b"a\tb")), body(b"hello")], {}),
    "bytes beyond ASCII in a value": ([start(LENGTH_5, (b"x", "phở".encode())), body(b"hello")], {}),
    "a space in a name": ([start(LENGTH_5, (b"x y", b"1")), body(b"hello")], {}),
    "an empty value": ([start(LENGTH_5, (b"x", b"")), body(b"hello")], {}),
    "a length that is none": ([start((b"content-length", b"five")), body(b"hello")], {}),
    "a body first": ([body(b"hello")], {}),
    "two starts": ([start(LENGTH_5), start(LENGTH_5)], {}),
    "more after the end": ([start(LENGTH_5), body(b"hello"), body(b"!")], {}),
    "a large body": ([start((b"content-length", b"200000")), body(b"x" * 200_000)], {}),
    "no headers": ([{"type": "http.response.start", "status": 404}, body(b"x")], {}),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_what_uvicorn_would_have_done(case: str) -> None:
    messages, options = CASES[case]
    assert outcome(_send, messages, **options) == outcome(_uvicorns_send, messages, **options)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"content-length", b"connection", b"transfer-encoding", b"X-B", b"x c", b"", b"x:"]),
            st.one_of(st.binary(max_size=6), st.sampled_from([b"2", b"close", b"chunked", b"a\r\nb: c", b"a\r\n"])),
        ),
        max_size=5,
    ),
    st.lists(st.binary(max_size=3), min_size=1, max_size=3),
    st.sampled_from(["GET", "HEAD", "POST"]),
    st.sampled_from([200, 204, 304, 500]),
    st.booleans(),
)
def test_nothing_tells_it_from_uvicorn(
    headers: list[tuple[bytes, bytes]], pieces: list[bytes], method: str, status: int, keep_alive: bool
) -> None:
    *first, last = [body(piece, more=True) for piece in pieces]
    messages = [start(*headers, status=status), *first, {**last, "more_body": False}]
    options = {"method": method, "keep_alive": keep_alive}
    assert outcome(_send, messages, **options) == outcome(_uvicorns_send, messages, **options)


def test_head_and_body_go_out_together() -> None:
    made, transport, _ = cycle()
    asyncio.run(_send(made, start(LENGTH_5)))  # type: ignore[arg-type]
    assert transport.writes == []
    asyncio.run(_send(made, body(b"hello")))  # type: ignore[arg-type]
    [write] = transport.writes
    assert write.startswith(b"HTTP/1.1 200 OK\r\ndate: ")
    assert write.endswith(b"\r\n\r\nhello")


def test_nothing_is_written_for_a_client_that_has_gone() -> None:
    made, transport, told = cycle()
    made.disconnected = True
    asyncio.run(_send(made, start(LENGTH_5)))  # type: ignore[arg-type]
    asyncio.run(_send(made, body(b"hello")))  # type: ignore[arg-type]
    assert (transport.writes, told) == ([], [])
