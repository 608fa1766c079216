"""Responses cut anywhere: what is made of them, and of their connection, does not depend on where."""

import asyncio
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
from byte_servers import MemoryDialer, MemoryTransport, answer, asking, turns
from hypothesis import given, settings
from hypothesis import strategies as st

from genkan.upstream.http_client import BadResponse, Disconnected, HttpClient, Response

quick = settings(max_examples=200, deadline=None)


class Case(NamedTuple):
    raw: bytes
    status: int
    headers: dict[str, str]
    body: bytes
    reusable: bool = True
    until_close: bool = False

    @property
    def head_bytes(self) -> int:
        """Where the head ends, of a response until the connection does."""
        return self.raw.rindex(b"\r\n\r\n") + 4


LENGTH = {"content-length": "5"}
CHUNKED = {"transfer-encoding": "chunked"}
CHUNKS = b'2;a=1;b="x"\r\nhe\r\n003\r\nllo\r\n0;last\r\n'
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\ncontent-length: 9\r\n\r\n" * 2
CASES = {
    "length": Case(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, LENGTH, b"hello"),
    "odd headers": Case(
        b"HTTP/1.1 429\r\nEmpty:\r\nX: a\r\nContent-Length: 5\r\nx:  b \r\nName: \xe9\r\n\r\nhello",
        429,
        {"empty": "", "x": "a, b", **LENGTH, "name": "é"},
        b"hello",
    ),
    "no body": Case(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 200, {"content-length": "0"}, b""),
    "chunked": Case(
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + CHUNKS + b"\r\n", 200, CHUNKED, b"hello"
    ),
    "trailers": Case(
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        + CHUNKS
        + b"x-sum: 1\r\ncontent-encoding: gzip\r\n\r\n",
        200,
        CHUNKED,
        b"hello",
    ),
    "204": Case(b"HTTP/1.1 204 No Content\r\n\r\n", 204, {}, b""),
    "304": Case(b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", 304, LENGTH, b""),
    "interim": Case(INTERIM + b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", 200, LENGTH, b"hello"),
    "until close": Case(b"HTTP/1.1 200 OK\r\n\r\nhello", 200, {}, b"hello", reusable=False, until_close=True),
    "interim until close": Case(
        INTERIM + b"HTTP/1.1 200 OK\r\n\r\nhello", 200, {}, b"hello", reusable=False, until_close=True
    ),
    "1.0 until close": Case(b"HTTP/1.0 200 OK\r\n\r\nhello", 200, {}, b"hello", reusable=False, until_close=True),
    "1.0 with a length": Case(
        b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello", 200, LENGTH, b"hello", reusable=False
    ),
    "connection: close": Case(
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nConnection: close\r\n\r\nhello",
        200,
        {**LENGTH, "connection": "close"},
        b"hello",
        reusable=False,
    ),
}
cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def pieces_of(raw: bytes, places: list[int]) -> list[bytes]:
    """``raw`` in pieces that end at ``places``, counted round and round."""
    ends = sorted(place % (len(raw) + 1) for place in places)
    return [raw[start:end] for start, end in pairwise([0, *ends, len(raw)])]


class Talk:
    """A client of a server without sockets."""

    def __init__(self) -> None:
        self.dialer = MemoryDialer()
        self.client = HttpClient(self.dialer, connect_s=1, keep_alive=9, keep_alive_s=9)

    @property
    def server(self) -> MemoryTransport:
        """The newest connection's other end."""
        return self.dialer.made[-1]

    async def ask(self) -> asyncio.Task[Response]:
        """A request that has been written."""
        task = asyncio.create_task(self.client.request(asking()))
        await turns(2)
        assert self.server.written.endswith(asking())
        return task


async def all_of(response: Response) -> bytes:
    body = b""
    while piece := await response.read():
        body += piece
    return body


async def exchange(talk: Talk, case: Case, pieces: list[bytes]) -> None:
    """Ask, answer in ``pieces``, and check what has come and what became of the connection."""
    task = await talk.ask()
    for piece in pieces:
        talk.server.send(piece)
        await turns(1)
    if case.until_close:
        talk.server.eof()
    response = await task
    assert (response.status, response.headers, await all_of(response)) == (case.status, case.headers, case.body)
    assert (response.at_eof, response.headers) == (True, case.headers)
    await turns()
    assert (talk.client.connections, talk.client.idle) == ((1, 1) if case.reusable else (0, 0))


def run(talks: Iterable[Coroutine[Any, Any, None]]) -> None:
    async def one_after_the_other() -> None:
        for talk in talks:
            await talk

    asyncio.run(one_after_the_other())


async def in_pieces(case: Case, pieces: list[bytes]) -> None:
    talk = Talk()
    await exchange(talk, case, pieces)
    await exchange(talk, CASES["trailers"], [CASES["trailers"].raw])  # nothing of the first is left in the parser
    assert len(talk.dialer.made) == (1 if case.reusable else 2)
    talk.client.close()
    await turns()


@cases
def test_a_response_in_two_reads_is_the_same_wherever_it_is_cut(case: Case) -> None:
    run(in_pieces(case, pieces_of(case.raw, [place])) for place in range(len(case.raw) + 1))


@cases
def test_a_response_byte_by_byte_is_the_same(case: Case) -> None:
    run([in_pieces(case, pieces_of(case.raw, list(range(len(case.raw)))))])


@quick
@given(st.sampled_from([*CASES.values()]), st.lists(st.integers(0, 400), max_size=12))
def test_a_response_in_many_reads_is_the_same(case: Case, places: list[int]) -> None:
    run([in_pieces(case, pieces_of(case.raw, places))])


@quick
@given(st.binary(max_size=300), st.lists(st.integers(0, 1000), max_size=8), st.lists(st.integers(0, 999), max_size=8))
def test_any_body_in_any_chunks_and_reads_arrives(body: bytes, chunks: list[int], places: list[int]) -> None:
    framed = b"".join(b"%X\r\n%b\r\n" % (len(chunk), chunk) for chunk in pieces_of(body, chunks) if chunk)
    raw = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + framed + b"0\r\n\r\n"
    run([in_pieces(Case(raw, 200, CHUNKED, body), pieces_of(raw, places))])


# --- More than one asked for ---


async def glued(case: Case, more: bytes, place: int) -> None:
    talk = Talk()
    task = await talk.ask()
    for piece in pieces_of(case.raw + more, [place]):
        talk.server.send(piece)
    response = await task
    assert (response.status, response.headers, await all_of(response)) == (case.status, case.headers, case.body)
    await turns()
    assert talk.client.connections == 0
    await exchange(talk, CASES["204"], [CASES["204"].raw])
    assert len(talk.dialer.made) == 2
    talk.client.close()
    await turns()


@pytest.mark.parametrize("more", [answer(b"not yours"), b"X", b"HTTP/1.1 999", b"\0" * 9], ids=str)
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.until_close])
def test_what_follows_a_response_is_nobodys_and_the_response_is_whole(name: str, more: bytes) -> None:
    case = CASES[name]
    run(glued(case, more, place) for place in range(len(case.raw + more) + 1))


@quick
@given(st.binary(min_size=1, max_size=100))
def test_what_comes_on_an_idle_connection_closes_it_and_is_no_answer(bytes_: bytes) -> None:
    async def talk_of_it() -> None:
        talk = Talk()
        await exchange(talk, CASES["length"], [CASES["length"].raw])
        talk.server.send(bytes_)
        await exchange(talk, CASES["204"], [CASES["204"].raw])
        assert len(talk.dialer.made) == 2
        talk.client.close()
        await turns()

    run([talk_of_it()])


# --- Less than all of it ---


async def cut_off(case: Case, place: int, *, reset: bool) -> None:
    talk = Talk()
    task = await talk.ask()
    talk.server.send(case.raw[:place])
    if reset:
        talk.server.reset()
    else:
        talk.server.eof()
    if case.until_close and not reset and place >= case.head_bytes:
        assert await all_of(await task) == case.raw[case.head_bytes : place]
    else:
        with pytest.raises(Disconnected):
            await all_of(await task)
    await turns()
    assert (talk.client.connections, talk.client.idle) == (0, 0)
    talk.client.close()


@pytest.mark.parametrize("reset", [False, True], ids=["end", "reset"])
@cases
def test_a_response_that_breaks_off_is_never_taken_for_whole(case: Case, reset: bool) -> None:
    run(cut_off(case, place, reset=reset) for place in range(len(case.raw)))


# --- What is none ---


@quick
@given(st.binary(max_size=200), st.sampled_from([*CASES.values()]), st.integers(0, 400), st.integers(0, 9))
def test_a_response_with_other_bytes_in_it_ends_and_leaves_nothing_behind(
    other: bytes, case: Case, place: int, lost: int
) -> None:
    """Whatever comes: an answer or an HttpError, and a connection that is idle and well, or closed."""

    async def talk_of_it() -> None:
        talk = Talk()
        task = await talk.ask()
        start = place % (len(case.raw) + 1)
        talk.server.send(case.raw[:start] + other + case.raw[start + lost :])
        if not talk.client.idle:
            talk.server.eof()
        with suppress(BadResponse, Disconnected):
            await all_of(await task)
        await turns()
        assert talk.client.connections == talk.client.idle
        await exchange(talk, CASES["chunked"], [CASES["chunked"].raw])
        talk.client.close()
        await turns()

    run([talk_of_it()])
